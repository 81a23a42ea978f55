"""What a graph explains: logits of next tokens, differences of two, or any direction the unembedding could read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clew.circuits.graph import Graph
from clew.models import Anatomy, Recording
from clew_spec.errors import InvalidSpec


@dataclass(frozen=True)
class Token:
    """The logit of a token, before any cap, less the mean over the vocabulary, or less the logit of another token."""

    token_id: int
    minus_id: int | None = None


@dataclass(frozen=True, eq=False)
class Direction:
    """`vector . x`, where x is what the unembedding reads at the last position. Nothing is subtracted from it."""

    name: str
    vector_D: Tensor
    weight: float = 1.0
    """In (0, 1]: its part in the influence, as the probability is a token's."""


@dataclass(frozen=True)
class LogitTargets:
    """N targets. Values are before the model's cap on logits."""

    targets: list[Token | Direction]
    probabilities: list[float]
    """Of a token as the next one; of a direction its weight."""
    vectors_ND: Tensor
    """What is read of the output of the final norm: unembedding rows less what is subtracted, or directions."""
    biases_N: Tensor | None
    """What the biases of the final norm and of the unembedding give, treated alike."""
    values_N: Tensor
    """float64 on the CPU."""


def likeliest(seen: Recording, max_logits: int, desired_logit_prob: float) -> list[Token]:
    """The fewest most likely next tokens that reach the desired probability, at most `max_logits`."""
    probabilities_V = seen.logits_TV[-1].double().softmax(-1)
    top = probabilities_V.topk(min(max_logits, len(probabilities_V)))
    n = int((top.values.cumsum(0) < desired_logit_prob).sum()) + 1
    return [Token(token) for token in top.indices[:n].tolist()]


def targets_of(graph: Graph) -> list[Token | Direction]:
    """What a stored graph explains, to be asked for again. Raises InvalidSpec for a direction that it does not keep."""
    return [
        Direction(target.token, graph.direction(k), target.probability)
        if target.token_id < 0
        else Token(target.token_id, target.minus_id)
        for k, target in enumerate(graph.targets)
    ]


def read_targets(
    anatomy: Anatomy, seen: Recording, targets: Sequence[Token | Direction], dtype: torch.dtype
) -> LogitTargets:
    """Raises InvalidSpec for a target that is not there or reads nothing."""
    _check(anatomy, targets)
    W_U_VD, b_U_V = anatomy.W_U_VD, anatomy.b_U_V
    at_least_float32 = torch.promote_types(W_U_VD.dtype, torch.float32)
    mean_D = W_U_VD.mean(0, dtype=at_least_float32)
    nothing = torch.zeros((), dtype=at_least_float32, device=W_U_VD.device)
    mean = nothing if b_U_V is None else b_U_V.mean(dtype=at_least_float32)
    probabilities_V = seen.logits_TV[-1].double().softmax(-1).clamp_min(torch.finfo(torch.float64).tiny)
    vectors, biases, probabilities = [], [], []
    for target in targets:
        if isinstance(target, Direction):
            vectors.append(target.vector_D.to(mean_D.device, dtype))
            biases.append(nothing.to(dtype))
            probabilities.append(target.weight)
            continue
        token, minus = target.token_id, target.minus_id
        vectors.append((W_U_VD[token] - (mean_D if minus is None else W_U_VD[minus])).to(dtype))
        if b_U_V is not None:
            biases.append((b_U_V[token] - (mean if minus is None else b_U_V[minus])).to(dtype))
        else:
            biases.append(nothing.to(dtype))
        probabilities.append(float(probabilities_V[token]))
    vectors_ND, biases_N = torch.stack(vectors), torch.stack(biases)
    values_N = vectors_ND.double() @ seen.final_out_TD[-1].double() + biases_N.double()
    norm_bias_D = anatomy.final_norm.bias_D
    if norm_bias_D is not None:  # the values have it already
        biases_N = biases_N + vectors_ND @ norm_bias_D.to(dtype)
    none = b_U_V is None and norm_bias_D is None
    return LogitTargets(list(targets), probabilities, vectors_ND, None if none else biases_N, values_N.cpu())


def _check(anatomy: Anatomy, targets: Sequence[Token | Direction]) -> None:
    where = "/spec/targets"
    if not targets:
        raise InvalidSpec("there is no target to explain", where=where)
    n_tokens, d_model = anatomy.W_U_VD.shape
    tokens = [target for target in targets if isinstance(target, Token)]
    if len({*tokens}) < len(tokens):
        raise InvalidSpec("a target is given twice", where=where)
    for target in targets:
        if isinstance(target, Token):
            ids = [target.token_id] if target.minus_id is None else [target.token_id, target.minus_id]
            if not all(0 <= token < n_tokens for token in ids):
                raise InvalidSpec(f"no tokens {ids}", where=where, expected=f"token ids below {n_tokens}")
            if target.token_id == target.minus_id:
                raise InvalidSpec(f"the logit of token {ids[0]} less itself is nothing", where=where)
        else:
            vector_D = target.vector_D
            if vector_D.shape != (d_model,) or not vector_D.isfinite().all() or not vector_D.any():
                raise InvalidSpec(
                    f"the direction {target.name} has the shape {tuple(vector_D.shape)} or is not finite, or zero",
                    where=where,
                    expected=f"{d_model} finite numbers, not all 0",
                )
            if not 0 < target.weight <= 1:
                raise InvalidSpec(f"the direction {target.name} has the weight {target.weight}", expected="in (0, 1]")
