"""How much is taken at once: training, coders and attribution go by it, and estimates count by it."""

from clew_spec.coders import Activation, BatchTopK

FIRST_LOOK_TOKENS = 8192
"""To draw features from. Features beyond that start as random directions."""
FORWARD_TOKENS = {"cuda": 2**15, "cpu": 2**10}
"""In one forward pass: enough to fill a GPU, few enough for a CPU's cache."""
LEAST_TOKENS = 256
PRE_ACTIVATIONS = {"cuda": 2**28, "cpu": 2**22}
"""How many are held at once: enough to fill a GPU, few enough for a CPU's cache."""

TILE_BYTES = 256 * 2**20
"""Bound on what one tile of a sweep carries: `g` [positions, targets, D] and dense rows [targets, nodes]."""
TILE_TARGETS = 128
"""Targets swept together. Fewer waste positions less, more make larger matrix products."""
KEPT_BYTES = 64 * 2**20
"""Bound on what a sweep keeps of active decoders between tiles; beyond it they are gathered each time."""
READS_AT_ONCE = 64
"""Dimensions of a head's query or key that are carried down together."""
PAIRS_AT_ONCE = 2**20
"""Parts of a head's score that are looked at together."""

TIED_AT_ONCE = 64
"""Of which TopK sorts all pre-activations, where several are the k-th largest."""


def rows_at_once(context: int, device: str, *, shrink: int = 1) -> int:
    """How many rows one forward pass is over."""
    return max(1, FORWARD_TOKENS.get(device, FORWARD_TOKENS["cpu"]) // shrink // context)


def tokens_at_once(activation: Activation, n_features: int, n_tokens: int, device: str, *, shrink: int = 1) -> int:
    """How many tokens are encoded together. Those of BatchTopK compete, so for it: all of them."""
    if isinstance(activation, BatchTopK):
        return n_tokens
    room = PRE_ACTIVATIONS.get(device, PRE_ACTIVATIONS["cpu"]) // shrink
    return max(LEAST_TOKENS // shrink, room // n_features, 1)
