"""The paths of a stored graph to what was asked for, merged into a graph whose nodes add up."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from clew.circuits.document import edges_of, nodes_of
from clew.circuits.graph import Edges, Graph, NodeKind
from clew.circuits.paths import balance, find_paths, met
from clew_spec.errors import InvalidSpec
from clew_spec.graph import LogitTarget, Path, PathFilter
from clew_spec.paths import FeatureRoot, LogitRoot, PathsDocument, PathsSummary, logit_targets


def path_document(
    graph: Graph,
    root: FeatureRoot | LogitRoot | None = None,
    *,
    k: int,
    max_length: int | None = None,
    through: Sequence[PathFilter] = (),
    through_features: bool = False,
) -> PathsDocument:
    """What `find_paths` finds, with the nodes on the paths and what each is made of.

    Raises InvalidSpec where the graph has no such root, or no edges into it; and where no node is what a filter asks
    for.
    """
    grown, node = rooted(graph, root)
    for index, wanted in enumerate(through):
        if not met(graph, [wanted]).any():
            raise InvalidSpec("no node of the graph is this", where=f"/spec/through/{index}")
    found = find_paths(grown, k, root=node, filters=through, through_features=through_features, max_length=max_length)
    (told,) = nodes_of(grown, [found.root])
    others = sorted({step.node for path in found.paths for step in path.steps} - {found.root})
    return PathsDocument(
        root=told,
        paths=found.paths,
        nodes=[*nodes_of(graph, others), told] if found.paths else [],
        coverage=found.coverage,
        matching=found.matching,
        edges=edges_of(grown, torch.tensor(edges_on(grown, found.paths), dtype=torch.int64)),
        balances=balance(grown, found.paths),
    )


def strongest(document: PathsDocument, k: int) -> PathsSummary:
    """The first `k` paths."""
    paths = document.paths[:k]
    on_paths = {step.node for path in paths for step in path.steps}
    return PathsSummary(
        root=document.root,
        paths=paths,
        nodes=[node for node in document.nodes if node.id in on_paths],
        coverage=document.coverage,
        matching=document.matching,
    )


def rooted(graph: Graph, root: FeatureRoot | LogitRoot | None) -> tuple[Graph, int | None]:
    """The graph and the node that paths lead to; None for the most probable target's logit.

    A difference of two logits is a node that is added to the graph: edges into both are subtracted, for what the two
    have subtracted from them is the same.
    """
    match root:
        case FeatureRoot():
            return graph, _feature(graph, root)
        case LogitRoot():
            token, minus = logit_targets(graph.targets, root)
            logits = graph.nodes.where(NodeKind.LOGIT).nonzero()[:, 0]
            if minus is None:
                return graph, int(logits[token])
            return _with_difference(graph, token, minus), len(graph.nodes)
        case None:
            return graph, None


def edges_on(graph: Graph, paths: Sequence[Path]) -> list[int]:
    """Indices of the edges that some path takes, ascending."""
    pairs = {
        (step.node, following.node)
        for path in paths
        for step, following in zip(path.steps, path.steps[1:], strict=False)
    }
    found = []
    for source, target in pairs:
        span = graph.edges.span(target)
        found.append(span.start + int(torch.searchsorted(graph.edges.sources[span], source)))
    return sorted(found)


def _feature(graph: Graph, root: FeatureRoot) -> int:
    nodes = graph.nodes
    here = nodes.where(NodeKind.FEATURE) & (nodes.layer == root.layer) & (nodes.position == root.position)
    found = (here & (nodes.feature == root.feature)).nonzero()[:, 0].tolist()
    name = f"feature {root.feature} of layer {root.layer}"
    if not found:
        raise InvalidSpec(
            f"{name} is not active at position {root.position}: the graph has no such node",
            where="/spec/root",
            expected="a feature of the graph",
        )
    if bool(graph.leaves[found[0]]):
        raise InvalidSpec(
            f"the graph has no edges into {name} at position {root.position}",
            where="/spec/root",
            expected="a feature that was selected",
            hint="attribute the prompt again with more `max_nodes`",
        )
    return int(found[0])


def _with_difference(graph: Graph, token: int, minus: int) -> Graph:
    """`graph` and one more node, the last: the difference of two targets' logits."""
    nodes, edges = graph.nodes, graph.edges
    a, b = graph.nodes.where(NodeKind.LOGIT).nonzero()[[token, minus], 0].tolist()
    (sources_a, weights_a), (sources_b, weights_b) = edges.row(a), edges.row(b)
    sources, place = torch.unique(torch.cat([sources_a, sources_b]), return_inverse=True)
    weights = weights_a.new_zeros(len(sources)).index_add_(0, place, torch.cat([weights_a, -weights_b]))
    columns = {name: torch.cat([column, column[a : a + 1]]) for name, column in vars(nodes).items()}
    columns["value"][-1] = nodes.value[a] - nodes.value[b]
    first, second = graph.targets[token], graph.targets[minus]
    target = LogitTarget(
        token=first.token,
        token_id=first.token_id,
        probability=first.probability,
        logit=first.logit - second.logit,
        minus=second.token,
        minus_id=second.token_id,
    )
    return replace(
        graph,
        nodes=replace(nodes, **columns),
        edges=Edges(
            targets=torch.cat([edges.targets, torch.tensor([len(nodes)])]),
            offsets=torch.cat([edges.offsets, edges.offsets[-1:] + len(sources)]),
            sources=torch.cat([edges.sources, sources]),
            weights=torch.cat([edges.weights, weights]),
        ),
        targets=[*graph.targets, target],
    )
