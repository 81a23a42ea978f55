"""Edges and scores taken apart, and edges averaged over data. Letters as in `frozen`."""

from collections.abc import Sequence

from clew_spec.chunks import KEPT_BYTES, PAIRS_AT_ONCE, READS_AT_ONCE
from clew_spec.coders import CoderConfig
from clew_spec.estimates.frozen import (
    EDGE,
    EDGE_CHECKED,
    NODE_BYTES,
    encoded,
    encoded_again,
    encoding,
    fullest,
    graph_of,
    held,
    loaded,
    pass_flops,
    recorded,
    row_flops,
    swept,
    tile,
)
from clew_spec.estimates.report import GraphFacts, Memory, Part
from clew_spec.estimates.sizes import FLOAT32, FLOAT64
from clew_spec.mean_edges import MeanEdgesSpec
from clew_spec.qk import QKSpec
from clew_spec.results import ModelConfig

OWN_WIDTHS = {"Gemma": 256, "Qwen3": 128}
"""Families whose heads are of another width than `d_model / n_heads`, and the widest of their models."""
EDGE_SUMMED = EDGE + 64
"""With what it adds to the sums by source."""


def edge_memory(model: ModelConfig, coders: Sequence[CoderConfig], graph: GraphFacts) -> Memory:
    T, D = graph.tokens, model.d_model
    # what the source writes, as every attention reads it; both ways through one of them, with its weights folded; parts
    split = FLOAT32 * (model.n_layers * T * D + 16 * T * D + 4 * D**2) + FLOAT64 * model.n_layers * model.n_heads * T
    where = "/spec/graph"
    return fullest(
        loaded(model, coders),
        {
            "splitting the edge": [
                Part(name="the graph", bytes=NODE_BYTES * graph.nodes + EDGE_CHECKED * graph.edges, field=where),
                Part(name="the prompt as the model saw it", bytes=recorded(model, T), field=where),
                Part(name="active features", bytes=encoded_again(coders, graph), field=where),
                Part(name="what the source writes and the target reads", bytes=split, field=where),
            ],
            "reading the graph": [Part(name="the graph", bytes=held(graph), field=where)],
        },
    )


def edge_flops(model: ModelConfig, coders: Sequence[CoderConfig], graph: GraphFacts) -> float:
    """The source is carried up and the target down, with and without what heads carry."""
    T = graph.tokens
    attention = T * model.n_layers * 2 * model.d_model * (model.d_model * (1 + model.n_kv_heads / model.n_heads) + T)
    return pass_flops(model, T) + T * encoding(coders) + 3 * attention


def qk_memory(spec: QKSpec, model: ModelConfig, coders: Sequence[CoderConfig], graph: GraphFacts) -> Memory:
    T, D, E = graph.tokens, model.d_model, _head_width(model)
    widest = max((coder.n_features for coder in coders), default=0)
    reads = min(E, READS_AT_ONCE)
    carried = reads * FLOAT32 * (T * (8 * D + 4 * min(widest, graph.nodes // T)) + 2 * graph.nodes)
    kept = min(KEPT_BYTES, FLOAT32 * D * (2 * model.n_layers * T + graph.nodes))
    sides = (3 + (spec.against is not None)) * FLOAT64 * graph.nodes * E
    where = "/spec/graph"
    return fullest(
        loaded(model, coders),
        {
            "carrying the head's query and key down": [
                Part(name="the graph", bytes=NODE_BYTES * graph.nodes + EDGE_CHECKED * graph.edges, field=where),
                Part(name="the prompt as the model saw it", bytes=recorded(model, T), field=where),
                Part(name="active features", bytes=encoded_again(coders, graph) + kept, field=where),
                Part(name="what nodes write for query and key", bytes=sides + carried, field=where),
                Part(name="pairs of them", bytes=4 * FLOAT64 * max(PAIRS_AT_ONCE, graph.nodes), field="/spec/top"),
            ],
            "reading the graph": [Part(name="the graph", bytes=held(graph), field=where)],
        },
    )


def qk_flops(spec: QKSpec, model: ModelConfig, coders: Sequence[CoderConfig], graph: GraphFacts) -> float:
    """A sweep for each dimension of query and keys, and the product of all pairs."""
    T, E, sides = graph.tokens, _head_width(model), 2 + (spec.against is not None)
    attention = T * model.n_layers * 2 * model.d_model * (model.d_model * (1 + model.n_kv_heads / model.n_heads) + T)
    sweeps = sides * E * (attention + 2 * model.d_model * graph.nodes)
    return 2 * pass_flops(model, T) + T * encoding(coders) + sweeps + 2 * E * graph.nodes**2


def _head_width(model: ModelConfig) -> int:
    """Dimensions of a head's queries and keys: the config does not tell where they are not the model's shared out."""
    own = max((width for name, width in OWN_WIDTHS.items() if model.architecture.startswith(name)), default=0)
    return max(own, model.d_model // model.n_heads)


def mean_edges_memory(
    spec: MeanEdgesSpec, model: ModelConfig, coders: Sequence[CoderConfig], context: int
) -> Memory | None:
    """Of a text that fills a row, the feature active throughout. None where only the text tells how many others are."""
    everything, coders = loaded(model, coders), _reaching(spec, coders)
    T = targets = context
    found = graph_of(0, 1, model, coders, T)
    if found is None:
        return None
    nodes, _ = found
    n = tile(model, T, nodes, targets)
    features = sum(coder.n_features for coder in coders)
    where, text = "/spec/layer", "/spec/dataset"
    of_text = [
        *everything,
        Part(name="the text as the model saw it", bytes=recorded(model, T), field=text),
        Part(name="active features", bytes=encoded(coders, T) + NODE_BYTES * nodes, field=text),
        Part(name="sums by source", bytes=FLOAT64 * (4 * features + 2 * model.vocab_size), field=where),
    ]
    together = swept(model, coders, T, nodes, targets)
    return fullest(
        of_text,
        {
            "a sweep of firings": [Part(name="firings swept together", bytes=together, field=text)],
            "adding up their edges": [Part(name="edges into them", bytes=EDGE_SUMMED * n * nodes, field=text)],
        },
    )


def mean_edges_flops(
    spec: MeanEdgesSpec, model: ModelConfig, coders: Sequence[CoderConfig], tokens: int, context: int
) -> float:
    """As many firings as are enough, and all tokens read to find them."""
    coders = _reaching(spec, coders)
    firings = min(spec.firings + context, tokens)
    texts = tokens / context * pass_flops(model, context) + tokens * encoding(coders)
    return texts + firings * row_flops(model, coders, context)


def _reaching(spec: MeanEdgesSpec, coders: Sequence[CoderConfig]) -> Sequence[CoderConfig]:
    """Coders that have a part in the edges into the feature; the others are loaded all the same."""
    if any(coder.later_layers for coder in coders):
        return coders
    return [coder for coder in coders if coder.layer <= spec.layer]
