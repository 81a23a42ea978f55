"""The graph JSON that circuit-tracer, Neuronpedia and Anthropic's viewer share (schema_version 1).

Fields that only a viewer uses are known and not interpreted; any other field is refused. Written node ids are unique:
circuit-tracer once gave the error of layer L the id `0_{L}_{position}`, which is also that of a layer-0 feature.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from clew_spec.exchange.supernodes import Supernode
from clew_spec.graph import Edge, GraphDocument, GraphSummary, Node, NodeType

Finite = Annotated[float, Field(allow_inf_nan=False)]

FEATURE, ERROR, TOKEN, LOGIT, BIAS = (
    "cross layer transcoder",
    "mlp reconstruction error",
    "embedding",
    "logit",
    "bias",
)
"""Values of `feature_type`; per-layer transcoders have the first one too."""
SHARED, POSITION, SUM = "shared", "position", "sum"
"""Kinds of bias in their ids: of no position, a learned position embedding, all constants of a layer."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Metadata(_Part):
    slug: str
    scan: str
    """Which model, by Neuronpedia's name of it."""
    prompt_tokens: list[str]
    prompt: str
    transcoder_list: list[str] | None = None
    node_threshold: Finite | None = None
    schema_version: int | None = 1
    title_prefix: str | None = None
    replacement_score: Finite | None = None
    completeness_score: Finite | None = None
    feature_details: dict[str, Any] | None = None
    info: dict[str, Any] | None = None
    generation_settings: dict[str, Any] | None = None
    pruning_settings: dict[str, Any] | None = None


class QParams(_Part):
    pinnedIds: list[str] = []
    supernodes: list[Any] = []
    linkType: str = "both"
    clickedId: str | None = ""
    sg_pos: str = ""
    clerps: Any = None
    pruningThreshold: Any = None
    densityThreshold: Any = None
    hiddenIds: Any = None
    gridsnap: Any = None


class FileNode(_Part):
    node_id: str
    feature: int | None
    """Of a feature Cantor's pair of its layer and index."""
    layer: str | int
    """`E` of what is embedded; two above the last layer of logits."""
    ctx_idx: int
    feature_type: str
    jsNodeId: str
    clerp: str
    """Of a logit `Output "token" (p=0.123)`: the viewer takes the probability from it."""
    influence: Finite | None = None
    """The share of all influence that nodes down to this one have together: small is important."""
    activation: Finite | None = None
    token_prob: Finite = 0.0
    is_target_logit: bool = False
    run_idx: int = 0
    reverse_ctx_idx: int = 0
    qk_tracing_results: Any = None
    vis_link: Any = None
    top_logit_effects: Any = None
    bottom_logit_effects: Any = None
    top_embedding_effects: Any = None
    bottom_embedding_effects: Any = None
    probe_location_idx: Any = None


class Link(_Part):
    source: str
    target: str
    weight: Finite


class GraphFile(_Part):
    metadata: Metadata
    qParams: QParams
    nodes: list[FileNode]
    links: list[Link]
    qk_only_nodes: Any = None

    def to_json(self) -> str:
        """Without fields that were not set: the schema has no nulls for them."""
        return self.model_dump_json(exclude_unset=True)


def cantor(layer: int, feature: int) -> int:
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def of_document(document: GraphDocument, *, scan: str = "unknown", groups: Sequence[Supernode] = ()) -> GraphFile:
    """The picture of a graph. Influence is ranked among the nodes of the picture, the only ones it knows. The members
    of `groups` are pinned, and grouped as the viewer does it."""
    shares = cumulative({node.id: node.influence for node in document.nodes if node.type != "logit"})
    return graph_file(
        document.summary, document.nodes, document.edges, shares, name=document.name, scan=scan, groups=groups
    )


def cumulative(influence: Mapping[int, float]) -> dict[int, float]:
    """Of each node, the share of all influence that it has together with every node before it, highest first."""
    total, reached, shares = sum(influence.values()), 0.0, {}
    for node in sorted(influence, key=lambda node: (-influence[node], node)):
        reached += influence[node]
        shares[node] = min(reached / total, 1.0) if total > 0 else 1.0
    return shares


def graph_file(
    summary: GraphSummary,
    nodes: Sequence[Node],
    edges: Iterable[Edge],
    shares: Mapping[int, float],
    *,
    name: str,
    scan: str,
    pruning: Mapping[Literal["node_threshold", "edge_threshold"], float] | None = None,
    groups: Sequence[Supernode] = (),
) -> GraphFile:
    """These nodes, and the edges between them. `shares`: as from `cumulative`, by node id."""
    ids = {node.id: _id(node, summary) for node in nodes}
    first_logit = next((node.id for node in nodes if node.type == "logit"), None)
    settings: dict[str, Any] = {"pruning_settings": dict(pruning)} if pruning else {}
    metadata = Metadata(
        slug=name,
        scan=scan,
        prompt_tokens=summary.tokens,
        prompt=summary.prompt,
        transcoder_list=[],
        schema_version=1,
        replacement_score=summary.scores.replacement,
        completeness_score=summary.scores.completeness,
        info={"generator": {"name": "clew"}},
        **settings,
    )
    return GraphFile(
        metadata=metadata,
        qParams=QParams(
            pinnedIds=[ids[node] for group in groups for node in group.nodes],
            supernodes=[[group.label, *(ids[node] for node in group.nodes)] for group in groups],
            linkType="both",
            clickedId="",
            sg_pos="",
        ),
        nodes=[_node(node, ids[node.id], summary, shares.get(node.id), node.id == first_logit) for node in nodes],
        links=[Link(source=ids[edge.source], target=ids[edge.target], weight=edge.weight) for edge in edges],
    )


def _id(node: Node, summary: GraphSummary) -> str:
    match node.type:
        case "feature":
            return f"{node.layer}_{node.feature}_{node.position}"
        case "error":
            return f"{node.layer}_error_mlp_{node.position}"
        case "token":
            return f"E_{node.token_id}_{node.position}"
        case "logit":
            return f"{summary.n_layers + 1}_{node.token_id}_{node.position}"
        case "position":
            return f"E_bias_{POSITION}_{node.position}"
        case "bias":
            kind = SHARED if node.position < 0 else SUM
            return f"{_layer(node, summary)}_bias_{kind}_{_position(node, summary)}"


def _layer(node: Node, summary: GraphSummary) -> str:
    if node.layer < 0:
        return "E"
    return str(summary.n_layers + 1 if node.type == "logit" else node.layer)


def _position(node: Node, summary: GraphSummary) -> int:
    """What belongs to no position is shown at the last one."""
    return node.position if node.position >= 0 else len(summary.tokens) - 1


_TYPES: dict[NodeType, str] = {
    "token": TOKEN,
    "position": BIAS,
    "feature": FEATURE,
    "error": ERROR,
    "bias": BIAS,
    "logit": LOGIT,
}


def _node(node: Node, id: str, summary: GraphSummary, share: float | None, first_logit: bool) -> FileNode:
    layer, position = _layer(node, summary), _position(node, summary)
    number: int | None = -1
    slot = f"{layer}_{id.split('_', 1)[1]}"
    extra: dict[str, Any] = {}
    match node.type:
        case "feature":
            assert node.feature is not None
            number, slot = cantor(node.layer, node.feature), f"{layer}_{node.feature}-0"
            extra = {"activation": node.value}
        case "token":
            number, slot = position, f"E_{node.token_id}-{position}"
        case "logit":
            number, slot = node.token_id, f"L_{node.token_id}-{position}"
            extra = {"token_prob": node.probability, "is_target_logit": first_logit}
    return FileNode(
        node_id=id,
        feature=number,
        layer=layer,
        ctx_idx=position,
        feature_type=_TYPES[node.type],
        jsNodeId=slot,
        clerp=_clerp(node, summary),
        influence=share,
        **extra,
    )


def _clerp(node: Node, summary: GraphSummary) -> str:
    if node.type == "logit":
        token = next(target.token for target in summary.targets if target.token_id == node.token_id)
        return f'Output "{token}" (p={node.probability:.3f})'
    return "" if node.type in ("feature", "error", "token") else node.label


def token_of(clerp: str, id: int) -> str:
    """The text of a logit's token, as its `clerp` tells it."""
    found = re.fullmatch(r'Output "(.*)" \(p=[^)]*\)', clerp, re.DOTALL)
    return found[1] if found else clerp.split("(p=")[0].strip() or f"#{id}"
