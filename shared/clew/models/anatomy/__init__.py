"""Where a language model keeps its parts: one short description per family, `prove` decides if it is right."""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

from clew.models.anatomy.gemma import gemma
from clew.models.anatomy.gpt import gpt2, gpt_neox
from clew.models.anatomy.llama import llama
from clew.models.anatomy.parts import Anatomy, Attention, Block, Norm, Scores
from clew_spec.errors import ModelError

__all__ = ["FAMILIES", "Anatomy", "Attention", "Block", "Norm", "Scores", "describe", "require_family"]

FAMILIES: dict[str, Callable[[Any], Anatomy]] = {
    "gemma2": gemma,
    "gemma3_text": gemma,
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "llama": llama,
    "mistral": llama,
    "qwen2": llama,
    "qwen3": llama,
}
"""By `model_type` of the Hugging Face config."""


def require_family(model_type: object) -> str:
    """Raises ModelError for a `model_type` that has no description."""
    if isinstance(model_type, str) and model_type in FAMILIES:
        return model_type
    raise ModelError(
        f"the architecture {model_type!r} is not understood",
        expected=f"a model_type out of {', '.join(sorted(FAMILIES))}",
        hint="describe its parts in clew.models.anatomy, or use a model of a known family",
    )


def describe(hf: PreTrainedModel) -> Anatomy:
    """The anatomy of a model. Raises ModelError where the family is unknown or a part is not where it should be."""
    family = require_family(hf.config.model_type)
    try:
        return FAMILIES[family](hf)
    except (AttributeError, RuntimeError) as error:
        raise ModelError(
            f"the model calls itself {family!r} but is not built like one: {error}",
            hint="only the causal language model of a family is understood, not its variants",
        ) from error
