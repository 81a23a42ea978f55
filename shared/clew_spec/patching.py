"""Patch a model's activations from one prompt into another, place by place."""

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field, field_validator

from clew_spec.attribution import Text, one_token
from clew_spec.base import Ref, Spec
from clew_spec.errors import InvalidSpec

PatchPlace = Literal["resid", "attn.out", "mlp.out", "head.out", "head.pattern", "head.value"]
"""`resid`: the residual stream after a block; of layer -1, as it enters the first. `attn.out`, `mlp.out`: what a
sublayer adds to it, after the norm that some families put there. `head.out`: what a head makes before W_O;
`head.pattern` and `head.value`: the same where only its attention pattern, or only the values that it mixes, come from
the other prompt."""
PatchMetric = Literal["logit-difference", "probability", "kl"]
"""`logit-difference`: logit of the answer less that of the wrong one. `probability`: of the answer. `kl`: KL(clean ||
patched) of the next token's distribution, nats. All of the model's own logits at the last position."""
PatchDirection = Literal["denoising", "noising"]
"""`denoising`: the corrupt prompt runs with one place as on the clean one, which shows what is enough to restore the
answer. `noising`: the clean prompt runs with one place as on the corrupt one, which shows what the answer needs."""


class PatchSpec(Spec):
    kind: Literal["patch"] = "patch"
    model: Ref
    clean: str = Field(min_length=1, max_length=20_000)
    corrupt: str = Field(min_length=1, max_length=20_000)
    """As many tokens as `clean`, and unlike it in what the answer depends on."""
    answer: Text | None = None
    """One token, written as it would follow the prompt; if not given, the most likely one after `clean`."""
    wrong: Text | None = None
    """The token whose logit is subtracted; if not given, the most likely one after `corrupt`."""
    bos: str = Field(default="none", min_length=1, max_length=64)
    """What stands first in both: `none`, `bos` (the tokenizer's own), or a token's text."""
    places: list[PatchPlace] = Field(default=["resid", "attn.out", "mlp.out", "head.out"], min_length=1)
    layers: list[int] | None = Field(default=None, min_length=1)
    """All of them if not given."""
    head_positions: bool = False
    """Whether heads are patched at one position at a time; else at all of them together."""
    metric: PatchMetric = "logit-difference"
    direction: PatchDirection = "denoising"
    prompts_per_batch: int = Field(default=16, ge=1, le=4096)
    """Affects speed and memory only."""

    @field_validator("places", "layers")
    @classmethod
    def _each_once(cls, values: list[str] | list[int] | None) -> list[str] | list[int] | None:
        if values is not None and len({*values}) < len(values):
            raise ValueError("something is given twice")
        return values

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: list[int] | None) -> list[int] | None:
        if layers is None:
            return None
        if min(layers) < 0:
            raise ValueError("layers count from 0")
        return sorted(layers)


def require_same_length(clean: int, corrupt: int) -> None:
    """Raises InvalidSpec for prompts of different numbers of tokens: no position would stand for the same."""
    if clean != corrupt:
        raise InvalidSpec(
            f"the clean prompt has {clean} tokens and the corrupt one {corrupt}",
            where="/spec/corrupt",
            expected="as many tokens in both",
            hint="exchange words for others of as many tokens",
        )


def require_layers(layers: Sequence[int] | None, n_layers: int) -> None:
    """Raises InvalidSpec for a layer that the model does not have."""
    for index, layer in enumerate(layers or ()):
        if layer >= n_layers:
            raise InvalidSpec(
                f"layer {layer} is out of range: the model has {n_layers} layers",
                where=f"/spec/layers/{index}",
                expected=f"0 to {n_layers - 1}",
            )


def answer_ids(
    spec: PatchSpec, encode: Callable[[str], Sequence[int]], decode: Callable[[list[int]], str]
) -> tuple[int | None, int | None]:
    """The ids of `answer` and `wrong`, as far as they are given. Raises InvalidSpec for what is not one token."""
    answer = None if spec.answer is None else one_token(spec.answer, encode(spec.answer), decode, "/spec/answer")
    wrong = None if spec.wrong is None else one_token(spec.wrong, encode(spec.wrong), decode, "/spec/wrong")
    if answer is not None and answer == wrong:
        raise InvalidSpec("the answer and the wrong one are the same token", where="/spec/wrong")
    return answer, wrong


class PatchMap(Spec):
    """What one kind of place does, patched at each of its layers, heads and positions alone."""

    place: PatchPlace
    layers: list[int]
    heads: list[int] | None
    """Null where the place has none."""
    positions: list[int] | None
    """Null where all are patched together."""
    values: list[list[float]]
    """The metric. A row a layer, or, of heads at single positions, a row a layer and head, the layer first; a column a
    position, or a head where there are no positions."""
    scores: list[list[float]]
    """The same as (value - corrupt) / (clean - corrupt): 1 as on the clean prompt, 0 as on the corrupt one."""


class PatchSummary(Spec):
    clean: str
    corrupt: str
    clean_tokens: list[str]
    corrupt_tokens: list[str]
    bos: str
    answer: str
    answer_id: int
    wrong: str
    wrong_id: int
    metric: PatchMetric
    direction: PatchDirection
    clean_value: float
    """The metric on the clean prompt as it is."""
    corrupt_value: float
    first_difference: int
    """The first position where the prompts differ: patching those before it changes nothing."""


class PatchEffect(Spec):
    """One place, patched alone."""

    place: PatchPlace
    layer: int
    head: int | None
    position: int | None
    """Null: all positions together."""
    value: float
    score: float


class PatchDocument(Spec):
    """`patch.json`."""

    format: Literal["clew-patch/1"] = "clew-patch/1"
    summary: PatchSummary
    maps: list[PatchMap]


def effect(score: float, direction: PatchDirection) -> float:
    """How far the patch brought the metric from where it was to where it is on the other prompt, as a share."""
    return score if direction == "denoising" else 1 - score


def rows_of(found: PatchMap) -> list[tuple[int, int | None]]:
    """Layer and head of each row of a map; no head where those are its columns or the place has none."""
    heads: list[int | None] = [None]
    if found.heads is not None and found.positions is not None:
        heads = [*found.heads]
    return [(layer, head) for layer in found.layers for head in heads]


def effects(found: PatchMap) -> list[PatchEffect]:
    """Every place of a map, row by row."""
    columns = found.positions if found.positions is not None else found.heads or []
    return [
        PatchEffect(
            place=found.place,
            layer=layer,
            head=head if found.positions is not None else column,
            position=None if found.positions is None else column,
            value=value,
            score=score,
        )
        for (layer, head), values, scores in zip(rows_of(found), found.values, found.scores, strict=True)
        for column, value, score in zip(columns, values, scores, strict=True)
    ]


def strongest(document: PatchDocument, top: int) -> list[PatchEffect]:
    """Of each kind of place the `top` whose patch moves the metric farthest, either way."""
    direction = document.summary.direction
    return [
        each
        for found in document.maps
        for each in sorted(effects(found), key=lambda each: -abs(effect(each.score, direction)))[:top]
    ]
