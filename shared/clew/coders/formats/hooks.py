"""Names of places in a model, as other projects write them."""

import re

from clew.coders.formats.parts import NOWHERE, Place
from clew_spec.coders import CoderConfig
from clew_spec.errors import DataError, InvalidSpec

TRANSFORMER_LENS = {
    "mlp.hook_in": "mlp.in",
    "ln2.hook_normalized": "mlp.normed",
    "hook_mlp_out": "mlp.out",
    "hook_resid_post": "resid",
}
"""Below `blocks.{layer}`; circuit-tracer writes them without that."""

_LENS = re.compile(r"^blocks\.(\d+)\.(.+)$")
_MODULE = re.compile(r"^(?:[a-z_]+\.)*(?:layers|h)\.(\d+)(\.mlp)?$")
"""`layers.3.mlp`, `model.layers.3.mlp`, `transformer.h.3`."""


def read_hook(name: str) -> tuple[int, str]:
    """Layer and hook of a TransformerLens or Hugging Face name; of a module, what it returns. Raises DataError."""
    if match := _LENS.match(name):
        layer = int(match[1])
        if match[2] == "hook_resid_pre" and layer > 0:
            return layer - 1, "resid"
        if match[2] in TRANSFORMER_LENS:
            return layer, TRANSFORMER_LENS[match[2]]
    if match := _MODULE.match(name):
        return int(match[1]), "mlp.returned" if match[2] else "resid"
    raise DataError(
        f"there is no coder for what {name!r} holds",
        expected=", ".join([*(f"blocks.3.{tail}" for tail in TRANSFORMER_LENS), "layers.3.mlp", "layers.3"]),
    )


def read_hooks(reads: str | None, writes: str | None) -> Place:
    """The place of a coder that names both; SAEs name what they read alone. Raises DataError where layers differ."""
    if reads is None:
        return NOWHERE
    layer, hook_in = read_hook(reads)
    if writes is None:
        return Place(layer, hook_in, None)
    of_writing, hook_out = read_hook(writes)
    if of_writing != layer:
        raise DataError(f"a coder reads {reads!r} and writes {writes!r}", expected="places of one layer")
    return Place(layer, hook_in, hook_out)


def lens_hook(hook: str) -> str:
    """The inverse of `TRANSFORMER_LENS`. Raises InvalidSpec where it has none."""
    for name, ours in TRANSFORMER_LENS.items():
        if ours == hook:
            return name
    raise InvalidSpec(f"TransformerLens has no name for {hook}", expected=", ".join(TRANSFORMER_LENS.values()))


def lens_hooks(config: CoderConfig) -> tuple[str, str]:
    """What a coder reads and writes, by TransformerLens' names."""
    reads, writes = lens_hook(config.hook_in), lens_hook(config.hook_out)
    return f"blocks.{config.layer}.{reads}", f"blocks.{config.layer}.{writes}"
