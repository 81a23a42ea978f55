"""What a coder is: its kind, its activation function, its width."""

from typing import Literal, Self

from pydantic import Field, model_validator

from clew_spec.base import Spec


class TopK(Spec):
    """Keep the k largest pre-activations of a token, then ReLU."""

    kind: Literal["topk"] = "topk"
    k: int = Field(default=32, ge=1)


class CoderSpec(Spec):
    kind: Literal["transcoder"] = "transcoder"
    """`transcoder` reads a block's MLP input and writes its MLP output."""
    activation: TopK = TopK()
    n_features: int = Field(default=2304, ge=1, le=2**22)

    @model_validator(mode="after")
    def _k_within_features(self) -> Self:
        if self.activation.k > self.n_features:
            raise ValueError(f"activation.k = {self.activation.k} is above n_features = {self.n_features}")
        return self


class CoderConfig(Spec):
    """The `cfg.json` of a stored coder: all that is needed to use its weights.

    Weights are canonical: `W_enc` [F, d_in], `W_dec` [F, d_out], `b_enc` [F], `b_dec` [d_out];
    `z = activation(x @ W_enc.T + b_enc)`, `y_hat = z @ W_dec + b_dec`. The input is not centred by `b_dec`.
    """

    format: Literal["clew-coder/1"] = "clew-coder/1"
    kind: Literal["transcoder"] = "transcoder"
    activation: TopK
    n_features: int
    d_in: int
    d_out: int
    layer: int
    """Block index, from 0."""
    hook_in: str = "mlp.in"
    """`mlp.in`: what the MLP module receives, after its norm."""
    hook_out: str = "mlp.out"
    """`mlp.out`: what the MLP module returns, before any post-norm and the residual addition."""
    dtype: str = "float32"
    model_digest: str
    tokenizer_digest: str
    dataset_digest: str
    bos: str
    positions_excluded: list[int] = [0]
    """Row positions never trained on and never counted: position 0 is an attention sink."""
