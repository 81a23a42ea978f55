"""The model's own predictions of the next token, and others held against them. Logits are the largest thing here."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from clew.models import Model


class Predictions:
    """Of one batch. Positions 1 .. T-2 of a row count, each predicting the token after it; sums are per row, float64.

    Beside the batch's own logits no more than three tensors of one row's are held at a time.
    """

    def __init__(self, model: Model, tokens_BT: Tensor, logits_BTV: Tensor) -> None:
        self._model = model
        self._tokens_BT = tokens_BT.to(logits_BTV.device)
        self._logits_BTV = logits_BTV
        self.ce_B = _stack(_cross_entropy(_log_p(logits_TV), next_P) for logits_TV, next_P in self._rows(logits_BTV))
        """-log p(next token), in nats."""

    def ce(self, resid_BTD: Tensor) -> Tensor:
        """[B]: cross-entropy of the predictions from another last residual stream."""
        return _stack(_cross_entropy(self._log_q(resid_TD), next_P) for resid_TD, next_P in self._rows(resid_BTD))

    def compare(self, resid_BTD: Tensor) -> dict[str, Tensor]:
        """[B] each, from another last residual stream: `ce_spliced`, `kl` from the model's own predictions to these, in
        nats, and `agreement`, the number of positions with the same most likely token."""
        ce, kl, agreement = [], [], []
        for (resid_TD, next_P), logits_TV in zip(self._rows(resid_BTD), self._logits_BTV, strict=True):
            log_p_PV, log_q_PV = _log_p(logits_TV), self._log_q(resid_TD)
            ce.append(_cross_entropy(log_q_PV, next_P))
            agreement.append((log_p_PV.argmax(-1) == log_q_PV.argmax(-1)).sum())
            kl.append(kl_div(log_q_PV, log_p_PV, reduction="none", log_target=True).sum(-1).double().sum())
        return {"ce_spliced": _stack(ce), "kl": _stack(kl), "agreement": _stack(agreement)}

    def _log_q(self, resid_TD: Tensor) -> Tensor:
        return _log_p(self._model.anatomy.logits(resid_TD[None])[0])

    def _rows(self, rows_B: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Each row with the tokens to predict."""
        return zip(rows_B, self._tokens_BT[:, 2:], strict=True)


def _log_p(logits_TV: Tensor) -> Tensor:
    """[T-2, V], in float32 at least."""
    logits_PV = logits_TV[1:-1]
    return (logits_PV if logits_PV.dtype == torch.float64 else logits_PV.float()).log_softmax(-1)


def _cross_entropy(log_p_PV: Tensor, next_P: Tensor) -> Tensor:
    return -log_p_PV.gather(-1, next_P[:, None]).double().sum()


def _stack(rows: Iterator[Tensor] | list[Tensor]) -> Tensor:
    return torch.stack(list(rows))
