"""What a coder says to a batch while it learns: a chunk of tokens at a time, so that no [N, F] matrix is ever whole."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from clew.coders import Coder, activate
from clew_spec.chunks import tokens_at_once
from clew_spec.coders import JumpReLU
from clew_spec.losses import AuxK


@dataclass(frozen=True)
class Spoken:
    indices_NK: Tensor
    values_NK: Tensor
    """What is active, as `activate` says it while learning."""
    pre_NK: Tensor | None
    """Pre-activations in the same slots, of JumpReLU alone. Where a slot is padding, that of some feature or -inf:
    never near a threshold."""
    dead_indices_NK: Tensor | None = None
    dead_values_NK: Tensor | None = None
    """The dead features that would speak loudest, rectified, where AuxK asks for them."""


@torch.no_grad()
def speak(
    coder: Coder,
    x_ND: Tensor,
    *,
    auxk: AuxK | None = None,
    dead_F: Tensor | None = None,
    low_precision: bool = False,
    shrink: int = 1,
) -> Spoken:
    """Encode a batch to learn from it.

    `low_precision` multiplies in bfloat16, which chooses the features; `shrink` divides how many tokens are encoded
    together, where memory is short.
    """
    dead = dead_F.nonzero()[:, 0] if auxk is not None and dead_F is not None else None
    if dead is not None and len(dead) == 0:
        dead = None
    config, device = coder.config, x_ND.device.type
    chunks: list[Spoken] = []
    for x_CD in torch.split(
        x_ND, tokens_at_once(config.activation, config.n_features, len(x_ND), device, shrink=shrink)
    ):
        with torch.autocast(device, torch.bfloat16, enabled=low_precision):
            pre_CF = coder.pre_activations(x_CD)
        indices_CK, values_CK = activate(config.activation, pre_CF, coder.threshold, learning=True)
        pre_CK = pre_CF.gather(1, indices_CK).to(x_CD) if isinstance(config.activation, JumpReLU) else None
        chunk = Spoken(indices_CK, values_CK.to(x_CD), pre_CK)
        if dead is not None and auxk is not None:
            dead_values_CK, places_CK = pre_CF[:, dead].topk(min(auxk.k, len(dead)), dim=-1)
            chunk = replace(chunk, dead_indices_NK=dead[places_CK], dead_values_NK=dead_values_CK.relu().to(x_CD))
        chunks.append(chunk)
    if len(chunks) == 1:
        return chunks[0]
    return Spoken(
        *(
            _together([getattr(chunk, name) for chunk in chunks], filled)
            for name, filled in (
                ("indices_NK", 0),
                ("values_NK", 0),
                ("pre_NK", -torch.inf),
                ("dead_indices_NK", 0),
                ("dead_values_NK", 0),
            )
        )  # type: ignore[arg-type]  # the first two are never None
    )


def _together(parts: Sequence[Tensor | None], filled: float) -> Tensor | None:
    """Chunks one below the other, each as wide as the widest."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    width = max(part.shape[1] for part in found)
    return torch.cat([pad(part, (0, width - part.shape[1]), value=filled) for part in found])
