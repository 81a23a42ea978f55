"""Coders in other projects' formats: what each can say, and the jobs that bring them in and out."""

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from clew_spec.base import Name, Ref, Spec
from clew_spec.coders import CoderConfig, Hook, TopK
from clew_spec.errors import InvalidSpec

ImportFormat = Literal["clew", "saelens", "sparsify", "circuit-tracer", "gemma-scope", "paper"]
ExportFormat = Literal["clew", "saelens", "sparsify", "circuit-tracer"]


class ImportCodersSpec(Spec):
    kind: Literal["import-coders"] = "import-coders"
    name: Name
    """Name of the set of coders, at most one for each layer."""
    path: str = Field(min_length=1, max_length=4096)
    """A folder or file on the worker's disk, under one of `CLEW_IMPORT_ROOTS`."""
    format: Literal["auto"] | ImportFormat = "auto"
    """`auto`: what the files look like. `paper`: a checkpoint of the code of arXiv 2406.11944."""
    model: Ref
    """Whose activations they read and write."""
    bos: str = Field(min_length=1, max_length=64)
    """What stood first in every row that they learned from: `none`, `bos` (the tokenizer's own), or a token's text."""
    dataset: Ref | None = None
    """What they learned from, if the catalogue has it."""
    layer: int | None = Field(default=None, ge=0)
    """Of a single coder whose files do not say; overrides what they say."""
    hook_in: Hook | Literal["mlp.normed"] | None = None
    """What they read, if their files do not say it or say it wrongly. `mlp.normed`: what the MLP's norm makes before
    its gain and bias, which are folded into the coder."""
    hook_out: Hook | None = None
    """What they write, likewise."""


class ExportCodersSpec(Spec):
    kind: Literal["export-coders"] = "export-coders"
    coders: Ref
    """A set of coders by name or by the UUID of its job, or one coder by UUID."""
    format: ExportFormat
    dataset: Ref | None = None
    """Whose training split thresholds are calibrated on, if the format needs them; the coders' own if not given."""
    tokens: int = Field(default=8192, ge=256)
    """To calibrate on, and as many held-out ones to report on; rounded up to whole rows."""


class Calibration(Spec):
    """What it cost a coder to have a threshold for each feature in place of TopK, on held-out tokens."""

    layer: int
    tokens: int
    """That thresholds were found on."""
    tokens_measured: int
    l0_before: float
    l0_after: float
    fvu_before: float
    fvu_after: float


def needs_threshold(format: ExportFormat, config: CoderConfig) -> bool:
    """Whether TopK must become JumpReLU: circuit-tracer knows no other, and SAELens has TopK for SAEs alone."""
    if not isinstance(config.activation, TopK):
        return False
    return format == "circuit-tracer" or (format == "saelens" and config.kind != "sae")


def require_sayable(format: ExportFormat, config: CoderConfig, *, post_norm: bool = False) -> None:
    """Raises InvalidSpec where `format` has no words for a coder, thresholds in place of TopK aside.

    post_norm: whether the model has a norm between its MLPs and the residual stream.
    """
    reason = REASONS[format](config, post_norm)
    if reason:
        raise InvalidSpec(
            f"{format} cannot hold the coder of layer {config.layer}: {reason}",
            where="/spec/format",
            hint="choose another format",
        )


def _no_reason(_config: CoderConfig, _post_norm: bool) -> str | None:
    return None


def _saelens(config: CoderConfig, _post_norm: bool) -> str | None:
    if config.kind == "cross-layer-transcoder":
        return "it has no cross-layer transcoders"
    return "its hook has no name there" if config.hook_out == "mlp.returned" else None


def _sparsify(config: CoderConfig, post_norm: bool) -> str | None:
    if config.kind == "cross-layer-transcoder":
        return "it has no cross-layer transcoders"
    reads = ("mlp.out", "mlp.returned", "resid") if config.kind == "sae" else ("mlp.in",)
    writes = (config.hook_in,) if config.kind == "sae" else ("mlp.out", "mlp.returned")
    if not isinstance(config.activation, TopK):
        return f"it has TopK alone, and this is {config.activation.kind}"
    if config.d_in != config.d_out:
        return f"its coders do not map {config.d_in} to {config.d_out} dimensions"
    if config.hook_in not in reads or config.hook_out not in writes:
        return f"its {config.kind} does not read {config.hook_in} and write {config.hook_out}"
    if post_norm and config.hook_out == "mlp.out":
        return "there an MLP's output is what the module returns, and this model has a norm after it"
    return None


def _circuit_tracer(config: CoderConfig, _post_norm: bool) -> str | None:
    if config.kind == "sae":
        return "it has no SAEs"
    if config.kind == "cross-layer-transcoder" and config.skip:
        return "its loader of cross-layer transcoders drops skip paths without a word"
    if config.d_in != config.d_out:
        return f"its coders do not map {config.d_in} to {config.d_out} dimensions"
    if config.hook_in not in ("mlp.in", "mlp.normed") or config.hook_out != "mlp.out":
        return f"it does not read {config.hook_in} and write {config.hook_out}"
    return None


REASONS: dict[ExportFormat, Callable[[CoderConfig, bool], str | None]] = {
    "clew": _no_reason,
    "saelens": _saelens,
    "sparsify": _sparsify,
    "circuit-tracer": _circuit_tracer,
}
