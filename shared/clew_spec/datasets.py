"""Turn text into packed token rows."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from clew_spec.base import Name, Ref, Seed, Spec

PackageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class PydocSource(Spec):
    """Docstrings of installed Python packages, read by `ast`: nothing is imported or run."""

    kind: Literal["pydoc"] = "pydoc"
    packages: list[PackageName] = Field(default=["torch", "transformers", "numpy", "sqlalchemy"], min_length=1)
    """Import names of packages installed beside the worker."""


Attention = Literal["document", "row"]


class BuildDatasetSpec(Spec):
    kind: Literal["build-dataset"] = "build-dataset"
    name: Name
    model: Ref
    """Whose tokenizer to use."""
    source: PydocSource = PydocSource()
    context: int = Field(default=256, ge=8, le=8192)
    """Tokens in a packed row."""
    bos: str = Field(default="none", min_length=1, max_length=64)
    """What stands first in every row: `none`, `bos` (the tokenizer's own), or a token's text."""
    attention: Attention = "document"
    """What a token attends to: its own `document`, or all of its `row` before it. The first token of each is an
    attention sink, never learnt from and never counted; `bos` stands first in each."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Stop after this many tokens, held-out ones included; all of the text if not given."""
    heldout_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share of the documents that training never sees."""
    seed: Seed = 0
