"""Graphs on disk: `graph.safetensors` holds all of a graph, `graph.json` its summary and picture.

The same graph always gives the same bytes. The arrays are stored by the names of their fields (`nodes.kind`,
`edges.weights`, ...), and the vectors of targets that are directions as `directions`; everything else is one JSON
string in the header, under `clew-graph`.
"""

import os
import tempfile
from dataclasses import fields
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from clew.circuits.graph import Edges, Graph, Nodes
from clew_spec.base import Spec
from clew_spec.errors import DataError
from clew_spec.graph import Conservation, GraphDocument, GraphFormat, LogitTarget, Position0, TargetRule

GRAPH_FILE = "graph.safetensors"
DOCUMENT_FILE = "graph.json"
_HEADER = "clew-graph"


class _Header(Spec):
    """The fields of a `Graph` that are not arrays."""

    format: GraphFormat = "clew-graph/3"
    prompt: str
    tokens: list[str]
    token_ids: list[int]
    bos: str
    n_layers: int
    coder_layers: list[int]
    targets: list[LogitTarget]
    conservation: Conservation
    n_active: int
    n_selected: int
    explained_share: float
    target_rule: TargetRule = "likeliest"
    position_0: Position0 = "error"


_DIRECTIONS = "directions"
_SCALARS = [name for name in _Header.model_fields if name != "format"]
_ARRAYS = [f"nodes.{field.name}" for field in fields(Nodes)] + [f"edges.{field.name}" for field in fields(Edges)]


def save_graph(folder: Path, graph: Graph, document: GraphDocument) -> None:
    """Write both files into `folder`, which is made if need be; each appears whole or not at all.

    Raises `DataError` for a graph that is not valid.
    """
    graph.validate()
    header = _Header(**{name: getattr(graph, name) for name in _SCALARS})
    arrays = {name: _array(graph, name) for name in _ARRAYS}
    if graph.directions is not None:
        arrays[_DIRECTIONS] = graph.directions.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / GRAPH_FILE, save(arrays, metadata={_HEADER: header.model_dump_json()}))
    _write(folder / DOCUMENT_FILE, document.model_dump_json().encode())


def load_graph(folder: Path) -> Graph:
    """The graph that `save_graph` wrote into `folder`. Raises `DataError` if there is none, or it is not valid."""
    path = folder / GRAPH_FILE
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            if names - {_DIRECTIONS} != set(_ARRAYS) or _HEADER not in metadata:
                raise DataError(
                    f"{GRAPH_FILE} is not a graph of Clew", expected="the arrays and header of clew-graph/1 to 3"
                )
            arrays = {name: file.get_tensor(name) for name in names}
        header = _Header.model_validate_json(metadata[_HEADER])
    except (OSError, SafetensorError) as error:
        raise DataError(f"{GRAPH_FILE} cannot be read: {error}") from error
    except ValidationError as error:
        raise DataError(f"the header of {GRAPH_FILE} is not valid: {_first(error)}") from error
    graph = Graph(
        nodes=Nodes(**{field.name: arrays[f"nodes.{field.name}"] for field in fields(Nodes)}),
        edges=Edges(**{field.name: arrays[f"edges.{field.name}"] for field in fields(Edges)}),
        **{name: getattr(header, name) for name in _SCALARS},
        directions=arrays.get(_DIRECTIONS),
    )
    graph.validate()
    return graph


def load_document(folder: Path) -> GraphDocument:
    """The document that `save_graph` wrote into `folder`. Raises `DataError` if there is none, or it is not valid."""
    try:
        return GraphDocument.model_validate_json((folder / DOCUMENT_FILE).read_bytes())
    except OSError as error:
        raise DataError(f"{DOCUMENT_FILE} cannot be read: {error}") from error
    except ValidationError as error:
        raise DataError(f"{DOCUMENT_FILE} is not valid: {_first(error)}") from error


def _array(graph: Graph, name: str) -> Tensor:
    part, field = name.split(".")
    array: Tensor = getattr(getattr(graph, part), field)
    return array.clone(memory_format=torch.contiguous_format)


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = "/".join(str(part) for part in problem["loc"])
    return f"{problem['msg']} at /{where}"


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
