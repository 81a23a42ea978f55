"""A transcoder: reads what an MLP reads, writes what it writes, through few features at a time."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, linear

from clew.coders.activations import activate
from clew_spec.coders import CoderConfig
from clew_spec.errors import ModelError

PARAMETERS = ("W_enc", "b_enc", "W_dec", "b_dec")


@dataclass(frozen=True, eq=False)
class Coder:
    """`z = activation(x @ W_enc.T + b_enc)`, `y_hat = z @ W_dec + b_dec`, laid out as `CoderConfig` says.

    A new kind of coder is a class with these methods and a case in `clew.coders.store`.

    Raises:
        ModelError: a weight's shape is not what the configuration says.
    """

    config: CoderConfig
    W_enc: Tensor
    """[F, d_in]"""
    b_enc: Tensor
    """[F]"""
    W_dec: Tensor
    """[F, d_out]"""
    b_dec: Tensor
    """[d_out]"""

    def __post_init__(self) -> None:
        expected = shapes(self.config)
        for name, parameter in self.parameters().items():
            if tuple(parameter.shape) != expected[name]:
                raise ModelError(
                    f"{name} of the coder at layer {self.layer} has the shape {tuple(parameter.shape)}",
                    expected=str(expected[name]),
                )

    @property
    def layer(self) -> int:
        return self.config.layer

    def parameters(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in PARAMETERS}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        moved = {name: parameter.to(device=device, dtype=dtype) for name, parameter in self.parameters().items()}
        return type(self)(self.config, **moved)

    def pre_activations(self, x_ND: Tensor) -> Tensor:
        """[N, F]"""
        return linear(x_ND, self.W_enc, self.b_enc)

    def encode(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """(indices_NK int64, values_NK), largest first; a value of 0 is padding."""
        return activate(self.config.activation, self.pre_activations(x_ND))

    def decode(self, indices_NK: Tensor, values_NK: Tensor) -> Tensor:
        """[N, d_out]"""
        return embedding_bag(indices_NK, self.W_dec, per_sample_weights=values_NK, mode="sum") + self.b_dec

    def forward(self, x_ND: Tensor) -> Tensor:
        """[N, d_out]"""
        return self.decode(*self.encode(x_ND))


def shapes(config: CoderConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each weight, by name."""
    return {
        "W_enc": (config.n_features, config.d_in),
        "b_enc": (config.n_features,),
        "W_dec": (config.n_features, config.d_out),
        "b_dec": (config.d_out,),
    }
