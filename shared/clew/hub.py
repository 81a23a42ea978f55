"""The Hugging Face hub: what it refuses is told apart, and it leads nobody to an address inside.

Which hub it is, the environment says (`HF_ENDPOINT`), and the token too (`HF_TOKEN`); a job names only a repository.
"""

import fnmatch
import hashlib
import ipaddress
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, hf_hub_download, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import default_client_factory

from clew.reporting import Report, StopRequested
from clew_spec.errors import ClewError, ModelError, StorageFull
from clew_spec.hub import HubModel
from clew_spec.units import size

ANSWER_S = 30
MAX_SAID = 300
MODEL_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
)
"""Of a model's repository; nothing else is asked for, so neither pickles nor code."""
TOKEN_HINT = "a maintainer of the project stores a token that may read it: `clew secret set HF_TOKEN`"  # noqa: S105


def fetch_model(model: HubModel, folder: Path, report: Report) -> tuple[str, dict[str, str]]:
    """A model's files into `folder`, all of one commit; returns the commit, and the sha256 of each file by name.

    Raises ModelError for what the hub does not give or gives damaged, StorageFull, StopRequested.
    """
    with asked(model.repo, model.revision, kind="model", where=lambda _: "/spec/path", error=ModelError):
        info = HfApi().model_info(model.repo, revision=model.revision, files_metadata=True, timeout=ANSWER_S)
        commit = str(info.sha)
        wanted = [file for file in info.siblings or [] if any(fnmatch.fnmatch(file.rfilename, p) for p in MODEL_FILES)]
        total = sum(file.size or 0 for file in wanted)
        if (free := shutil.disk_usage(folder).free) < total:
            raise StorageFull(
                f"{model.repo} has {size(total)}, and the worker's disk has room for {size(free)}",
                hint="make room on the worker's disk",
            )
        done, sums = 0, {}
        for file in wanted:
            if report.stop_requested():
                raise StopRequested
            report.progress("fetch", done, max(total, 1), "bytes")
            path = Path(hf_hub_download(model.repo, file.rfilename, revision=commit, local_dir=folder))
            with path.open("rb") as stream:
                sums[file.rfilename] = hashlib.file_digest(stream, "sha256").hexdigest()
            promised = file.lfs.sha256 if file.lfs else sums[file.rfilename]
            if path.stat().st_size != file.size or sums[file.rfilename] != promised:
                raise ModelError(f"{file.rfilename} of {model.repo} is not what the hub announced", where="/spec/path")
            done += file.size or 0
        shutil.rmtree(folder / ".cache", ignore_errors=True)
    return commit, sums


def keep_outside() -> None:
    """From here on this process follows the hub's answers to the hub itself and to public addresses alone.

    A link to this machine, or into its network, is refused before anybody is asked there.
    """

    def make() -> Any:
        client = default_client_factory()
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], _refuse_inside]}
        return client

    set_client_factory(make)


def _refuse_inside(request: Any) -> None:
    hub = urlsplit(constants.ENDPOINT)
    url = urlsplit(str(request.url))
    if (url.scheme, url.netloc) == (hub.scheme, hub.netloc):
        return
    if url.scheme != "https" or not url.hostname:
        raise Inside(f"the hub leads to {url.scheme}://{url.hostname}, which is no public address by https")
    for *_, address in socket.getaddrinfo(url.hostname, url.port or 443, type=socket.SOCK_STREAM):
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
            raise Inside(f"the hub leads to {url.hostname}, which is no public address")


class Inside(Exception):
    """The hub's answer leads to where only this machine's network reaches."""


@contextmanager
def asked(
    repo: str, revision: str | None, *, kind: str, where: Callable[[str], str], error: type[ClewError]
) -> Iterator[None]:
    """Whatever the library raises, as an `error` that says whose fault it is.

    where: the pointer to the part of the spec that says `kind`, `repo` or `revision`; empty for the whole.
    """
    keep_outside()
    try:
        yield
    except (ClewError, StopRequested, GeneratorExit):
        raise
    except Exception as raised:
        raise _problem(repo, revision, kind, where, error, raised) from raised


def _problem(
    repo: str,
    revision: str | None,
    kind: str,
    where: Callable[[str], str],
    error: type[ClewError],
    raised: BaseException,
) -> ClewError:
    causes: list[BaseException] = []
    cause: BaseException | None = raised
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__

    def any_is(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    def any_named(name: str) -> bool:
        """By the names of their bases, where the library is one of several or may not be installed."""
        return any(kind.__name__ == name for cause in causes for kind in type(cause).__mro__)

    said = str(raised).splitlines()[0][:MAX_SAID] if str(raised) else type(raised).__name__

    for cause in causes:
        if isinstance(cause, Inside):
            return error(str(cause), where=where("repo"), hint="nothing was asked there")
    if any_is(OfflineModeIsEnabled):
        return error(
            "this worker asks no hub: HF_HUB_OFFLINE is set",
            where=where("kind"),
            hint="set CLEW_HF_OFFLINE=false for the worker, or copy the files and name them by `path`",
        )
    if any_is(GatedRepoError) or (any_named("DatasetNotFoundError") and "gated" in said):
        return error(
            f"{repo} is gated: the hub gives it only to accounts that its owners let in",
            where=where("repo"),
            hint=f"ask for access; {TOKEN_HINT}",
        )
    if any_is(RevisionNotFoundError):
        return error(f"{repo} has no revision {revision}", where=where("revision"))
    if any_is(RepositoryNotFoundError) or any_named("DatasetNotFoundError"):
        return error(
            f"the hub shows this worker no {kind} {repo}: there is none, or it is private",
            where=where("repo"),
            hint=f"check the name; if it is private, {TOKEN_HINT}",
        )
    statuses = [cause.response.status_code for cause in causes if isinstance(cause, HfHubHTTPError)]
    if statuses and (statuses[0] >= 500 or statuses[0] in (408, 429)):
        return error(f"the hub answers {statuses[0]} for {repo}", where=where(""), hint="try again later")
    if any_named("TransportError") or any_is(ConnectionError, TimeoutError, socket.gaierror):
        return error(
            f"the hub did not answer when {repo} was read: {said}",
            where=where(""),
            hint="check the worker's network; or copy the files and name them by `path`",
        )
    return error(f"{repo} cannot be read: {said}", where=where(""))
