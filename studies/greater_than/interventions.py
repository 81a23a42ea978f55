"""Take from features what they know of the start decade, or give them another prompt's, and see what the model does.

A change is a vector that is added to what an MLP writes at the last position; everything above it answers freely, and
the coder's error stays in place. Controls add as much: what other active features of the same layers write, or a random
direction, stretched to the same norm, prompt by prompt and layer by layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clew.circuits.replacement import Coder
from clew.models.recording import Hook, written_by
from studies.greater_than.last_position import LastPosition, over_decades
from studies.greater_than.prompts import DECADES, Prompts, digit_probabilities

Changes = Mapping[int, Tensor]
"""By layer, [B, D]: what is added to what its MLP writes."""
Features = Mapping[int, Sequence[int]]
"""By layer."""


def changed(last: LastPosition, changes: Changes) -> Tensor:
    """[B, V]: logits with `changes` added."""
    return last.logits(*(_add(last, layer, moved_BD) for layer, moved_BD in changes.items()))


def _add(last: LastPosition, layer: int, moved_BD: Tensor) -> Hook:
    def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> Tensor:
        return written_by(output) + moved_BD[:, None]

    return last.model.anatomy.blocks[layer].mlp_writer, hook


def levelled(coders: Mapping[int, Coder], active: Changes, features: Features) -> dict[int, Tensor]:
    """The change that gives features their mean over the start decades; `active` holds activations [B, F] by layer."""
    return _towards(coders, active, {layer: over_decades(z_BF) for layer, z_BF in active.items()}, features)


def transplanted(coders: Mapping[int, Coder], active: Changes, features: Features, shift: int) -> dict[int, Tensor]:
    """The change that gives features what they are, in the same context, with the start `shift` decades further on,
    from 9 to 0."""
    others = {layer: from_other_decade(z_BF, shift) for layer, z_BF in active.items()}
    return _towards(coders, active, others, features)


def from_other_decade(x_BX: Tensor, shift: int) -> Tensor:
    x_NYX: Tensor = x_BX.unflatten(0, (-1, DECADES))
    return x_NYX.roll(-shift, 1).flatten(0, 1)


def _towards(coders: Mapping[int, Coder], active: Changes, others: Changes, features: Features) -> dict[int, Tensor]:
    found = {}
    for layer, chosen in features.items():
        if chosen:
            these = list(chosen)
            found[layer] = (others[layer] - active[layer])[:, these] @ coders[layer].W_dec[these]
    return found


def of_same_norm(changes: Changes, others: Changes) -> dict[int, Tensor]:
    """`others`, each prompt's vector stretched to the norm that it has in `changes`."""
    found = {}
    for layer, moved_BD in changes.items():
        own_B1 = others[layer].norm(dim=-1, keepdim=True).clamp_min(1e-12)
        found[layer] = others[layer] * (moved_BD.norm(dim=-1, keepdim=True) / own_B1)
    return found


def random_directions(changes: Changes, generator: torch.Generator) -> dict[int, Tensor]:
    """One direction a layer, along which the change of each prompt has the norm it had, and the sign of a coin."""
    found = {}
    for layer, moved_BD in changes.items():
        direction_D = torch.randn(moved_BD.shape[1], generator=generator).to(moved_BD)
        signs_B1 = torch.randint(2, (len(moved_BD), 1), generator=generator).to(moved_BD) * 2 - 1
        found[layer] = signs_B1 * moved_BD.norm(dim=-1, keepdim=True) * direction_D / direction_D.norm()
    return found


def drawn(
    active: Changes, but: Features, generator: torch.Generator, *, sizes: Features | None = None, share: float = 0.05
) -> dict[int, list[int]]:
    """As many features of each layer as `sizes` has, if not given `but`, drawn from those that are not in `but` and
    active on more than `share` of the prompts."""
    found = {}
    for layer, like in (but if sizes is None else sizes).items():
        often_F = (active[layer] > 0).float().mean(0) > share
        often_F[list(but[layer])] = False
        candidates = often_F.nonzero()[:, 0]
        order = torch.randperm(len(candidates), generator=generator)[: len(like)]
        found[layer] = candidates[order].tolist()
    return found


def moved_with(prompts: Prompts, before_BV: Tensor, after_BV: Tensor, shift: int) -> float:
    """How much of the way to the other decade's probabilities of the ten digits the change has gone: 1 all of it, 0
    none; the least-squares share over all prompts."""
    before_BY, after_BY = digit_probabilities(prompts, before_BV), digit_probabilities(prompts, after_BV)
    way_BY = from_other_decade(before_BY, shift) - before_BY
    return float(((after_BY - before_BY) * way_BY).sum() / way_BY.pow(2).sum())
