"""Bring an attribution graph from another project's file into the catalogue."""

from typing import Literal

from pydantic import Field

from clew_spec.base import Name, Ref, Spec

GRAPH_ENDINGS = (".json", ".pt")


class ImportGraphSpec(Spec):
    kind: Literal["import-graph"] = "import-graph"
    name: Name
    path: str = Field(min_length=1, max_length=4096)
    """A file on the worker's disk, under one of `CLEW_IMPORT_ROOTS`; or `upload:NAME`, with the file's name behind it
    where it has several: `upload:NAME/a.json`."""
    format: Literal["auto", "neuronpedia", "circuit-tracer"] = "auto"
    """`auto`: Neuronpedia's and Anthropic's JSON if the file ends in `.json`, circuit-tracer's if in `.pt`."""
    model: Ref
    """Whose graph it is."""
    bos: str = Field(min_length=1, max_length=64)
    """What was put before the prompt: `none`, `bos` (the tokenizer's own), or a token's text."""
    view_nodes: int = Field(default=300, ge=1, le=5000)
    """Nodes in the picture of the graph, chosen by influence."""
