"""Analyses of circuits: a prompt on its model, the weights alone, or a stored graph.

Letters as in `frozen`.
"""

from collections.abc import Sequence

from clew_spec.attribution import AttributeSpec
from clew_spec.coders import CoderConfig
from clew_spec.connections import ConnectionsSpec
from clew_spec.estimates.frozen import (
    EDGE,
    EDGE_SEARCHED,
    NODE_BYTES,
    encoded,
    encoding,
    encoding_work,
    fullest,
    graph_of,
    held,
    loaded,
    pass_flops,
    recorded,
    row_flops,
    swept,
    widths,
)
from clew_spec.estimates.report import GraphFacts, Memory, Part
from clew_spec.estimates.sizes import FLOAT32, FLOAT64, RUNTIME_BYTES, forward_bytes
from clew_spec.faithfulness import FRACTIONS, FaithfulnessSpec
from clew_spec.paths import PathsSpec
from clew_spec.results import ModelConfig
from clew_spec.steering import SteerSpec

ROWS_PINNED = 17
"""Of the batch in which edges are measured: as `clew.circuits.verification` has them, and one without a change."""
EDGE_MERGED = 2 * EDGE
"""Rows, and the same once more while they are put in order."""


def attribute_memory(spec: AttributeSpec, model: ModelConfig, coders: Sequence[CoderConfig], T: int) -> Memory | None:
    """None where only the prompt tells how many features are active."""
    found = graph_of(spec.max_nodes, _n_logits(spec), model, coders, T, spec.position_0)
    if found is None:
        return None
    nodes, edges = found
    graph = NODE_BYTES * nodes
    together = swept(model, coders, T, nodes, min(nodes, spec.max_nodes))
    where, prompt = "/spec/max_nodes", "/spec/prompt"
    return fullest(
        loaded(model, coders),
        {
            "a sweep of targets": [
                Part(name="the prompt as the model saw it", bytes=recorded(model, T), field=prompt),
                Part(name="active features", bytes=encoded(coders, T), field=prompt),
                Part(name="targets swept together", bytes=together, field=prompt),
                Part(name="nodes and edges", bytes=graph + EDGE_MERGED * edges, field=where),
            ],
            "the search for paths": [Part(name="nodes and edges", bytes=graph + EDGE_SEARCHED * edges, field=where)],
        },
    )


def attribute_flops(spec: AttributeSpec, model: ModelConfig, coders: Sequence[CoderConfig], T: int) -> float:
    """Every target taken to be swept through all layers and positions."""
    rows = min(spec.max_nodes, T * sum(widths(coders))) + _n_logits(spec)
    return pass_flops(model, T) + T * encoding(coders) + rows * row_flops(model, coders, T)


def steer_memory(
    spec: SteerSpec, model: ModelConfig, coders: Sequence[CoderConfig], T: int, graph: GraphFacts | None
) -> Memory:
    # before and after, of the prompt and once more beside the graph; and what a pass that generates has
    logits = (2 * (1 if graph is None else 2) * T + T + spec.tokens) * model.vocab_size * FLOAT32
    states = 4 * len(coders) * T * model.d_model * FLOAT32
    work = forward_bytes(model, 1, T + spec.tokens, FLOAT32) + encoding_work(coders, T + spec.tokens)
    where = "/spec/prompt" if graph is None else "/spec/graph"
    parts = [
        Part(name="logits", bytes=logits, field="/spec/tokens" if spec.tokens > T else where),
        Part(name="what coders read", bytes=states, field=where),
        Part(name="a pass with edits", bytes=work, field=where),
    ]
    if spec.frozen:
        parts.append(Part(name="the prompt as the model saw it", bytes=recorded(model, T), field="/spec/frozen"))
    if graph is not None:
        parts.append(Part(name="the graph", bytes=held(graph), field="/spec/graph"))
    return Memory(moment="a pass with edits", parts=[*loaded(model, coders), *parts])


def steer_flops(
    spec: SteerSpec, model: ModelConfig, coders: Sequence[CoderConfig], T: int, graph: GraphFacts | None
) -> float:
    compared = (2 + spec.frozen) * (1 if graph is None else 2)
    generated = sum(pass_flops(model, T + n) for n in range(spec.tokens))
    return compared * pass_flops(model, T) + 2 * generated + (compared * T + spec.tokens * T) * encoding(coders)


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
    trials += forward_bytes(model, 1, T, FLOAT32) + encoding_work(coders, T) + 20 * T * widest
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
        found = attribute_memory(_as_was(graph), model, coders, T)
        if found is None:
            return None
        bytes = found.bytes - sum(part.bytes for part in loaded(model, coders))
        part = Part(name="the graphs of paraphrases", bytes=bytes, field="/spec/paraphrases")
        moments["attributing paraphrases"] = [part]
    of_graph = Part(name="the graph", bytes=held(graph), field=where)
    return fullest([*loaded(model, coders), of_graph], moments)


def faithfulness_flops(
    spec: FaithfulnessSpec, model: ModelConfig, coders: Sequence[CoderConfig], graph: GraphFacts
) -> float:
    T = graph.tokens
    one = pass_flops(model, T)
    encoded = one + T * encoding(coders)
    batches = -(-min(spec.edges, graph.edges) // (ROWS_PINNED - 1))
    curves = (2 * len(FRACTIONS) + 3) * encoded
    attributed = len(spec.paraphrases) * (attribute_flops(_as_was(graph), model, coders, T) + one)
    return (1 + ROWS_PINNED * batches) * one + 2 * (1 + spec.nodes) * encoded + curves + attributed


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
            *loaded(model, coders),
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


def _as_was(graph: GraphFacts) -> AttributeSpec:
    """How a graph was made, as far as its size tells."""
    nodes, logits = max(1, graph.rows - graph.targets), min(100, graph.targets)
    return AttributeSpec(name="g", coders="c", prompt="p", max_nodes=nodes, max_logits=logits)
