"""Coders in other projects' formats: what each of them can say."""

from collections.abc import Callable, Sequence
from typing import Literal

from clew_spec.base import Spec
from clew_spec.coders import CoderConfig, TopK
from clew_spec.errors import InvalidSpec

ImportFormat = Literal["clew", "saelens", "sparsify", "circuit-tracer", "gemma-scope", "paper"]
ExportFormat = Literal["clew", "saelens", "sparsify", "circuit-tracer"]


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


def require_set_sayable(
    format: ExportFormat, configs: Sequence[CoderConfig], *, where: str = "/spec/coders", post_norm: bool = False
) -> None:
    """`require_sayable` for each of a set, by layer; and InvalidSpec where they are no set for `format`."""
    for config in configs:
        require_sayable(format, config, post_norm=post_norm)
    alike = {(config.kind, config.hook_in, config.n_features, config.activation.kind) for config in configs}
    layers = [config.layer for config in configs]
    if format == "circuit-tracer" and (len(alike) != 1 or layers != list(range(len(layers)))):
        raise InvalidSpec(
            f"circuit-tracer cannot hold a set for the layers {layers}",
            where=where,
            expected="coders of the same kind, width and activation for each layer of the model from 0",
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
