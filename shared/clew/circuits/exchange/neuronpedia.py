"""Graphs in the JSON of circuit-tracer, Neuronpedia and Anthropic's viewer; `clew_spec.exchange.neuronpedia` has it.

What the JSON does not hold is lost: the first token's rule, the conservation residual, and the values of all nodes but
features and logits. Errors are read with their unique ids, in either form, and with circuit-tracer's older ones.
"""

import re
from collections import defaultdict
from pathlib import Path

import torch
from pydantic import ValidationError

from clew.circuits.document import edges_of, nodes_of, summarise
from clew.circuits.exchange.assembly import Found, assemble, first_wrong
from clew.circuits.graph import Graph, NodeKind, Nodes
from clew.circuits.influence import node_influence
from clew.circuits.pruning import prune
from clew_spec.errors import DataError
from clew_spec.exchange import neuronpedia as form
from clew_spec.exchange.neuronpedia import FileNode, GraphFile, Link
from clew_spec.graph import LogitTarget

MAX_BYTES = 100 << 20
"""Neuronpedia's own limit."""
_INT32_MAX = 2**31 - 1
_KINDS = {
    form.FEATURE: NodeKind.FEATURE,
    form.ERROR: NodeKind.ERROR,
    form.TOKEN: NodeKind.TOKEN,
    form.LOGIT: NodeKind.LOGIT,
    form.BIAS: NodeKind.BIAS,
}


def write_neuronpedia(
    graph: Graph, name: str, *, scan: str = "unknown", node_threshold: float = 0.8, edge_threshold: float = 0.98
) -> GraphFile:
    """The graph pruned as circuit-tracer does (`prune`), every node with its place in the unpruned ranking."""
    kept = prune(graph, node_threshold, edge_threshold)
    ranked = (node_influence(graph) - graph.start).tolist()
    return form.graph_file(
        summarise(graph),
        nodes_of(graph, kept.nodes.nonzero().squeeze(1).tolist()),
        edges_of(graph, kept.edges.nonzero().squeeze(1)),
        {
            node: share
            for node, share in form.cumulative(dict(enumerate(ranked))).items()
            if graph.nodes.kind[node] != NodeKind.LOGIT
        },
        name=name,
        scan=scan,
        pruning={"node_threshold": node_threshold, "edge_threshold": edge_threshold},
    )


def read_neuronpedia(path: Path, *, bos: str = "none", n_layers: int | None = None) -> Graph:
    """The graph of a file; weights in float64, as JSON gives them. `n_layers`: the model's, to be checked against.

    A logit's value is its `activation`, else the sum of the edges into it; of tokens, errors and biases it is 0.

    Raises `DataError` with the place in the file: too large, not JSON, a field or kind of node of which nothing is
    known, ids that are missing, doubled or contradict their node, links of nodes that are not there or that no forward
    pass has, numbers that are not finite.
    """
    file = _parse(path)
    nodes = [_node(file, index, node) for index, node in enumerate(file.nodes)]
    n_layers = _n_layers(nodes, n_layers)
    found = _found(file, nodes, n_layers, bos)
    if (link := first_wrong(found)) is not None:
        wrong = file.links[link]
        raise DataError(
            f"no forward pass leads from {wrong.source} to {wrong.target}",
            where=f"/links/{link}",
            expected="links upwards, not back in time, into features and logits",
        )
    return assemble(found)


def _parse(path: Path) -> GraphFile:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path.name} has {size} bytes", expected=f"at most {MAX_BYTES}")
        return GraphFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(
            f"{path.name} is no graph: {first['msg']}", where="/" + "/".join(str(part) for part in first["loc"])
        ) from error


class _Row:
    """A node of the file as a graph has it. A logit's layer is known once all have been seen."""

    def __init__(self, kind: NodeKind, layer: int, position: int, feature: int = -1, token: int = -1, value: float = 0):
        self.kind, self.layer, self.position = kind, layer, position
        self.feature, self.token, self.value = feature, token, value


def _node(file: GraphFile, index: int, node: FileNode) -> _Row:
    where = f"/nodes/{index}"
    if node.feature_type not in _KINDS:
        known = ", ".join(_KINDS)
        raise DataError(
            f"nothing is known of nodes of the type {node.feature_type!r}",
            where=f"{where}/feature_type",
            expected=known,
        )
    kind, id = _KINDS[node.feature_type], node.node_id
    if not 0 <= node.ctx_idx < len(file.metadata.prompt_tokens):
        raise DataError(f"{id} is at a position that the prompt does not have", where=f"{where}/ctx_idx")
    layer = _layer(node, kind, where)
    match kind:
        case NodeKind.FEATURE:
            (feature,) = _numbers(id, rf"{layer}_(\d+)_{node.ctx_idx}", where)
            if node.feature not in (form.cantor(layer, feature), feature):
                raise DataError(
                    f"{id} has the feature {node.feature}",
                    where=f"{where}/feature",
                    expected=f"{form.cantor(layer, feature)}, the pair of {layer} and {feature}",
                )
            return _Row(kind, layer, node.ctx_idx, feature=feature, value=node.activation or 0.0)
        case NodeKind.TOKEN:
            (token,) = _numbers(id, rf"E_(\d+)_{node.ctx_idx}", where)
            return _Row(kind, layer, node.ctx_idx, token=token)
        case NodeKind.LOGIT:
            (token,) = _numbers(id, rf"{layer}_(\d+)_{node.ctx_idx}", where)
            if not 0 < node.token_prob <= 1:
                raise DataError(
                    f"{id} has the probability {node.token_prob}",
                    where=f"{where}/token_prob",
                    expected="above 0, up to 1",
                )
            return _Row(kind, layer, node.ctx_idx, token=token)
        case NodeKind.BIAS:
            said = re.fullmatch(r"[^_]+_bias_(.+)_\d+", id)
            if said and said[1] == form.POSITION:
                kind = NodeKind.POSITION
            return _Row(kind, layer, -1 if said and said[1] == form.SHARED else node.ctx_idx)
        case _:
            return _Row(kind, layer, node.ctx_idx)


def _layer(node: FileNode, kind: NodeKind, where: str) -> int:
    text = str(node.layer)
    embedded = text == "E" and kind in (NodeKind.TOKEN, NodeKind.BIAS)
    if embedded or (kind is not NodeKind.TOKEN and re.fullmatch(r"\d{1,6}", text)):
        return -1 if embedded else int(text)
    raise DataError(
        f"{node.node_id} has the layer {text!r}", where=f"{where}/layer", expected="its number, or E of a token"
    )


def _numbers(id: str, pattern: str, where: str) -> list[int]:
    found = re.fullmatch(pattern, id)
    numbers = [int(number) if len(number) < 12 else _INT32_MAX + 1 for number in found.groups()] if found else []
    if not found or any(number > _INT32_MAX for number in numbers):
        raise DataError(f"{id!r} does not name its node", where=f"{where}/node_id", expected=pattern)
    return numbers


def _n_layers(rows: list[_Row], said: int | None) -> int:
    """That of the logits' layer, which is one above where the last bias is."""
    tops = sorted({row.layer for row in rows if row.kind is NodeKind.LOGIT})
    if len(tops) != 1:
        raise DataError(f"logits are in the layers {tops}" if tops else "there is no logit", where="/nodes")
    n_layers = tops[0] - 1 if said is None else said
    if tops[0] != n_layers + 1:
        raise DataError(
            f"logits are in layer {tops[0]}",
            where="/nodes",
            expected=f"{n_layers + 1}, as the model has {n_layers} layers",
        )
    for index, row in enumerate(rows):
        if row.kind is NodeKind.LOGIT:
            row.layer = n_layers
        elif row.layer >= n_layers + (row.kind is NodeKind.BIAS):
            raise DataError(f"layer {row.layer} is not below the logits", where=f"/nodes/{index}/layer")
    return n_layers


def _found(file: GraphFile, rows: list[_Row], n_layers: int, bos: str) -> Found:
    sources, targets = _links(file.nodes, rows, file.links)
    weights = [link.weight for link in file.links]
    logits: dict[int, float] = {index: 0.0 for index, row in enumerate(rows) if row.kind is NodeKind.LOGIT}
    for target, weight in zip(targets, weights, strict=True):
        if target in logits:
            logits[target] += weight
    for index in logits:
        given = file.nodes[index].activation
        rows[index].value = logits[index] if given is None else given
    columns = ("kind", "layer", "position", "feature", "token")
    kind, layer, position, feature, token = (
        torch.tensor([getattr(row, name) for row in rows], dtype=torch.int32) for name in columns
    )
    values = torch.tensor([row.value for row in rows], dtype=torch.float64)
    return Found(
        nodes=Nodes(kind.to(torch.uint8), layer, position, feature, token, values),
        sources=torch.tensor(sources, dtype=torch.int64),
        targets=torch.tensor(targets, dtype=torch.int64),
        weights=torch.tensor(weights, dtype=torch.float64),
        selected=torch.zeros(len(rows), dtype=torch.bool),
        prompt=file.metadata.prompt,
        tokens=file.metadata.prompt_tokens,
        token_ids=_token_ids(file, rows),
        bos=bos,
        n_layers=n_layers,
        targets_of=[_target(file.nodes[index], rows[index]) for index in logits],
    )


def _target(node: FileNode, row: _Row) -> LogitTarget:
    token = form.token_of(node.clerp, row.token)
    return LogitTarget(token=token, token_id=row.token, probability=node.token_prob, logit=row.value)


def _token_ids(file: GraphFile, rows: list[_Row]) -> list[int]:
    ids = {row.position: row.token for row in rows if row.kind is NodeKind.TOKEN}
    for position in range(len(file.metadata.prompt_tokens)):
        if position not in ids:
            raise DataError(
                f"position {position} has no node of the type {form.TOKEN}, so its token's id is not known",
                where=f"/metadata/prompt_tokens/{position}",
            )
    return [ids[position] for position in range(len(ids))]


def _links(nodes: list[FileNode], rows: list[_Row], links: list[Link]) -> tuple[list[int], list[int]]:
    """Sources and targets by index. An id that a feature and an error share is resolved by what can be."""
    by_id: defaultdict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(nodes):
        named = by_id[node.node_id]
        kinds = {rows[other].kind for other in [*named, index]}
        if named and (len(named) > 1 or kinds != {NodeKind.FEATURE, NodeKind.ERROR}):
            raise DataError(f"{node.node_id} is the id of several nodes", where=f"/nodes/{index}/node_id")
        named.append(index)
    shared = {id: named for id, named in by_id.items() if len(named) > 1}
    times: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    sources, targets = [], []
    for index, link in enumerate(links):
        for end in ("source", "target"):
            if getattr(link, end) not in by_id:
                raise DataError(f"there is no node {getattr(link, end)}", where=f"/links/{index}/{end}")
        target = min(by_id[link.target], key=lambda node: rows[node].kind)  # features have links in, errors have none
        source = by_id[link.source][0]
        times[link.source, link.target].append(index)
        if link.source in shared:
            feature, error = sorted(shared[link.source], key=lambda node: rows[node].kind)
            if rows[error].layer >= rows[target].layer:
                source = feature
            else:
                source = feature if len(times[link.source, link.target]) == 1 else error
        sources.append(source)
        targets.append(target)
    for (source_id, target_id), places in times.items():
        both = (
            source_id in shared
            and rows[max(shared[source_id], key=lambda n: rows[n].kind)].layer < rows[targets[places[0]]].layer
        )
        if len(places) > (2 if both else 1):
            raise DataError(f"{source_id} and {target_id} are linked more than once", where=f"/links/{places[-1]}")
        if both and len(places) == 1:
            raise DataError(
                f"{source_id} is the id of a feature and of an error, and one link leads from it to {target_id}",
                where=f"/links/{places[0]}/source",
                hint="write the graph with a version of its tool that gives errors ids of their own",
            )
    return sources, targets
