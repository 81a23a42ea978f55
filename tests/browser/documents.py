"""A graph document with a known shape: tokens feed features, features and errors feed logits."""

import random

from clew_spec.graph import (
    Conservation,
    Edge,
    ErrorParts,
    GraphDocument,
    GraphScores,
    GraphSummary,
    LogitTarget,
    Node,
    NodeType,
    Path,
    PathStep,
    Selection,
)

TOKENS = ["When", " Mary", " and", " John", " went", " to"]
N_LAYERS = 12


def named(node: Node) -> str:
    """As the dashboard tells it from others."""
    return f"{node.label} @{node.position}" if node.type in ("feature", "error", "token") else node.label


def graph_document(name: str = "ioi", n_features: int = 40, seed: int = 0, *, edges: bool = True) -> GraphDocument:
    rng = random.Random(seed)  # noqa: S311 - a picture, not a secret
    nodes: list[Node] = []

    def add(type: NodeType, layer: int, position: int, label: str, influence: float, **fields: object) -> Node:
        node = Node.model_validate(
            {
                "id": 7 * len(nodes) + 2,  # ids are not positions in the list
                "type": type,
                "layer": layer,
                "position": position,
                "label": label,
                "value": rng.uniform(0.5, 9),
                "influence": influence,
                **fields,
            }
        )
        nodes.append(node)
        return node

    last = len(TOKENS) - 1
    for position, text in enumerate(TOKENS):
        add("token", -1, position, text.strip(), rng.uniform(0.1, 0.6), token_id=100 + position)
    for number in range(n_features):
        layer, position = rng.randrange(6), rng.randrange(len(TOKENS))
        add("feature", layer, position, f"L{layer} #{number}", rng.uniform(0.001, 0.2), feature=number)
    add("error", 8, last, "error L8", 0.2)
    add("bias", 3, last, "bias L3", 0.01)
    targets = [(" Mary", 0.9, 12.0), (" the", 0.05, 8.0)]
    for number, (text, probability, _) in enumerate(targets):
        label = f"{text.strip()} (p={probability:.2f})"
        add("logit", N_LAYERS, last, label, probability, token_id=200 + number, probability=probability)

    links = [
        Edge(source=source.id, target=target.id, weight=rng.choice((-1, 1)) * rng.uniform(0.05, 5))
        for target in nodes
        if edges and target.type in ("feature", "logit")
        for source in nodes
        if source.layer < target.layer and source.position <= target.position and rng.random() < 0.5
    ]
    return GraphDocument(
        name=name, summary=_summary(nodes, links, targets), nodes=nodes, edges=links, paths=_paths(nodes, links)
    )


def _summary(nodes: list[Node], edges: list[Edge], targets: list[tuple[str, float, float]]) -> GraphSummary:
    return GraphSummary(
        prompt="".join(TOKENS),
        tokens=TOKENS,
        token_ids=[100 + position for position in range(len(TOKENS))],
        bos="none",
        n_layers=N_LAYERS,
        coder_layers=list(range(6)),
        n_nodes=10 * len(nodes),
        n_edges=10 * len(edges),
        targets=[
            LogitTarget(token=text, token_id=200 + number, probability=probability, logit=logit)
            for number, (text, probability, logit) in enumerate(targets)
        ],
        conservation=Conservation(
            max_relative_to_edges=8.3e-7, p99_relative_to_value=2e-5, nodes=len(nodes), dtype="float32"
        ),
        selection=Selection(active=900, selected=400, explained_share=0.97),
        scores=GraphScores(
            replacement=0.184,
            completeness=0.412,
            error_share=0.673,
            error_parts=ErrorParts(no_coder=0.31, position_0=0.1, coder_error=0.2, unselected=0.063),
        ),
    )


def _paths(nodes: list[Node], edges: list[Edge]) -> list[Path]:
    """From the likeliest logit down the strongest edge each time."""
    total: dict[int, float] = {}
    for edge in edges:
        total[edge.target] = total.get(edge.target, 0.0) + abs(edge.weight)
    logit = next(node for node in nodes if node.type == "logit")
    steps, score, at = [PathStep(node=logit.id)], 1.0, logit.id
    while into := [edge for edge in edges if edge.target == at]:
        best = max(into, key=lambda edge: abs(edge.weight))
        share = abs(best.weight) / total[at]
        steps.insert(0, PathStep(node=best.source, edge=best.weight, share=share))
        score, at = score * share, best.source
    return [Path(score=score, steps=steps)]
