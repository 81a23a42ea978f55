"""Prompts that a year must continue which is not before another, and how far the model continues them so.

"The war lasted from the year 1732 to the year 17": the next token is the tens digit of a year after 1732. Hanna et al.
(2023) ask this of GPT-2 small, whose tokens are pairs of digits; here each digit is a token of its own. Shape letters:
N contexts (noun, century, last digit of the start), Y = 10 start decades, B = N Y prompts, decades fastest, T position,
V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from clew_spec.errors import DataError

TEMPLATE = "The {noun} lasted from the year {start} to the year {century}"
DECADES = 10
COUNTED = range(1, 9)
"""Start decades with digits on both sides. The decade of the start itself is on neither: it may be right or wrong."""


@dataclass(frozen=True)
class Context:
    """What a prompt holds beside its start decade."""

    noun: str
    century: int
    ones: int

    def text(self, decade: int) -> str:
        start = f"{self.century}{decade}{self.ones}"
        return TEMPLATE.format(noun=self.noun, start=start, century=self.century)


@dataclass(frozen=True)
class Prompts:
    contexts: tuple[Context, ...]
    tokens_BT: Tensor
    """int64. All prompts have the same length, and differ in a context only at `start_position`."""
    digits_Y: Tensor
    """int64[10]: the tokens "0" to "9"."""
    start_position: int
    """Of the tens digit of the start."""

    def __len__(self) -> int:
        return len(self.tokens_BT)

    @property
    def length(self) -> int:
        return self.tokens_BT.shape[1]

    @property
    def decades_B(self) -> Tensor:
        return torch.arange(DECADES).repeat(len(self.contexts))

    @property
    def counted_B(self) -> Tensor:
        """bool: prompts whose start decade is in `COUNTED`."""
        return torch.isin(self.decades_B, torch.tensor(COUNTED))


def build_prompts(tokenizer: PreTrainedTokenizerBase, contexts: Sequence[Context]) -> Prompts:
    """Ten prompts for each context. Raises DataError where digits or nouns are not one token each."""
    texts = [context.text(decade) for context, decade in product(contexts, range(DECADES))]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    digits = [tokenizer(str(digit), add_special_tokens=False)["input_ids"] for digit in range(DECADES)]
    lengths = {len(ids) for ids in encoded}
    if len(lengths) != 1 or any(len(ids) != 1 for ids in digits):
        raise DataError("nouns and digits are not one token each with this tokenizer", where="studies/greater_than")
    tokens_BT, digits_Y = torch.tensor(encoded), torch.tensor(digits)[:, 0]
    differs_T = (tokens_BT[:DECADES] != tokens_BT[0]).any(0).nonzero()[:, 0].tolist()
    if len(differs_T) != 1 or tokens_BT[:DECADES, differs_T[0]].tolist() != digits_Y.tolist():
        raise DataError("start decades do not show at one token alone", where="studies/greater_than")
    return Prompts(tuple(contexts), tokens_BT, digits_Y, differs_T[0])


def digit_weights() -> Tensor:
    """[10, 10]: by start decade and digit, `+1 / n` for the n digits above it, `-1 / n` for the n below it, 0 for its
    own. A row times logits is their mean above the decade less their mean below; a one-sided row is nan nowhere, but
    says nothing of both sides: `COUNTED` leaves it out."""
    digit_Y = torch.arange(DECADES)
    above_YY = (digit_Y[None] > digit_Y[:, None]).float()
    below_YY = (digit_Y[None] < digit_Y[:, None]).float()
    return above_YY / above_YY.sum(1, keepdim=True).clamp_min(1) - below_YY / below_YY.sum(1, keepdim=True).clamp_min(1)


def logit_difference(prompts: Prompts, logits_BV: Tensor) -> Tensor:
    """float[B]: mean logit of the digits above the start decade, less the mean of those below it."""
    return (logits_BV[:, prompts.digits_Y] * digit_weights().to(logits_BV)[prompts.decades_B]).sum(-1)


def digit_probabilities(prompts: Prompts, logits_BV: Tensor) -> Tensor:
    """float[B, 10]: of each digit as the next token, among all tokens."""
    return logits_BV.softmax(-1)[:, prompts.digits_Y]


def probability_difference(prompts: Prompts, logits_BV: Tensor) -> Tensor:
    """float[B]: probability of all digits above the start decade, less that of all below it."""
    return (digit_probabilities(prompts, logits_BV) * digit_weights().to(logits_BV).sign()[prompts.decades_B]).sum(-1)
