"""What makes a graph valid: shapes, dtypes, the order of nodes and rows, causality."""

import math

import torch

from clew.circuits.graph import Graph, NodeKind
from clew_spec.errors import DataError

_INT32_MAX = 2**31 - 1


def validate(graph: Graph) -> None:
    """Raise `DataError` naming the first thing that is wrong with `graph`."""
    _validate_arrays(graph)
    _validate_numbers(graph)
    _validate_nodes(graph)
    _validate_rows(graph)
    _validate_causality(graph)


def _require(condition: object, detail: str, where: str) -> None:
    if not condition:
        raise DataError(f"the graph is not valid: {detail}", where=where)


def _validate_arrays(graph: Graph) -> None:
    nodes, edges = graph.nodes, graph.edges
    wanted = [
        ("nodes.kind", nodes.kind, torch.uint8),
        ("nodes.layer", nodes.layer, torch.int32),
        ("nodes.position", nodes.position, torch.int32),
        ("nodes.feature", nodes.feature, torch.int32),
        ("nodes.token_id", nodes.token_id, torch.int32),
        ("nodes.value", nodes.value, None),
        ("edges.targets", edges.targets, torch.int64),
        ("edges.offsets", edges.offsets, torch.int64),
        ("edges.sources", edges.sources, torch.int32),
        ("edges.weights", edges.weights, None),
    ]
    for name, array, dtype in wanted:
        _require(array.dim() == 1, "expected one dimension", name)
        _require(array.device.type == "cpu", "the array is not on the CPU", name)
        if dtype is None:
            _require(array.is_floating_point() and array.isfinite().all(), "expected finite floats", name)
        else:
            _require(array.dtype == dtype, f"expected {dtype}", name)
        if name.startswith("nodes."):
            _require(len(array) == len(nodes), f"expected {len(nodes)} entries, got {len(array)}", name)
    _require(len(edges.weights) == len(edges), "expected as many as sources", "edges.weights")
    _require(len(edges.offsets) == len(edges.targets) + 1, "expected one more than targets", "edges.offsets")


def _validate_numbers(graph: Graph) -> None:
    _require(graph.n_layers >= 1, "expected at least one layer", "n_layers")
    layers = graph.coder_layers
    _require(layers == sorted(set(layers)), "not strictly ascending", "coder_layers")
    _require(all(0 <= layer < graph.n_layers for layer in layers), "a layer is out of range", "coder_layers")
    _require(len(graph.token_ids) == len(graph.tokens), "expected one for each token", "token_ids")
    _require(all(0 <= token <= _INT32_MAX for token in graph.token_ids), "an id is out of range", "token_ids")
    _require(graph.targets, "there are none", "targets")
    for target in graph.targets:
        _require(0 < target.probability <= 1, "a probability is not in (0, 1]", "targets")
        _require(math.isfinite(target.logit), "a logit is not finite", "targets")
    if graph.directions is not None:
        vectors = graph.directions
        _require(vectors.dim() == 2 and vectors.is_floating_point(), "expected floats of two dimensions", "directions")
        n = sum(target.token_id < 0 for target in graph.targets)
        _require(len(vectors) == n and vectors.isfinite().all(), f"expected {n} finite vectors", "directions")
    residual = graph.conservation
    finite = math.isfinite(residual.max_relative_to_edges) and math.isfinite(residual.p99_relative_to_value)
    _require(finite, "a residual is not finite", "conservation")
    _require(-1e-9 <= graph.explained_share <= 1 + 1e-9, "not in [0, 1]", "explained_share")


def _validate_nodes(graph: Graph) -> None:
    nodes, n_layers = graph.nodes, graph.n_layers
    _require((nodes.kind <= max(NodeKind)).all(), "unknown kind", "nodes.kind")
    tokens, positions, features, _errors, biases, logits = (nodes.where(kind) for kind in NodeKind)

    lowest = torch.where(tokens | positions | biases, -1, torch.where(logits, n_layers, 0))
    highest = torch.where(tokens | positions, -1, torch.where(biases | logits, n_layers, n_layers - 1))
    in_range = (nodes.layer >= lowest) & (nodes.layer <= highest)
    _require(in_range.all(), "a layer is out of range for its kind of node", "nodes.layer")
    in_range = (nodes.position >= torch.where(biases, -1, 0)) & (nodes.position < len(graph.tokens))
    _require(in_range.all(), "a position is out of range", "nodes.position")
    _require(((nodes.feature >= 0) == features).all(), "features, and only they, have an index", "nodes.feature")
    _require(
        torch.where(tokens, nodes.token_id >= 0, logits | (nodes.token_id < 0)).all(),
        "tokens have an id, and none but logits beside them",
        "nodes.token_id",
    )
    token_ids = torch.tensor(graph.token_ids, dtype=torch.int32)
    _require(
        (nodes.token_id[tokens] == token_ids[nodes.position[tokens].long()]).all(), "not the prompt's", "nodes.token_id"
    )
    target_ids = [target.token_id for target in graph.targets]
    _require(nodes.token_id[logits].tolist() == target_ids, "not those of the logit nodes", "targets")
    _require(graph.n_active == int(features.sum()), "not the number of feature nodes", "n_active")


def _validate_rows(graph: Graph) -> None:
    nodes, edges = graph.nodes, graph.edges
    _require((edges.targets.diff() > 0).all(), "not strictly ascending", "edges.targets")
    _require(((edges.targets >= 0) & (edges.targets < len(nodes))).all(), "no such node", "edges.targets")
    features, logits = nodes.where(NodeKind.FEATURE), nodes.where(NodeKind.LOGIT)
    _require((features | logits)[edges.targets].all(), "only features and logits have rows", "edges.targets")
    _require(not graph.leaves[logits].any(), "a logit has no row", "edges.targets")
    _require(graph.n_selected == int(features[edges.targets].sum()), "not the number of feature rows", "n_selected")

    spans = int(edges.offsets[0]) == 0 and int(edges.offsets[-1]) == len(edges) and bool((edges.lengths >= 0).all())
    _require(spans, "not ascending from 0 to the number of edges", "edges.offsets")
    _require((edges.sources >= 0).all(), "no such node", "edges.sources")
    _require((edges.sources < edges.target_of).all(), "a source does not come before its target", "edges.sources")
    same_row = edges.row_of.diff() == 0
    _require((edges.sources.diff()[same_row] > 0).all(), "not strictly ascending within a row", "edges.sources")


def _validate_causality(graph: Graph) -> None:
    nodes, edges = graph.nodes, graph.edges
    features = nodes.where(NodeKind.FEATURE)
    source, target = edges.sources.long(), edges.target_of
    _require(not nodes.where(NodeKind.LOGIT)[source].any(), "a logit is a source", "edges.sources")
    later = nodes.position[source] > nodes.position[target]
    _require(not later.any(), "a later position feeds an earlier one", "edges.sources")
    upward = nodes.layer[source] < nodes.layer[target]
    _require(upward[features[source]].all(), "a feature feeds one that is not above its layer", "edges.sources")
