"""A coder: what one place of a model holds, or what another makes of it, through few features at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, linear

from clew.coders.activations import activate
from clew_spec.coders import BatchTopK, CoderConfig, JumpReLU
from clew_spec.errors import ModelError


@dataclass(frozen=True, eq=False)
class Coder:
    """`z = activation(x @ W_enc.T + b_enc)`, `y_hat = z @ W_dec + b_dec`, with what else `CoderConfig` says.

    Raises:
        ModelError: a weight is missing or too many, or its shape is not what the configuration says.
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
    W_skip: Tensor | None = None
    """[d_out, d_in], of coders with a skip path: `y_hat` also holds `x @ W_skip.T`."""
    threshold: Tensor | None = None
    """[F] of JumpReLU, [1] of BatchTopK."""
    W_later: Mapping[int, Tensor] = field(default_factory=dict)
    """[F, d_out] by layer: the decoders of a cross-layer transcoder's features for the layers above their own."""

    @classmethod
    def of(cls, config: CoderConfig, parameters: Mapping[str, Tensor]) -> Self:
        """From parameters by the names under which they are stored. Raises ModelError where they do not fit."""
        own = {name: parameter for name, parameter in parameters.items() if name in PARAMETERS}
        later = {int(name.removeprefix(LATER)): each for name, each in parameters.items() if name.startswith(LATER)}
        if missing := REQUIRED - set(own):
            raise ModelError(f"the coder at layer {config.layer} has no {', '.join(sorted(missing))}")
        return cls(config, **own, W_later=later)

    def __post_init__(self) -> None:
        expected = shapes(self.config)
        found = self.parameters()
        if set(found) != set(expected):
            raise ModelError(
                f"the coder at layer {self.layer} has the weights {', '.join(found)}", expected=", ".join(expected)
            )
        for name, parameter in found.items():
            if tuple(parameter.shape) != expected[name]:
                raise ModelError(
                    f"{name} of the coder at layer {self.layer} has the shape {tuple(parameter.shape)}",
                    expected=str(expected[name]),
                )

    @property
    def layer(self) -> int:
        return self.config.layer

    @property
    def hooks(self) -> tuple[str, str]:
        """Where it reads and where it writes."""
        return self.config.hook_in, self.config.hook_out

    def parameters(self) -> dict[str, Tensor]:
        """All that is stored, by name."""
        named = {name: getattr(self, name) for name in PARAMETERS}
        later = {decoder_name(layer): decoder for layer, decoder in sorted(self.W_later.items())}
        return {name: parameter for name, parameter in named.items() if parameter is not None} | later

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        moved = {name: parameter.to(device=device, dtype=dtype) for name, parameter in self.parameters().items()}
        return type(self).of(self.config, moved)

    def encoder_input(self, x_ND: Tensor) -> Tensor:
        """[N, d_in]: what the encoder reads of x."""
        return x_ND - self.b_dec if self.config.centred else x_ND

    def pre_activations(self, x_ND: Tensor) -> Tensor:
        """[N, F]"""
        return linear(self.encoder_input(x_ND), self.W_enc, self.b_enc)

    def encode(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """(indices_NK int64, values_NK), largest first; a value of 0 is padding."""
        return activate(self.config.activation, self.pre_activations(x_ND), self.threshold)

    def decode(self, indices_NK: Tensor, values_NK: Tensor, x_ND: Tensor | None = None) -> Tensor:
        """[N, d_out]. A skip transcoder also needs the `x_ND` that was encoded: ValueError without."""
        y_hat_ND = weighted_rows(self.W_dec, indices_NK, values_NK) + self.b_dec
        if self.W_skip is None:
            return y_hat_ND
        if x_ND is None:
            raise ValueError("a coder with a skip path decodes with its input")
        return y_hat_ND + linear(x_ND, self.W_skip)

    def forward(self, x_ND: Tensor) -> Tensor:
        """[N, d_out]: of a cross-layer transcoder, what it writes at its own layer; `Reconstruction` has the rest."""
        return self.decode(*self.encode(x_ND), x_ND)


PARAMETERS = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip", "threshold")
REQUIRED = frozenset({"W_enc", "b_enc", "W_dec", "b_dec"})
LATER = "W_dec_L"


def decoder_name(layer: int) -> str:
    """Under which the decoder for a later layer is stored."""
    return f"{LATER}{layer:02d}"


def weighted_rows(rows_FD: Tensor, indices_NK: Tensor, values_NK: Tensor) -> Tensor:
    """[N, D]: for each token the sum of the rows of its features, each times its value."""
    return embedding_bag(indices_NK, rows_FD, per_sample_weights=values_NK, mode="sum")


def shapes(config: CoderConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each weight that a coder of this configuration has, by name."""
    found: dict[str, tuple[int, ...]] = {
        "W_enc": (config.n_features, config.d_in),
        "b_enc": (config.n_features,),
        "W_dec": (config.n_features, config.d_out),
        "b_dec": (config.d_out,),
    }
    if config.skip or config.kind == "skip-transcoder":
        found["W_skip"] = (config.d_out, config.d_in)
    match config.activation:
        case JumpReLU():
            found["threshold"] = (config.n_features,)
        case BatchTopK():
            found["threshold"] = (1,)
    return found | {decoder_name(layer): (config.n_features, config.d_out) for layer in config.later_layers}
