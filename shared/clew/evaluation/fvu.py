"""Fraction of variance unexplained, streamed."""

import torch
from torch import Tensor


class Fvu:
    """sum |y - y_hat|^2 / sum |y - y_bar|^2, `y_bar` the per-dimension mean over all that was seen.

    Sums are float64 and centred (Chan, Golub & LeVeque 1979), so neither a large mean nor the batch size shows.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._mean_D: Tensor | None = None
        self._variance = torch.zeros((), dtype=torch.float64)
        self._error = torch.zeros((), dtype=torch.float64)

    @torch.no_grad()
    def update(self, y_ND: Tensor, y_hat_ND: Tensor) -> None:
        y_ND = y_ND.double()
        n = len(y_ND)
        if n == 0:
            return
        mean_D = y_ND.mean(0)
        if self._mean_D is None:
            self._mean_D = torch.zeros_like(mean_D)
            self._variance, self._error = self._variance.to(mean_D.device), self._error.to(mean_D.device)
        delta_D = mean_D - self._mean_D
        total = self.tokens + n
        self._variance += (y_ND - mean_D).square().sum() + delta_D.square().sum() * (self.tokens * n / total)
        self._mean_D += delta_D * (n / total)
        self._error += (y_ND - y_hat_ND.double()).square().sum()
        self.tokens = total

    def value(self) -> float:
        """NaN where nothing was seen or nothing varies."""
        return float(self._error / self._variance)
