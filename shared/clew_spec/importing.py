"""Bring coders from another project's files into the catalogue."""

from typing import Literal

from pydantic import Field

from clew_spec.base import Name, Ref, Spec
from clew_spec.coders import Hook

ReadHook = Literal["mlp.in", "mlp.out", "resid", "mlp.normed"]


class ImportCodersSpec(Spec):
    kind: Literal["import-coders"] = "import-coders"
    name: Name
    """Name of the set of coders, at most one for each layer."""
    path: str = Field(min_length=1, max_length=4096)
    """A folder or file on the worker's disk, under one of `CLEW_IMPORT_ROOTS`; or `upload:NAME`."""
    format: Literal["auto", "clew", "saelens", "sparsify", "circuit-tracer", "gemma-scope", "paper"] = "auto"
    """`auto`: what the files look like. `paper`: a checkpoint of the code of arXiv 2406.11944."""
    model: Ref
    """Whose activations they read and write."""
    bos: str = Field(min_length=1, max_length=64)
    """What stood first in every row that they learned from: `none`, `bos` (the tokenizer's own), or a token's text."""
    dataset: Ref | None = None
    """What they learned from, if the catalogue has it."""
    layer: int | None = Field(default=None, ge=0)
    """Of a single coder whose files do not say; overrides what they say."""
    hook_in: ReadHook | None = None
    """What they read, if their files do not say it or say it wrongly. `mlp.normed`: what the MLP's norm makes before
    its gain and bias, which are folded into the coder."""
    hook_out: Hook | None = None
    """What they write, likewise."""
