"""The model's own predictions of the next token, and others held against them. Logits are the largest thing here."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from clew.data import Batch
from clew.models import Model


class Predictions:
    """Of one batch, at its P predicting positions a row, each of the token after it; sums are per row, float64.

    Beside the batch's own logits no more than three tensors of one row's are held at a time.
    """

    def __init__(self, model: Model, batch: Batch, logits_BTV: Tensor) -> None:
        self._model = model
        self._logits_BTV = logits_BTV
        self._places = [predicting_T.nonzero()[:, 0] for predicting_T in batch.predicting_BT]
        self._next = [tokens_T[at_P + 1] for tokens_T, at_P in zip(batch.tokens_BT, self._places, strict=True)]
        self.n_B = torch.tensor([len(at_P) for at_P in self._places])
        """How many there are."""
        self.ce_B = _stack(_cross_entropy(_log_p(logits_PV), next_P) for logits_PV, next_P in self._rows(logits_BTV))
        """-log p(next token), in nats."""

    def ce(self, resid_BTD: Tensor) -> Tensor:
        """[B]: cross-entropy of the predictions from another last residual stream."""
        return _stack(_cross_entropy(self._log_q(resid_PD), next_P) for resid_PD, next_P in self._rows(resid_BTD))

    def compare(self, resid_BTD: Tensor) -> dict[str, Tensor]:
        """[B] each, from another last residual stream: `ce_spliced`, `kl` from the model's own predictions to these, in
        nats, and `agreement`, the number of positions with the same most likely token."""
        ce, kl, agreement = [], [], []
        own = zip(self._logits_BTV, self._places, strict=True)
        for (resid_PD, next_P), (logits_TV, at_P) in zip(self._rows(resid_BTD), own, strict=True):
            log_p_PV, log_q_PV = _log_p(logits_TV[at_P]), self._log_q(resid_PD)
            ce.append(_cross_entropy(log_q_PV, next_P))
            agreement.append((log_p_PV.argmax(-1) == log_q_PV.argmax(-1)).sum())
            kl.append(kl_div(log_q_PV, log_p_PV, reduction="none", log_target=True).sum(-1).double().sum())
        return {"ce_spliced": _stack(ce), "kl": _stack(kl), "agreement": _stack(agreement)}

    def _log_q(self, resid_PD: Tensor) -> Tensor:
        return _log_p(self._model.anatomy.logits(resid_PD[None])[0])

    def _rows(self, held_BT: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each row what is held [P, ...] where it predicts, and the tokens to predict."""
        for held_T, at_P, next_P in zip(held_BT, self._places, self._next, strict=True):
            yield held_T[at_P], next_P


def _log_p(logits_PV: Tensor) -> Tensor:
    """In float32 at least."""
    return (logits_PV if logits_PV.dtype == torch.float64 else logits_PV.float()).log_softmax(-1)


def _cross_entropy(log_p_PV: Tensor, next_P: Tensor) -> Tensor:
    return -log_p_PV.gather(-1, next_P[:, None]).double().sum()


def _stack(rows: Iterator[Tensor] | list[Tensor]) -> Tensor:
    return torch.stack(list(rows))
