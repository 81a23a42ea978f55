"""Coders from elsewhere, brought to the places and the units of a model here."""

from collections.abc import Sequence
from dataclasses import replace

from clew.coders.coder import Coder
from clew.coders.folding import fold_gain
from clew.models import Model
from clew.models.anatomy import Block
from clew_spec.errors import InvalidSpec


def fit_to_model(coders: Sequence[Coder], model: Model) -> list[Coder]:
    """The same functions of what this model's own hooks hold.

    A gain and bias between what a coder reads and `mlp.in` are folded into it.
    Raises InvalidSpec where a layer or dimension is not the model's, or what a coder reads or writes cannot be had, or
    where a coder leaves out a mean over dimensions that a norm of the model would see.
    """
    return [_fit(coder, model) for coder in coders]


def _fit(coder: Coder, model: Model) -> Coder:
    config = coder.config
    highest = max([coder.layer, *config.later_layers])
    if highest >= model.n_layers:
        raise InvalidSpec(f"the model has no layer {highest}", expected=f"layers between 0 and {model.n_layers - 1}")
    if {config.d_in, config.d_out} != {model.d_model}:
        raise InvalidSpec(
            f"the coder at layer {coder.layer} maps {config.d_in} to {config.d_out} dimensions",
            expected=f"{model.d_model}, as the model has",
        )
    if config.output_centred and not all(norm.centred for norm in model.anatomy.norms):
        raise InvalidSpec(
            f"the coder at layer {coder.layer} learned outputs less their mean over dimensions",
            expected="a model whose every norm subtracts that mean",
        )
    block = model.anatomy.blocks[coder.layer]
    if coder.config.hook_in == "mlp.normed":
        coder = fold_gain(coder, block.mlp_norm)
    return _with_returned(coder, block)


def _with_returned(coder: Coder, block: Block) -> Coder:
    """What an MLP returns is what is added to the residual stream where no norm stands between the two."""
    hooks = {name: getattr(coder.config, name) for name in ("hook_in", "hook_out")}
    if "mlp.returned" not in hooks.values():
        return coder
    if block.mlp_post_norm is not None:
        raise InvalidSpec(
            f"the coder at layer {coder.layer} is of what the MLP returns before its post-norm",
            expected="coders of what is added to the residual stream",
        )
    found = {name: "mlp.out" if hook == "mlp.returned" else hook for name, hook in hooks.items()}
    return replace(coder, config=coder.config.model_copy(update=found))
