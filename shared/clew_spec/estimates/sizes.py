"""How large models and coders are, and what passing tokens through them takes.

Bytes are those of the tensors that the code has at once, read off the code that allocates them; the tests count what it
really allocates. Letters: B rows of T tokens, N learned tokens, D width, F features, K slots for active ones a token.
"""

from collections.abc import Sequence
from math import prod

from clew_spec.chunks import TIED_AT_ONCE
from clew_spec.coders import Activation, BatchTopK, CoderConfig, CoderSpec, JumpReLU, TopK
from clew_spec.results import ModelConfig

FLOAT32 = 4
FLOAT64 = 8
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
RUNTIME_BYTES = 640 * 2**20
"""A runner before it has loaded anything, Python with torch and transformers or a CUDA context; and what its allocator
keeps of what was freed."""
TOKEN_BYTES = 6
"""Of a dataset: an int32 id and the int16 number of its document."""
BUSIEST = 8
"""BatchTopK: how many times the mean of k the busiest token of a batch is taken to have."""
UNGATED = ("GPT2", "GPTNeoX")
"""Architectures whose MLPs have two matrices; those of the others have three."""


def coder_shapes(coder: CoderSpec, layers: Sequence[int], d_model: int) -> list[list[tuple[int, ...]]]:
    """Of the weights that the coder of each of `layers` learns, the set being of these layers."""
    crosses = coder.kind == "cross-layer-transcoder"
    return [
        _shapes(
            coder.activation,
            coder.n_features,
            d_model,
            d_model,
            skip=coder.kind == "skip-transcoder",
            n_later=sum(later > layer for later in layers) if crosses else 0,
        )
        for layer in layers
    ]


def stored_parameters(config: CoderConfig) -> int:
    """Numbers of one coder of the catalogue."""
    skip = config.skip or config.kind == "skip-transcoder"
    shapes = _shapes(
        config.activation, config.n_features, config.d_in, config.d_out, skip=skip, n_later=len(config.later_layers)
    )
    return sum(map(prod, shapes))


def _shapes(
    activation: Activation, n_features: int, d_in: int, d_out: int, *, skip: bool, n_later: int
) -> list[tuple[int, ...]]:
    """The one threshold of BatchTopK is not learned, and too small to count."""
    matrices = [(n_features, d_in), *[(n_features, d_out)] * (1 + n_later), *[(d_out, d_in)] * skip]
    vectors = [(n_features,), (d_out,), *[(n_features,)] * isinstance(activation, JumpReLU)]
    return [*matrices, *vectors]


def slots(activation: Activation, n_features: int) -> int:
    """K: places that each token of a batch has for active features, as many as the busiest token needs.

    How many ReLU and JumpReLU wake is known only from data; while a coder is new it can be nearly all.
    """
    match activation:
        case TopK(k=k):
            return min(k, n_features)
        case BatchTopK(k=k):
            return min(BUSIEST * k, n_features)
        case _:
            return n_features


def encoding_bytes(activation: Activation, n_features: int, n_tokens: int) -> int:
    """From pre-activations [N, F] to active features: the most that `clew.coders.activate` has beside its input."""
    found = n_tokens * slots(activation, n_features)
    dense = n_tokens * n_features
    match activation:
        case TopK():
            # k + 1 values and indices, then k of each made contiguous, then ReLU; rows that are tied, sorted.
            return 28 * (found + n_tokens) + 32 * min(TIED_AT_ONCE, n_tokens) * n_features
        case BatchTopK(k=k):
            # Masks; and a value with its index for each of N F, which the CPU sorts to find the k N largest.
            return max(16 * dense + 12 * k * n_tokens, 6 * dense + 12 * found) + 3 * dense
        case JumpReLU():
            return 7 * dense + 13 * found
        case _:
            return 6 * dense + 13 * found


def reconstructing_bytes(activation: Activation, n_features: int, n_tokens: int, d_model: int) -> int:
    """Measuring a coder on n_tokens: its inputs, pre-activations, active features and output, FVU's float64 sums."""
    pre = n_tokens * n_features * FLOAT32
    found = 12 * n_tokens * slots(activation, n_features)
    encoding = pre + max(encoding_bytes(activation, n_features, n_tokens), found)
    decoding = found + 32 * n_tokens * d_model
    return 2 * n_tokens * d_model * FLOAT32 + max(encoding, decoding)


def forward_bytes(model: ModelConfig, rows: int, context: int, item: int) -> int:
    """One forward pass without logits: the most that a block has at once, eager attention's scores among it."""
    tokens = rows * context
    of_score = item + FLOAT32 + (FLOAT32 if item < FLOAT32 else 0)  # their softmax is taken in float32
    attention = tokens * model.d_model * 5 * item + tokens * context * (model.n_heads * of_score + item + 1)
    mlp = 4 * tokens * model.d_mlp * item
    stream = tokens * model.d_model * (2 * item + 2 * FLOAT32)  # norms compute in float32, too
    return stream + max(attention, mlp)


def forward_flops(model: ModelConfig, n_layers: int, context: int) -> float:
    """Of one token through the first `n_layers` blocks. A product of matrices is a multiplication and an addition."""
    d_model = model.d_model
    attention = 2 * d_model**2 * (1 + model.n_kv_heads / model.n_heads) + 2 * context * d_model
    matrices = 2 if model.architecture.startswith(UNGATED) else 3
    return 2 * n_layers * (attention + matrices * d_model * model.d_mlp)


def unembedding_flops(model: ModelConfig) -> float:
    return 2 * model.d_model * model.vocab_size


def encoding_flops(n_features: int, d_in: int) -> float:
    return 2 * n_features * d_in
