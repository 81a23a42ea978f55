"""Analyses of circuits: a prompt on its model, the weights alone, or a stored graph.

As in `sizes`, bytes are those of the tensors that the code has at once. Letters beside those there: T tokens of the
prompt, L layers, N nodes and E edges of a graph, R its rows.
"""

from collections.abc import Sequence

from clew_spec.attribution import AttributeSpec
from clew_spec.chunks import KEPT_BYTES, TILE_BYTES, TILE_TARGETS
from clew_spec.coders import Activation, BatchTopK, CoderConfig, TopK
from clew_spec.connections import ConnectionsSpec
from clew_spec.estimates.report import GraphFacts, Memory, Part
from clew_spec.estimates.sizes import (
    FLOAT32,
    FLOAT64,
    RUNTIME_BYTES,
    encoding_bytes,
    encoding_flops,
    forward_bytes,
    forward_flops,
    slots,
    stored_parameters,
    unembedding_flops,
)
from clew_spec.faithfulness import FRACTIONS, FaithfulnessSpec
from clew_spec.paths import PathsSpec
from clew_spec.results import ModelConfig
from clew_spec.steering import SteerSpec

BUSY_PROMPT = 2
"""BatchTopK: how many times the mean of k the tokens of a prompt are taken to have."""
ROWS_PINNED = 17
"""Of the batch in which edges are measured: as `clew.circuits.verification` has them, and one without a change."""
NODE_BYTES = 64
EDGE = FLOAT32 + 4
"""A weight and its source."""
EDGE_MERGED = 2 * EDGE
"""Rows, and the same once more while they are put in order."""
EDGE_SEARCHED = EDGE + 72
"""With targets, rows, shares and the order by source, float64 and int64, and what making these takes."""


def awake(activation: Activation, n_features: int) -> int | None:
    """Active features of a token, the mean over a prompt; None where only the prompt tells."""
    match activation:
        case TopK(k=k):
            return min(k, n_features)
        case BatchTopK(k=k):
            return min(BUSY_PROMPT * k, n_features)
        case _:
            return None


def attribute_memory(spec: AttributeSpec, model: ModelConfig, coders: Sequence[CoderConfig], T: int) -> Memory | None:
    """None where only the prompt tells how many features are active."""
    found = _graph_of(spec.max_nodes, _n_logits(spec), model, coders, T)
    if found is None:
        return None
    nodes, edges = found
    graph = NODE_BYTES * nodes
    where, prompt = "/spec/max_nodes", "/spec/prompt"
    return _fullest(
        _loaded(model, coders),
        {
            "a sweep of targets": [
                Part(name="the prompt as the model saw it", bytes=_recorded(model, T), field=prompt),
                Part(name="active features", bytes=_encoded(coders, T), field=prompt),
                Part(name="targets swept together", bytes=_swept(model, coders, T, nodes), field=prompt),
                Part(name="nodes and edges", bytes=graph + EDGE_MERGED * edges, field=where),
            ],
            "the search for paths": [Part(name="nodes and edges", bytes=graph + EDGE_SEARCHED * edges, field=where)],
        },
    )


def attribute_flops(spec: AttributeSpec, model: ModelConfig, coders: Sequence[CoderConfig], T: int) -> float:
    """Every target taken to be swept through all layers and positions."""
    widths = [slots(coder.activation, coder.n_features) * (1 + len(coder.later_layers)) for coder in coders]
    rows = min(spec.max_nodes, T * sum(widths)) + _n_logits(spec)
    attention = 2 * model.d_model * (model.d_model * (1 + model.n_kv_heads / model.n_heads) + T)
    a_row = T * (model.n_layers * attention + 2 * model.d_model * (sum(widths) + 2 * model.n_layers))
    return _pass_flops(model, T) + T * _encoding(coders) + rows * a_row


def steer_memory(
    spec: SteerSpec, model: ModelConfig, coders: Sequence[CoderConfig], T: int, graph: GraphFacts | None
) -> Memory:
    # before and after, of the prompt and once more beside the graph; and what a pass that generates has
    logits = (2 * (1 if graph is None else 2) * T + T + spec.tokens) * model.vocab_size * FLOAT32
    states = 4 * len(coders) * T * model.d_model * FLOAT32
    work = forward_bytes(model, 1, T + spec.tokens, FLOAT32) + _encoding_work(coders, T + spec.tokens)
    where = "/spec/prompt" if graph is None else "/spec/graph"
    parts = [
        Part(name="logits", bytes=logits, field="/spec/tokens" if spec.tokens > T else where),
        Part(name="what coders read", bytes=states, field=where),
        Part(name="a pass with edits", bytes=work, field=where),
    ]
    if spec.frozen:
        parts.append(Part(name="the prompt as the model saw it", bytes=_recorded(model, T), field="/spec/frozen"))
    if graph is not None:
        parts.append(Part(name="the graph", bytes=_held(graph), field="/spec/graph"))
    return Memory(moment="a pass with edits", parts=[*_loaded(model, coders), *parts])


def steer_flops(
    spec: SteerSpec, model: ModelConfig, coders: Sequence[CoderConfig], T: int, graph: GraphFacts | None
) -> float:
    compared = (2 + spec.frozen) * (1 if graph is None else 2)
    generated = sum(_pass_flops(model, T + n) for n in range(spec.tokens))
    return compared * _pass_flops(model, T) + 2 * generated + (compared * T + spec.tokens * T) * _encoding(coders)


def faithfulness_memory(
    spec: FaithfulnessSpec, model: ModelConfig, coders: Sequence[CoderConfig], graph: GraphFacts
) -> Memory | None:
    """Paraphrases are taken to be as long as the graph's prompt. None as above, where there are some."""
    T = graph.tokens
    pinned = model.n_parameters * FLOAT64 + FLOAT64 * (
        model.n_layers * (model.n_heads * T**2 + (ROWS_PINNED + 2) * T * model.d_model)
        + (ROWS_PINNED + T) * model.vocab_size
    )
    pinned += forward_bytes(model, ROWS_PINNED, T, FLOAT64)
    trials = 5 * T * model.vocab_size * FLOAT32 + 4 * len(coders) * T * model.d_model * FLOAT32
    widest = max((coder.n_features for coder in coders), default=0)
    trials += forward_bytes(model, 1, T, FLOAT32) + _encoding_work(coders, T) + 20 * T * widest
    measured = 3 * FLOAT64 * spec.nodes * graph.rows
    where = "/spec/graph"
    moments = {
        "measuring edges": [Part(name="a copy of the model in float64, with its passes", bytes=pinned, field=where)],
        "ablating features": [
            Part(name="passes with edits", bytes=trials, field=where),
            Part(name="movements of the graph's nodes", bytes=measured, field="/spec/nodes"),
        ],
    }
    if spec.paraphrases:
        again = AttributeSpec(name="g", coders="c", prompt="p", max_nodes=max(1, graph.rows), max_logits=100)
        found = attribute_memory(again, model, coders, T)
        if found is None:
            return None
        bytes = found.bytes - sum(part.bytes for part in _loaded(model, coders))
        part = Part(name="the graphs of paraphrases", bytes=bytes, field="/spec/paraphrases")
        moments["attributing paraphrases"] = [part]
    held = Part(name="the graph", bytes=_held(graph), field=where)
    return _fullest([*_loaded(model, coders), held], moments)


def faithfulness_flops(
    spec: FaithfulnessSpec, model: ModelConfig, coders: Sequence[CoderConfig], graph: GraphFacts
) -> float:
    T = graph.tokens
    one = _pass_flops(model, T)
    encoded = one + T * _encoding(coders)
    batches = -(-min(spec.edges, graph.edges) // (ROWS_PINNED - 1))
    curves = (2 * len(FRACTIONS) + 3) * encoded
    again = AttributeSpec(name="g", coders="c", prompt="p", max_nodes=max(1, graph.rows), max_logits=100)
    attributed = len(spec.paraphrases) * attribute_flops(again, model, coders, T)
    return (1 + ROWS_PINNED * batches) * one + 4 * spec.nodes * encoded + curves + attributed


def connections_memory(model: ModelConfig, coders: Sequence[CoderConfig]) -> Memory:
    vocabulary = model.vocab_size * model.d_model * FLOAT32
    crossing = max((2 * c.n_features * c.d_out for c in coders if c.later_layers), default=0)
    widest = max((c.n_features for c in coders), default=0)
    scores = FLOAT32 * (3 * widest + 3 * model.vocab_size)
    # W_V and W_O of a block with the norms around them, and a product for each head
    d_head = model.d_model // model.n_heads
    heads = FLOAT32 * (2 * model.d_model**2 * (1 + model.n_kv_heads / model.n_heads) + 4 * model.d_model * d_head)
    return Memory(
        moment="reading the vocabulary",
        parts=[
            *_loaded(model, coders),
            Part(name="what tokens write", bytes=vocabulary, field="/spec/coders"),
            Part(name="logits or heads", bytes=max(vocabulary, crossing * FLOAT32, int(heads)), field="/spec/coders"),
            Part(name="weights to features and tokens", bytes=scores, field="/spec/coders"),
        ],
    )


def connections_flops(spec: ConnectionsSpec, model: ModelConfig, coders: Sequence[CoderConfig]) -> float:
    heads = 2 * spec.strongest_heads if spec.heads is None else len(spec.heads)
    products = 2 * model.vocab_size * model.d_model + sum(2 * coder.n_features * model.d_model for coder in coders)
    norms = 4 * model.n_layers * model.d_model**2 * (1 + model.d_model / model.n_heads)
    return (2 + heads) * products + norms


def paths_memory(spec: PathsSpec, graph: GraphFacts) -> Memory:
    states = (1 << len(spec.through)) * (1 + (spec.max_length or 0)) * graph.nodes * FLOAT64
    grown = EDGE * graph.edges  # a difference of two logits is a node more, and the edges are copied
    parts = [
        Part(name="the runner itself", bytes=RUNTIME_BYTES, field=""),
        Part(name="nodes and edges", bytes=NODE_BYTES * graph.nodes + EDGE_SEARCHED * graph.edges, field="/spec/graph"),
        Part(name="the best way from each node", bytes=2 * states, field="/spec/max_length"),
    ]
    if spec.root is not None or spec.through_features:
        parts.append(Part(name="edges to the root", bytes=grown, field="/spec/root"))
    return Memory(moment="the search", parts=parts)


def paths_flops(spec: PathsSpec, graph: GraphFacts) -> float:
    """Of finding the best way and the sum of all ways from each node."""
    return 4.0 * graph.edges * (1 << len(spec.through)) * (spec.max_length or 1)


def graph_bytes(graph: GraphFacts) -> int:
    """On disk."""
    return EDGE * graph.edges + 25 * graph.nodes


def _n_logits(spec: AttributeSpec) -> int:
    return spec.max_logits if spec.targets is None else len(spec.targets)


def _loaded(model: ModelConfig, coders: Sequence[CoderConfig]) -> list[Part]:
    return [
        Part(name="the runner itself", bytes=RUNTIME_BYTES, field=""),
        Part(name="model weights", bytes=model.n_parameters * FLOAT32, field="/spec/coders"),
        Part(name="coder weights", bytes=sum(map(stored_parameters, coders)) * FLOAT32, field="/spec/coders"),
    ]


def _fullest(loaded: list[Part], moments: dict[str, list[Part]]) -> Memory:
    """Of the moments the one that takes most, beside what is loaded."""
    found = [Memory(moment=name, parts=[*loaded, *parts]) for name, parts in moments.items()]
    return max(found, key=lambda memory: memory.bytes)


def _held(graph: GraphFacts) -> int:
    """While a graph is compared with its model."""
    return NODE_BYTES * graph.nodes + EDGE_SEARCHED * graph.edges


def _graph_of(
    max_nodes: int, n_logits: int, model: ModelConfig, coders: Sequence[CoderConfig], T: int
) -> tuple[int, int] | None:
    """Nodes and edges, the rows taken to be those that can have most edges."""
    active = [0] * model.n_layers
    for coder in coders:
        found = awake(coder.activation, coder.n_features)
        if found is None:
            return None
        active[coder.layer] = found
    nodes = T * (2 + 2 * model.n_layers + sum(active)) + n_logits + 1
    below, rows = 0, []
    for layer, here in enumerate(active):
        if here:
            # what is written below, at this position and before: tokens, positions, errors, biases, features
            rows += [((2 + 2 * layer + below) * (t + 1) + t + 1, here) for t in range(1, T)]
        below += here
    edges, left = n_logits * nodes, max_nodes
    for upstream, here in sorted(rows, reverse=True):
        taken = min(here, left)
        edges, left = edges + taken * upstream, left - taken
    return nodes, edges


def _recorded(model: ModelConfig, T: int) -> int:
    """Patterns, what norms and MLPs read and write, logits; and what one pass has beside."""
    a_layer = model.n_heads * T**2 + 4 * T * model.d_model
    logits = 2 * T * model.vocab_size
    return FLOAT32 * (model.n_layers * a_layer + logits) + forward_bytes(model, 1, T, FLOAT32)


def _encoded(coders: Sequence[CoderConfig], T: int) -> int:
    held = sum(12 * T * slots(coder.activation, coder.n_features) for coder in coders)
    return held + _encoding_work(coders, T)


def _encoding_work(coders: Sequence[CoderConfig], T: int) -> int:
    """The widest coder on the prompt: pre-activations and active features, or then the decoders of these."""

    def work(coder: CoderConfig) -> int:
        pre = T * coder.n_features * FLOAT32 + encoding_bytes(coder.activation, coder.n_features, T)
        known = awake(coder.activation, coder.n_features)
        return max(
            pre, 0 if known is None else 2 * T * slots(coder.activation, coder.n_features) * coder.d_out * FLOAT32
        )

    return max(map(work, coders), default=0)


def _swept(model: ModelConfig, coders: Sequence[CoderConfig], T: int, nodes: int) -> int:
    D = model.d_model
    n = max(1, min(TILE_TARGETS, TILE_BYTES // (FLOAT32 * (3 * T * D + nodes))))
    widths = [slots(coder.activation, coder.n_features) for coder in coders]
    written = [width * (1 + len(coder.later_layers)) for width, coder in zip(widths, coders, strict=True)]
    kept = min(KEPT_BYTES, T * D * FLOAT32 * (2 * model.n_layers + sum(written)))
    decoders = 2 * T * max(widths, default=0) * D * FLOAT32
    a_target = FLOAT32 * T * (8 * D + 4 * max(widths, default=0)) + 48 * nodes
    return kept + decoders + n * a_target


def _pass_flops(model: ModelConfig, T: int) -> float:
    return T * (forward_flops(model, model.n_layers, T) + unembedding_flops(model))


def _encoding(coders: Sequence[CoderConfig]) -> float:
    """Of one token by all coders."""
    return sum(encoding_flops(coder.n_features, coder.d_in) for coder in coders)
