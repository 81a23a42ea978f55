"""A prompt's frozen network and its sweeps: what the analyses of circuits have in common.

As in `sizes`, bytes are those of the tensors that the code has at once. Letters beside those there: T tokens of the
prompt, L layers, N nodes and E edges of a graph, R its rows.
"""

from collections.abc import Sequence

from clew_spec.chunks import KEPT_BYTES, TILE_BYTES, TILE_TARGETS
from clew_spec.coders import Activation, BatchTopK, CoderConfig, TopK
from clew_spec.estimates.report import GraphFacts, Memory, Part
from clew_spec.estimates.sizes import (
    BUSIEST,
    FLOAT32,
    RUNTIME_BYTES,
    encoding_bytes,
    encoding_flops,
    forward_bytes,
    forward_flops,
    slots,
    stored_parameters,
    unembedding_flops,
)
from clew_spec.graph import Position0
from clew_spec.results import ModelConfig

BUSY_PROMPT = 2
"""BatchTopK: how many times the mean of k the tokens of a prompt are taken to have."""
LEARNED_POSITIONS = "GPT2"
"""The architecture whose positions are embedded, and so are nodes."""
NODE_BYTES = 64
EDGE = FLOAT32 + 4
"""A weight and its source."""
EDGE_CHECKED = EDGE + 24
"""With targets and rows, int64, once they were found to be in order."""
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


def loaded(model: ModelConfig, coders: Sequence[CoderConfig]) -> list[Part]:
    return [
        Part(name="the runner itself", bytes=RUNTIME_BYTES, field=""),
        Part(name="model weights", bytes=model.n_parameters * FLOAT32, field="/spec/coders"),
        Part(name="coder weights", bytes=sum(map(stored_parameters, coders)) * FLOAT32, field="/spec/coders"),
    ]


def fullest(always: list[Part], moments: dict[str, list[Part]]) -> Memory:
    """Of the moments the one that takes most, beside what is always there."""
    found = [Memory(moment=name, parts=[*always, *parts]) for name, parts in moments.items()]
    return max(found, key=lambda memory: memory.bytes)


def held(graph: GraphFacts) -> int:
    """While a graph is compared with its model."""
    return NODE_BYTES * graph.nodes + EDGE_SEARCHED * graph.edges


def graph_of(
    max_nodes: int,
    n_logits: int,
    model: ModelConfig,
    coders: Sequence[CoderConfig],
    T: int,
    position_0: Position0 = "error",
) -> tuple[int, int] | None:
    """Nodes and edges, the rows taken to be those that can have most edges.

    What the last layer's MLP writes before the last position reaches no logit: its features are swept after all others.
    """
    active = [0] * model.n_layers
    for coder in coders:
        found = awake(coder.activation, coder.n_features)
        if found is None:
            return None
        active[coder.layer] = found
    first = 0 if position_0 == "features" else 1
    outside = 1 + model.architecture.startswith(LEARNED_POSITIONS)
    nodes = T * (outside + 2 * model.n_layers) + (T - first) * sum(active) + n_logits + 1
    below, rows = 0, []
    for layer, here in enumerate(active):
        for t in range(first, T):
            # what is written below, at this position and before: tokens, positions, errors, biases, features; and by
            # the biases of the layer's own attention
            upstream = (t + 1) * (outside + 2 * layer + 1) + (t + 1 - first) * below
            reaches = layer < model.n_layers - 1 or t == T - 1
            rows.append((reaches, upstream, here))
        below += here
    edges, left = n_logits * nodes, max_nodes
    for _, upstream, here in sorted(rows, reverse=True):
        taken = min(here, left)
        edges, left = edges + taken * upstream, left - taken
    return nodes, edges


def recorded(model: ModelConfig, T: int) -> int:
    """Patterns, what norms and MLPs read and write, logits; and what one pass has beside."""
    a_layer = model.n_heads * T**2 + 4 * T * model.d_model
    logits = 2 * T * model.vocab_size
    return FLOAT32 * (model.n_layers * a_layer + logits) + forward_bytes(model, 1, T, FLOAT32)


def encoded(coders: Sequence[CoderConfig], T: int) -> int:
    return 12 * T * sum(slots(coder.activation, coder.n_features) for coder in coders) + encoding_work(coders, T)


def encoded_again(coders: Sequence[CoderConfig], graph: GraphFacts) -> int:
    """Of a graph's prompt: its nodes tell how many features are active where the coders do not."""
    T = graph.tokens
    mean = -(-graph.nodes // (T * max(1, len(coders))))
    widths = [
        slots(c.activation, c.n_features)
        if awake(c.activation, c.n_features) is not None
        else min(c.n_features, BUSIEST * mean)
        for c in coders
    ]
    decoders = max((2 * T * n * c.d_out * FLOAT32 for n, c in zip(widths, coders, strict=True)), default=0)
    return 12 * T * sum(widths) + max(decoders, encoding_work(coders, T))


def encoding_work(coders: Sequence[CoderConfig], T: int) -> int:
    """The widest coder on the prompt: pre-activations and active features, or then the decoders of these."""

    def work(coder: CoderConfig) -> int:
        pre = T * coder.n_features * FLOAT32 + encoding_bytes(coder.activation, coder.n_features, T)
        known = awake(coder.activation, coder.n_features)
        return max(
            pre, 0 if known is None else 2 * T * slots(coder.activation, coder.n_features) * coder.d_out * FLOAT32
        )

    return max(map(work, coders), default=0)


def widths(coders: Sequence[CoderConfig]) -> list[int]:
    """Vectors that the features of each coder write at a position at most."""
    return [slots(coder.activation, coder.n_features) * (1 + len(coder.later_layers)) for coder in coders]


def tile(model: ModelConfig, T: int, nodes: int, targets: int) -> int:
    """How many of the targets are swept together."""
    room = TILE_BYTES // (FLOAT32 * (3 * T * model.d_model + nodes))
    return max(1, min(TILE_TARGETS, room, targets))


def swept(model: ModelConfig, coders: Sequence[CoderConfig], T: int, nodes: int, targets: int) -> int:
    """Reading vectors on their way down; or then the dense rows, made sparse."""
    D = model.d_model
    widest = max((slots(coder.activation, coder.n_features) for coder in coders), default=0)
    kept = min(KEPT_BYTES, T * D * FLOAT32 * (2 * model.n_layers + sum(widths(coders))))
    decoders = 2 * T * widest * D * FLOAT32
    a_target = max(FLOAT32 * (T * (6 * D + 4 * widest) + nodes), FLOAT32 * T * D + 48 * nodes)
    return kept + decoders + tile(model, T, nodes, targets) * a_target


def row_flops(model: ModelConfig, coders: Sequence[CoderConfig], T: int) -> float:
    """Of one target, swept through all layers and positions."""
    attention = 2 * model.d_model * (model.d_model * (1 + model.n_kv_heads / model.n_heads) + T)
    return T * (model.n_layers * attention + 2 * model.d_model * (sum(widths(coders)) + 2 * model.n_layers))


def pass_flops(model: ModelConfig, T: int) -> float:
    return T * (forward_flops(model, model.n_layers, T) + unembedding_flops(model))


def encoding(coders: Sequence[CoderConfig]) -> float:
    """Of one token by all coders."""
    return sum(encoding_flops(coder.n_features, coder.d_in) for coder in coders)
