"""The attribution graph as it is stored.

`graph.safetensors` holds every node and edge; `graph.json` (`GraphDocument`) holds the summary and the picture: the
most influential nodes and the edges between them. Edge weights are contributions: the edges into a feature sum to
`x . w_enc` (its pre-activation less `b_enc`), those into a logit to `LogitTarget.logit`; biases, errors and, unless it
is left out, position 0 are nodes like any other.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from clew_spec.base import Spec

NodeType = Literal["token", "position", "feature", "error", "bias", "logit"]
"""`error`: what a layer's MLP wrote and no feature accounts for (all of it without a coder, and at position 0).
`bias`: constants: attention, norm, MLP and decoder biases. `position`: learned position embeddings."""

NODE_TYPE_NAMES: frozenset[str] = frozenset(get_args(NodeType))

GraphFormat = Literal["clew-graph/1", "clew-graph/2", "clew-graph/3"]
"""What is written is 3. Graphs of 2 do not keep the vectors of directions; those of 1 say nothing of targets that were
given or of position 0 either: they had no choice."""

Position0 = Literal["error", "features", "left-out"]
"""What the MLPs write at position 0, an attention sink that coders are as a rule not trained on, is. `error`: one error
node a layer. `features`: what it is at any other position. `left-out`: in no edge, as in circuit-tracer: its error
nodes have no outgoing edges, so that edges add up only together with what is left out."""

TargetRule = Literal["likeliest", "given"]
"""`likeliest`: the fewest most likely next tokens that reach a probability. `given`: what the request named."""


class Conservation(Spec):
    """How exactly edges, with what position 0 leaves out, add up, over all nodes whose incoming edges were computed,
    logits included."""

    max_relative_to_edges: float
    """max over nodes of |value - sum edges| / sum |edges|."""
    p99_relative_to_value: float
    """99th percentile of |value - sum edges| / |value|."""
    nodes: int
    """0 of a graph that was imported: nothing is known of it then."""
    dtype: str


class Selection(Spec):
    rule: Literal["influence"] = "influence"
    active: int
    """Features active on the prompt."""
    selected: int
    """Of these, features whose incoming edges were computed."""
    explained_share: float
    """Influence on the logits that flows through selected features, over that of all active features."""


class ErrorParts(Spec):
    """What `error_share` is made of; the four add up to it."""

    no_coder: float
    """MLPs of layers without a coder."""
    position_0: float
    """MLPs of layers with a coder, at position 0, where coders do not apply."""
    coder_error: float
    """What the coders missed elsewhere: the part that better coders would explain."""
    unselected: float
    """Active features whose incoming edges were not computed."""


class GraphScores(Spec):
    """Scores of circuit-tracer's definition, with everything not selected counted as error."""

    replacement: float
    completeness: float
    error_share: float
    """Influence on the logits that starts at error nodes or at unselected features, over that of all leaves."""
    error_parts: ErrorParts


class GraphSummary(Spec):
    prompt: str
    tokens: list[str]
    token_ids: list[int]
    bos: str
    n_layers: int
    coder_layers: list[int]
    n_nodes: int
    n_edges: int
    targets: list["LogitTarget"]
    target_rule: TargetRule = "likeliest"
    position_0: Position0 = "error"
    conservation: Conservation
    selection: Selection
    scores: GraphScores


class LogitTarget(Spec):
    """The logit of a token, the difference of two, or a direction in what the unembedding reads."""

    token: str
    """Of a direction its name."""
    token_id: int
    """-1 of a direction."""
    probability: float
    """Of `token` as the next one; of a direction the weight it was given."""
    logit: float
    """Before any cap: demeaned over the vocabulary, or less the logit of `minus`; the value of a direction."""
    minus: str | None = None
    """The token whose logit is subtracted; null where that is the mean over the vocabulary (nothing of a direction)."""
    minus_id: int | None = None


class Node(Spec):
    id: int
    """Index into the arrays of `graph.safetensors`."""
    type: NodeType
    layer: int
    """-1 for tokens and positions, n_layers for logits."""
    position: int
    feature: int | None = None
    token_id: int | None = None
    label: str
    value: float
    """Activation of a feature, logit of a logit; else the norm of what is written."""
    influence: float
    """Share of the logits' influence that flows through this node."""
    probability: float | None = None


class Edge(Spec):
    source: int
    target: int
    weight: float


class PathStep(Spec):
    node: int
    edge: float | None = None
    """The edge from this node to the next one of the path, towards the logit."""
    share: float | None = None
    """|edge| over the sum of |edges| into the next node."""


class Path(Spec):
    """From a leaf to a logit; its score is the product of the shares."""

    score: float
    steps: list[PathStep]


MAX_FILTERS = 6
NodeNumber = Annotated[int, Field(ge=-1, lt=2**31)]


class PathFilter(Spec):
    """What some node of a path has to be; whatever is not given may be anything."""

    types: list[NodeType] | None = None
    layers: list[NodeNumber] | None = None
    positions: list[NodeNumber] | None = None
    features: list[NodeNumber] | None = None


class FoundPaths(Spec):
    """The strongest paths to one node, and how much of all they are."""

    root: int
    paths: list[Path]
    coverage: float
    """Sum of the scores of `paths`. Those of all paths to a node add up to 1."""
    matching: float
    """Sum of the scores of all paths that meet the filters, found or not."""


class Balance(Spec):
    """What a node on some paths is made of; the parts add up to its value."""

    node: int
    kept: float
    """Edges that are on the paths."""
    pruned: float
    """Other edges from tokens, positions and features with a row."""
    error: float
    """Other edges from errors and from features without a row."""
    bias: float
    """Other edges from biases."""
    rest: float = 0.0
    """What no edge of the graph is: of a feature its own bias; where position 0 is left out, what it wrote; of a graph
    from elsewhere, all that its file lacks. Part of `bias` in documents without it."""
    value: float
    """Activation of a feature, value of a logit."""


class GraphDocument(Spec):
    format: GraphFormat = "clew-graph/3"
    name: str
    summary: GraphSummary
    nodes: list[Node] = Field(description="the picture: the most influential nodes, all logits and tokens")
    edges: list[Edge]
    paths: list[Path]
    """The strongest paths of the whole graph, and the strongest of those through features, strongest first; every node
    on them is in `nodes`."""
