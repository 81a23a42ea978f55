"""What a coder is: its kind, where it reads and writes, its activation function, its width."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from clew_spec.base import Spec
from clew_spec.datasets import Attention
from clew_spec.losses import LossSpec

Kind = Literal["transcoder", "skip-transcoder", "sae", "cross-layer-transcoder"]
Hook = Literal["mlp.in", "mlp.out", "resid"]


class ReLU(Spec):
    """Every positive pre-activation speaks."""

    kind: Literal["relu"] = "relu"


class TopK(Spec):
    """Keep the k largest pre-activations of a token, then ReLU."""

    kind: Literal["topk"] = "topk"
    k: int = Field(default=32, ge=1)


class BatchTopK(Spec):
    """Training keeps the k N largest pre-activations of a batch of N tokens (Bussmann et al. 2024).

    Use keeps those above one threshold, the running mean of the least that was kept: it is stored with the weights.
    """

    kind: Literal["batchtopk"] = "batchtopk"
    k: int = Field(default=32, ge=1)


class JumpReLU(Spec):
    """`z = pre * 1[pre > threshold]`, one learned threshold a feature, never below 0 (Rajamanoharan et al. 2024)."""

    kind: Literal["jumprelu"] = "jumprelu"
    threshold: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """Where thresholds start. Pre-activations start with a spread of about 1."""
    bandwidth: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    """Width of the rectangle through which thresholds get gradients, in the same unit. Of no effect in use."""


def _topk_unless_told(value: Any) -> Any:
    return {"kind": "topk", **value} if isinstance(value, dict) and "kind" not in value else value


Activation = Annotated[
    ReLU | TopK | BatchTopK | JumpReLU, Field(discriminator="kind"), BeforeValidator(_topk_unless_told)
]


class CoderSpec(Spec):
    kind: Kind = "transcoder"
    """`transcoder` writes what an MLP writes from what it reads; `skip-transcoder` adds a linear map of its input;
    `sae` writes what it reads; the features of a `cross-layer-transcoder` write to every later layer of its set too."""
    hook_in: Hook = "mlp.in"
    """`mlp.in`: what the MLP module receives, after its norm. `mlp.out`: what is added to the residual stream: what the
    MLP returns, after the norm that some families put there. `resid`: the residual stream after the block."""
    hook_out: Hook | None = None
    """If not given, `hook_in` for an SAE and `mlp.out` for the others."""
    activation: Activation = TopK()
    n_features: int = Field(default=2304, ge=1, le=2**22)
    loss: LossSpec = LossSpec()

    @property
    def writes(self) -> Hook:
        return self.hook_out or (self.hook_in if self.kind == "sae" else "mlp.out")

    @model_validator(mode="after")
    def _k_within_features(self) -> Self:
        if isinstance(self.activation, TopK | BatchTopK) and self.activation.k > self.n_features:
            raise ValueError(f"activation.k = {self.activation.k} is above n_features = {self.n_features}")
        return self

    @model_validator(mode="after")
    def _hooks_fit_the_kind(self) -> Self:
        if self.kind == "sae" and self.writes != self.hook_in:
            raise ValueError(f"an SAE writes what it reads: hook_in {self.hook_in}, hook_out {self.hook_out}")
        if self.kind != "sae" and self.writes == self.hook_in:
            raise ValueError(f"a {self.kind} cannot read and write {self.hook_in}: choose two hooks, or kind sae")
        return self

    @model_validator(mode="after")
    def _l0_has_thresholds(self) -> Self:
        if self.loss.sparsity == "l0" and not isinstance(self.activation, JumpReLU):
            raise ValueError("loss.sparsity = l0 teaches thresholds, which only activation jumprelu has")
        return self


class CoderConfig(Spec):
    """The `cfg.json` of a stored coder: all that is needed to use its weights.

    Weights are canonical: `W_enc` [F, d_in], `W_dec` [F, d_out], `b_enc` [F], `b_dec` [d_out]; skip transcoders have
    `W_skip` [d_out, d_in]; JumpReLU has `threshold` [F] and BatchTopK `threshold` [1].
    `z = activation(x @ W_enc.T + b_enc)`, `y_hat = z @ W_dec + b_dec (+ x @ W_skip.T)`; x is `x - b_dec` if `centred`.
    They are in the model's own units: whatever scaled activations in training is folded into them.
    A cross-layer transcoder is a set of these, one a layer: the one of layer l has a `W_dec_L07` [F, d_out] for each of
    its `later_layers`, and `y_hat` of layer 7 also holds `z @ W_dec_L07` of every coder of the set that has one.
    """

    format: Literal["clew-coder/1"] = "clew-coder/1"
    kind: Kind = "transcoder"
    activation: Activation
    n_features: int
    d_in: int
    d_out: int
    layer: int
    """Block index, from 0."""
    later_layers: list[int] = []
    """The layers above its own that a cross-layer transcoder writes to as well, ascending."""
    skip: bool = False
    """Whether a cross-layer transcoder has a `W_skip` too; a skip transcoder always does, others never."""
    hook_in: str = "mlp.in"
    """As in `CoderSpec`; of coders from elsewhere that are not yet fitted to a model also `mlp.normed`: what the MLP's
    norm makes before its gain and bias."""
    hook_out: str = "mlp.out"
    """As in `CoderSpec`; of coders from elsewhere also `mlp.returned`: what the MLP module returns, before any norm."""
    output_centred: bool = False
    """Whether it learned outputs less their mean over dimensions, as a model with centred writing weights has them. Of
    no effect on a model whose every norm subtracts that mean, and it fits no other. Its FVU counts that mean as error,
    as no norm stands before it there."""
    centred: bool = False
    """Whether the encoder reads `x - b_dec`: SAEs may, nothing else does."""
    loss: LossSpec | None = None
    """What it was trained on; null where that is not known."""
    dtype: str = "float32"
    model_digest: str
    tokenizer_digest: str
    dataset_digest: str | None = None
    """Null where that is not known."""
    bos: str
    attention: Attention = "row"
    """What tokens attended within in training: a `document`, as far as it is in one row, or a whole `row`."""
    positions_excluded: list[int] = [0]
    """Positions never trained on and never counted, from the beginning of what tokens attend within: position 0 is an
    attention sink."""

    @model_validator(mode="after")
    def _only_saes_are_centred(self) -> Self:
        if self.centred and (self.kind != "sae" or self.d_in != self.d_out):
            raise ValueError(f"a {self.kind} from {self.d_in} to {self.d_out} dimensions cannot be centred by b_dec")
        return self

    @model_validator(mode="after")
    def _only_cross_layer_transcoders_write_later(self) -> Self:
        later = self.later_layers
        if self.skip and self.kind not in ("cross-layer-transcoder", "skip-transcoder"):
            raise ValueError(f"a {self.kind} has no skip path")
        if later and (self.kind != "cross-layer-transcoder" or later != sorted({*later}) or later[0] <= self.layer):
            raise ValueError(f"a {self.kind} at layer {self.layer} cannot also write to the layers {later}")
        return self
