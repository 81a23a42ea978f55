"""`clew submit`: a file, or a kind of job and its flags."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from clew_client.batches import Batch
from clew_client.commands.options import AsJson
from clew_client.display import note, print_json, say
from clew_client.estimate_display import (
    estimate_line,
    show_estimate,
    show_pipeline_estimate,
    show_sweep_estimate,
)
from clew_client.flags import flags_of, nested, parameters
from clew_client.lab import Lab
from clew_client.requests import Request, job_request, read_request
from clew_client.watching import watch, watch_batch
from clew_spec.base import Spec
from clew_spec.batches import PipelineRequest, SweepRequest
from clew_spec.jobs import JobRequest, JobSpec

SPECS: dict[str, type[Spec]] = {spec.model_fields["kind"].default: spec for spec in get_args(get_args(JobSpec)[0])}
"""Every spec by its kind."""

REQUEST_FLAGS = [flag for flag in flags_of(JobRequest) if flag.path[0] != "spec"]

Watch = Annotated[bool, typer.Option("--watch", help="Follow the job until it ends; exit code 1 unless it succeeds.")]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what the job would take, and do not submit it; exit code 2 if too large.")
]

FILE = "FILE"
ABOUT_FILE = (
    "A YAML or JSON file: a spec with its `kind`; a request with a `spec`; a sweep, which has a `grid` or `points` "
    "beside it; or a pipeline of `jobs`."
)


class _FileOrKind(TyperGroup):
    """A group whose first word may be a file: whatever is not a kind of job."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in SPECS and args[0] not in ctx.help_option_names:
            args = [FILE, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The kinds: names of files the shell knows itself."""
        return [found for found in super().shell_complete(ctx, incomplete) if found.value != FILE]


def register(app: typer.Typer) -> None:
    group = typer.Typer(cls=_FileOrKind, no_args_is_help=True, subcommand_metavar="FILE | KIND [FLAGS]...")
    _add(group, FILE, _file_command, ABOUT_FILE, _FILE)
    for kind, spec in SPECS.items():
        about = (sys.modules[spec.__module__].__doc__ or kind).splitlines()[0]
        _add(group, kind, _kind_command(kind, spec), about, parameters(flags_of(spec)))
    app.add_typer(group, name="submit", help="Ask for a job: FILE, or a kind and its flags.")


_FILE = [
    inspect.Parameter(
        "file",
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        annotation=Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON; `-` is stdin.")],
    )
]

_COMMON = [
    inspect.Parameter("dry_run", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DryRun),
    inspect.Parameter("watch", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Watch),
    inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson),
]


def _add(group: typer.Typer, name: str, command: Callable[..., None], about: str, own: list[inspect.Parameter]) -> None:
    signature = inspect.Signature([*own, *parameters(REQUEST_FLAGS), *_COMMON])
    vars(command)["__signature__"] = signature  # typer reads it as if it had been written out
    group.command(name, help=about)(command)


def _file_command(**values: Any) -> None:
    _submit(read_request(values["file"], **nested(REQUEST_FLAGS, values)), values)


def _kind_command(kind: str, spec: type[Spec]) -> Callable[..., None]:
    flags = flags_of(spec)

    def command(**values: Any) -> None:
        fields = {"kind": kind, **nested(flags, values)}
        _submit(job_request({"spec": fields}, **nested(REQUEST_FLAGS, values)), values)

    return command


def _submit(request: Request, values: dict[str, Any]) -> None:
    as_json = values["as_json"]
    with Lab() as lab:
        if not isinstance(request, JobRequest) or isinstance(request, SweepRequest):
            _submit_batch(lab, request, values)
            return
        if values["dry_run"]:
            raise typer.Exit(show_estimate(lab.estimate(request), as_json=as_json))
        if not as_json:
            note(estimate_line(lab.estimate(request).estimate))
        job = lab.submit(request)
        if not as_json:
            say(f"{job.view.kind} {job.view.name} is {job.state}: {job.id}")
        elif not values["watch"]:
            print_json(job.view)
        if values["watch"]:
            raise typer.Exit(watch(lab, job.view, as_json=as_json))


def _submit_batch(lab: Lab, request: SweepRequest | PipelineRequest, values: dict[str, Any]) -> None:
    as_json, batches = values["as_json"], lab.batches
    if values["dry_run"]:
        if isinstance(request, SweepRequest):
            raise typer.Exit(show_sweep_estimate(batches.estimate_sweep(request), as_json=as_json))
        raise typer.Exit(show_pipeline_estimate(batches.estimate_pipeline(request), as_json=as_json))
    batch = Batch(lab, batches.submit(request))
    if as_json and not values["watch"]:
        print_json(batch.view)
    elif not as_json:
        say(f"{batch.view.kind} {batch.view.name} of {batch.view.size:,} jobs: {batch.id}")
        note(f"Its jobs: clew jobs --{batch.view.kind} {batch.id}")
    if values["watch"]:
        raise typer.Exit(watch_batch(batch, as_json=as_json))
