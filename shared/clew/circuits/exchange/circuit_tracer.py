"""Graphs of circuit-tracer's `Graph.to_pt`: a pickled dict with a dense matrix, rows targets, columns sources.

Its nodes are the selected features, errors by layer and position, tokens, logits. What a row lacks stays lacking: it
has no biases, and the columns of features that were not selected were dropped, so these are nodes without edges and
scores are those of a graph that looks better explained than it is.
"""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clew.circuits.exchange.assembly import Found, assemble, first_wrong
from clew.circuits.graph import Graph, NodeKind, Nodes
from clew_spec.errors import DataError
from clew_spec.graph import LogitTarget

MAX_NODES = 40_000
"""Of the matrix: 6.4 GB in float32."""
_TENSORS = {
    "input_tokens": 1,
    "active_features": 2,
    "selected_features": 1,
    "activation_values": 1,
    "logit_probabilities": 1,
    "adjacency_matrix": 2,
}
_OTHERS = {"input_string", "cfg", "logit_targets", "vocab_size", "scan", "scan_name"}


class _Config:
    """Holds what the file's `cfg` held; it has no code to run."""


class _Target(NamedTuple):
    token_str: str
    vocab_idx: int


_ALLOWED: list[tuple[type, str]] = [
    (_Config, "circuit_tracer.utils.tl_nnsight_mapping.UnifiedConfig"),
    (_Config, "transformer_lens.HookedTransformerConfig.HookedTransformerConfig"),
    (_Config, "transformer_lens.config.HookedTransformerConfig.HookedTransformerConfig"),
    (_Target, "circuit_tracer.attribution.targets.LogitTarget"),
]
"""The only classes besides torch's own that such a pickle may name. It is given these instead."""


def read_circuit_tracer(
    path: Path, text_of: Callable[[int], str], *, bos: str = "none", n_layers: int | None = None
) -> Graph:
    """The graph of a file, in its dtype, edges of weight 0 left out. `text_of`: a token's text by its id.

    `n_layers`: the model's, to be checked against. A logit's value is the sum of the edges into it; of tokens and
    errors it is 0. Raises `DataError`: a pickle that asks for more than tensors and what describes them, entries that
    are missing, unknown or contradict each other, numbers that are not finite.
    """
    content = _load(path)
    tensors = _tensors(content, path)
    sizes = _Sizes(tensors, content, path, n_layers)
    found = _found(content, tensors, sizes, text_of, bos, path)
    if (edge := first_wrong(found)) is not None:
        raise DataError(
            f"no forward pass leads from node {int(found.sources[edge])} to node {int(found.targets[edge])}",
            where="adjacency_matrix",
            expected="edges upwards, not back in time, into features and logits",
        )
    return assemble(found)


def _load(path: Path) -> Mapping[str, Any]:
    expected = "a dict of tensors and what describes them, as written by torch.save"
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path.name} is not a file of torch.save", expected=expected)
    try:
        with torch.serialization.safe_globals(list(_ALLOWED)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        lines = [line for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line]
        reason = (lines or str(error).splitlines() or [type(error).__name__])[0].strip()
        raise DataError(f"{path.name} is refused: {reason}", expected=expected) from error
    if not isinstance(content, dict):
        raise DataError(f"{path.name} holds a {type(content).__name__}", expected=expected)
    return content


def _tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    known = {*_TENSORS, *_OTHERS}
    if unknown := sorted(str(key) for key in content if key not in known):
        raise DataError(f"{path.name} also holds {', '.join(unknown)}", expected=", ".join(sorted(known)))
    for name, dim in _TENSORS.items():
        tensor = content.get(name)
        if not isinstance(tensor, Tensor) or tensor.dim() != dim or tensor.layout != torch.strided:
            raise DataError(f"{path.name} has no tensor of {dim} dimensions there", where=name)
        if tensor.numel() * tensor.element_size() > path.stat().st_size:
            raise DataError(f"{path.name} has a tensor that is larger than the file", where=name)
        floats = name in ("activation_values", "logit_probabilities", "adjacency_matrix")
        if tensor.is_floating_point() != floats or tensor.is_complex() or tensor.dtype == torch.bool:
            raise DataError(f"{path.name} has a tensor of {tensor.dtype}", where=name)
    return {name: content[name] for name in _TENSORS}


class _Sizes:
    """How many there are of each kind of node. The matrix decides how many layers there are."""

    def __init__(self, tensors: Mapping[str, Tensor], content: Mapping[str, Any], path: Path, n_layers: int | None):
        rows, columns = tensors["adjacency_matrix"].shape
        self.n_nodes = rows
        self.positions, self.selected = len(tensors["input_tokens"]), len(tensors["selected_features"])
        self.logits, self.active = len(tensors["logit_probabilities"]), len(tensors["active_features"])
        errors = rows - self.selected - self.positions - self.logits
        if rows != columns or not self.positions or errors <= 0 or errors % self.positions:
            raise DataError(
                f"{path.name} has a matrix of {rows} x {columns} nodes for {self.selected} features, "
                f"{self.positions} tokens and {self.logits} logits",
                where="adjacency_matrix",
                expected="a square one, with an error for each layer and token besides",
            )
        if rows > MAX_NODES:
            raise DataError(f"{path.name} has {rows} nodes", where="adjacency_matrix", expected=f"at most {MAX_NODES}")
        self.layers = errors // self.positions
        if n_layers not in (None, self.layers):
            raise DataError(
                f"{path.name} has {self.layers} layers",
                where="adjacency_matrix",
                expected=f"{n_layers}, as the model has",
            )
        if tensors["active_features"].shape[1] != 3:
            raise DataError(f"{path.name} does not give three numbers a feature", where="active_features")
        targets = content.get("logit_targets")
        if not isinstance(targets, list | Tensor) or len(targets) != self.logits:
            raise DataError(f"{path.name} does not have one target for each probability", where="logit_targets")


def _found(
    content: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    sizes: _Sizes,
    text_of: Callable[[int], str],
    bos: str,
    path: Path,
) -> Found:
    active, chosen = tensors["active_features"].long(), tensors["selected_features"].long()
    limits = torch.tensor([sizes.layers, sizes.positions, 2**31])
    if not ((active >= 0) & (active < limits)).all():
        raise DataError(
            f"{path.name} has a feature out of range", where="active_features", expected="layer, position, index"
        )
    if not ((chosen >= 0) & (chosen < sizes.active)).all() or len(set(chosen.tolist())) != len(chosen):
        raise DataError(f"{path.name} selects features that are not there, or twice", where="selected_features")
    token_ids = _ids(tensors["input_tokens"], "input_tokens", path)
    matrix, probabilities = tensors["adjacency_matrix"], tensors["logit_probabilities"].double()
    sources, ends, weights = _edges(matrix, path)
    sums = torch.zeros(sizes.n_nodes, dtype=torch.float64).index_add_(0, ends, weights.double())
    logits = sums[sizes.n_nodes - sizes.logits :]
    unselected = torch.ones(sizes.active, dtype=torch.bool)
    unselected[chosen] = False
    features = torch.cat([active[chosen], active[unselected]])
    values = _values(tensors["activation_values"], chosen, unselected, path)

    n_own = sizes.selected
    every = torch.arange(sizes.positions)
    errors = torch.cartesian_prod(torch.arange(sizes.layers), every).reshape(-1, 2)
    last = torch.full((sizes.logits,), sizes.positions - 1)
    # Nodes in the matrix's order, then the features that it has no place for.
    parts = [
        _part(NodeKind.FEATURE, features[:n_own, 0], features[:n_own, 1], values[:n_own], feature=features[:n_own, 2]),
        _part(NodeKind.ERROR, errors[:, 0], errors[:, 1]),
        _part(NodeKind.TOKEN, torch.full_like(every, -1), every, token=torch.tensor(token_ids)),
        _part(
            NodeKind.LOGIT,
            torch.full_like(last, sizes.layers),
            last,
            logits,
            token=torch.tensor(_target_ids(content, path)),
        ),
        _part(NodeKind.FEATURE, features[n_own:, 0], features[n_own:, 1], values[n_own:], feature=features[n_own:, 2]),
    ]
    nodes = Nodes(*(torch.cat(column) for column in zip(*parts, strict=True)))
    selected = torch.zeros(len(nodes), dtype=torch.bool)
    selected[:n_own] = True
    return Found(
        nodes=nodes,
        sources=sources,
        targets=ends,
        weights=weights,
        selected=selected,
        prompt=_prompt(content, path),
        tokens=[text_of(token) for token in token_ids],
        token_ids=token_ids,
        bos=bos,
        n_layers=sizes.layers,
        targets_of=[
            LogitTarget(token=text or text_of(id), token_id=id, probability=probability, logit=logit)
            for (text, id), probability, logit in zip(
                _targets(content, path), probabilities.tolist(), logits.tolist(), strict=True
            )
        ],
    )


def _part(
    kind: NodeKind,
    layer: Tensor,
    position: Tensor,
    value: Tensor | None = None,
    feature: Tensor | None = None,
    token: Tensor | None = None,
) -> tuple[Tensor, ...]:
    none = torch.full((len(layer),), -1, dtype=torch.int32)
    return (
        torch.full((len(layer),), int(kind), dtype=torch.uint8),
        layer.int(),
        position.int(),
        none if feature is None else feature.int(),
        none if token is None else token.int(),
        torch.zeros(len(layer), dtype=torch.float64) if value is None else value.double(),
    )


def _edges(matrix: Tensor, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Sources, targets and weights of what is not 0, read a block of rows at a time."""
    sources, targets, weights = [], [], []
    for first in range(0, len(matrix), 1024):
        block = matrix[first : first + 1024]
        if not block.isfinite().all():
            raise DataError(f"{path.name} has weights that are not finite", where="adjacency_matrix")
        row, column = block.nonzero(as_tuple=True)
        targets.append(row + first)
        sources.append(column)
        weights.append(block[row, column].to(torch.promote_types(block.dtype, torch.float32)))
    return torch.cat(sources), torch.cat(targets), torch.cat(weights)


def _values(values: Tensor, chosen: Tensor, unselected: Tensor, path: Path) -> Tensor:
    """Of the selected features, then the others. The file has one for each active one, or for each selected one."""
    if len(values) == len(unselected):
        return torch.cat([values[chosen], values[unselected]])
    if len(values) == len(chosen):
        return torch.cat([values, values.new_zeros(int(unselected.sum()))])
    raise DataError(
        f"{path.name} has {len(values)} values for {len(unselected)} active features", where="activation_values"
    )


def _targets(content: Mapping[str, Any], path: Path) -> list[tuple[str, int]]:
    """Text, empty where the file has none, and id of each target."""
    given = content["logit_targets"]
    pairs = [("", id) for id in given.tolist()] if isinstance(given, Tensor) else given
    for pair in pairs:
        good = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int)
        if not good or not 0 <= pair[1] < 2**31:
            raise DataError(f"{path.name} has a target that is no text and id", where="logit_targets")
    return [(str(text), int(id)) for text, id in pairs]


def _target_ids(content: Mapping[str, Any], path: Path) -> list[int]:
    return [id for _, id in _targets(content, path)]


def _ids(ids: Tensor, name: str, path: Path) -> list[int]:
    if not ((ids >= 0) & (ids < 2**31)).all():
        raise DataError(f"{path.name} has an id out of range", where=name)
    return [int(id) for id in ids.tolist()]


def _prompt(content: Mapping[str, Any], path: Path) -> str:
    prompt = content.get("input_string")
    if not isinstance(prompt, str):
        raise DataError(f"{path.name} has no text there", where="input_string")
    return prompt
