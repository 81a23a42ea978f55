"""TopK as thresholds, for those who know no other: what that costs is measured and said.

Features no longer compete, so the choice of thresholds decides which speak together. Each feature is cut where it is
active on as many of the given tokens as before. Of the rules that keep L0, one threshold for all among them, this one
lost least FVU on trained toys, and a few hundred tokens were enough for it.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from clew.coders.coder import Coder
from clew.coders.reconstruction import Reconstruction
from clew.evaluation.fvu import Fvu
from clew_spec.coders import JumpReLU, TopK
from clew_spec.errors import InvalidSpec
from clew_spec.formats import Calibration

CHUNK = 2**22
"""Most pre-activations held at once."""


@torch.no_grad()
def with_thresholds(coder: Coder, x_ND: Tensor) -> Coder:
    """The JumpReLU coder each of whose features is active on as many of these tokens as the TopK coder's.

    So L0 on these tokens is the same, ties aside. A feature that none of them wakes is cut at its largest
    pre-activation there, or at the median threshold of the others if that is higher. Raises InvalidSpec without tokens,
    or where the coder has no TopK.
    """
    if not isinstance(coder.config.activation, TopK) or len(x_ND) == 0:
        raise InvalidSpec(
            f"no thresholds can be found for {coder.config.activation.kind} on {len(x_ND)} tokens",
            expected="topk, and at least one token",
        )
    x_ND = x_ND.to(coder.W_enc.dtype)
    n, n_features = len(x_ND), coder.config.n_features
    count_F = torch.zeros(n_features, dtype=torch.int64, device=x_ND.device)
    for part_ND in torch.split(x_ND, max(1, CHUNK // n_features)):
        indices_NK, values_NK = coder.encode(part_ND)
        count_F += torch.bincount(indices_NK[values_NK > 0], minlength=n_features)

    read_ND = coder.encoder_input(x_ND)
    parts = torch.split(torch.arange(n_features, device=x_ND.device), max(1, CHUNK // n))
    threshold_F = torch.cat([_cuts(linear(read_ND, coder.W_enc[f], coder.b_enc[f]), count_F[f]) for f in parts])
    if (awake_F := count_F > 0).any():
        threshold_F[~awake_F] = threshold_F[~awake_F].clamp_min(threshold_F[awake_F].median())
    config = coder.config.model_copy(update={"activation": JumpReLU()})
    return Coder.of(config, coder.parameters() | {"threshold": threshold_F})


def _cuts(pre_NF: Tensor, count_F: Tensor) -> Tensor:
    """[F]: a threshold at least 0 that `count` of the tokens are above, halfway between them and the next."""
    pre_NF = pre_NF.sort(0, descending=True).values
    n = len(pre_NF)
    least_F = pre_NF.gather(0, (count_F - 1).clamp_min(0)[None])[0]
    next_F = pre_NF.gather(0, count_F.clamp_max(n - 1)[None])[0].masked_fill(count_F == n, 0).clamp_min(0)
    return torch.where(count_F > 0, next_F + (least_F - next_F) / 2, next_F)


@torch.no_grad()
def calibrate(
    coders: Sequence[Coder],
    x: Mapping[int, Tensor],
    heldout: Iterable[Mapping[int, tuple[Tensor, Tensor]]],
) -> tuple[list[Coder], list[Calibration]]:
    """The same coders, by layer, with thresholds in place of TopK; and what it cost each that had TopK.

    x: [N, d_in] by layer, the tokens that thresholds are found on. heldout: batches of others, ([M, d_in], [M, d_out])
    by layer of all the coders; of a cross-layer transcoder what all its layers write is compared.
    """
    after = [
        with_thresholds(each, x[each.layer]) if isinstance(each.config.activation, TopK) else each for each in coders
    ]
    tallies = {each.layer: (_Tally(), _Tally()) for each in coders}
    for batch in heldout:
        for which, set_ in enumerate((coders, after)):
            reconstruction = Reconstruction({each.layer: each for each in set_})
            for each in set_:
                x_ND, y_ND = batch[each.layer]
                y_hat_ND, _, values_NK = reconstruction.at(each.layer, x_ND.to(each.W_enc.dtype))
                tallies[each.layer][which].update(y_ND, y_hat_ND, values_NK)
    changed = [old for old, new in zip(coders, after, strict=True) if new is not old]
    return after, [_report(each, len(x[each.layer]), *tallies[each.layer]) for each in changed]


class _Tally:
    def __init__(self) -> None:
        self.fvu, self.active = Fvu(), 0

    def update(self, y_ND: Tensor, y_hat_ND: Tensor, values_NK: Tensor) -> None:
        self.fvu.update(y_ND, y_hat_ND)
        self.active += int((values_NK > 0).sum())

    @property
    def l0(self) -> float:
        return self.active / self.fvu.tokens


def _report(coder: Coder, tokens: int, before: _Tally, after: _Tally) -> Calibration:
    if before.fvu.tokens == 0:
        raise InvalidSpec("there are no held-out tokens to measure on", where="/spec/dataset")
    return Calibration(
        layer=coder.layer,
        tokens=tokens,
        tokens_measured=before.fvu.tokens,
        l0_before=before.l0,
        l0_after=after.l0,
        fvu_before=before.fvu.value(),
        fvu_after=after.fvu.value(),
    )
