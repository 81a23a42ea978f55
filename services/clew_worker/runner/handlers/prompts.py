"""A prompt as the model sees it, with the first token that the coders were trained with."""

from collections.abc import Callable

import torch

from clew.data import bos_token_id
from clew.models import Model
from clew_spec.attribution import MAX_PROMPT_TOKENS
from clew_spec.base import Spec
from clew_spec.errors import InvalidSpec
from clew_worker.runner.work import Work


def trained_bos(work: Work[Spec], asked: str | None = None) -> str:
    """What the coders were trained with. Raises InvalidSpec where they disagree, or where the spec asks otherwise."""
    trained = sorted({str(record["config"]["bos"]) for record in work.coder_records})
    if len(trained) > 1:
        raise InvalidSpec(f"the coders were trained with different first tokens: {trained}", where="/spec/coders")
    if asked not in (None, trained[0]):
        raise InvalidSpec(
            f"the coders were trained with bos = {trained[0]!r}, not {asked!r}",
            where="/spec/bos",
            expected=repr(trained[0]),
        )
    return trained[0]


def coding(model: Model) -> tuple[Callable[[str], list[int]], Callable[[list[int]], str]]:
    """From a text to token ids, and back."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    return (
        lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]),
        lambda ids: str(tokenizer.decode(ids)),
    )


def prompt_tokens(model: Model, prompt: str, bos: str, where: str = "/spec/prompt") -> torch.Tensor:
    """int64. Raises InvalidSpec where the prompt has no tokens, or too many."""
    assert model.tokenizer is not None
    encode, _ = coding(model)
    first, ids = bos_token_id(model.tokenizer, bos), encode(prompt)
    tokens = [*([] if first is None else [first]), *ids]
    most = min(MAX_PROMPT_TOKENS, model.max_context)
    if not ids or len(tokens) > most:
        raise InvalidSpec(f"the prompt has {len(tokens)} tokens", where=where, expected=f"between 1 and {most} tokens")
    return torch.tensor(tokens)
