"""Activation patching: a prompt runs with one place as it was on another prompt of as many tokens.

A patch at a layer leaves everything below it alone, so a pass begins there. Heads are patched before W_O: what changes
is added through W_O to what the attention writes, before any norm after it. Shape letters: B patches, T positions,
D residual stream, V vocabulary, H heads, K key-value heads, E head dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clew.circuits.attribution import text_of
from clew.models import Model
from clew.models.recording import Hook, hooked, read_by, written_by
from clew.reporting import Report, StopRequested
from clew_spec.errors import InvalidSpec
from clew_spec.patching import (
    PatchDirection,
    PatchDocument,
    PatchMap,
    PatchMetric,
    PatchPlace,
    PatchSummary,
    require_layers,
    require_same_length,
)

Cell = tuple[int | None, int | None]
"""Head and position that are patched at a layer; None for all of them."""


@dataclass
class _Seen:
    """A prompt as the model reads it."""

    resid: list[Tensor]
    """[T, D] by layer: the residual stream as it enters each block, and last as it leaves the last one."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    """What each block is called with beside the residual stream: mask, positions."""
    attn_in: list[Tensor]
    pattern: list[Tensor]
    """[H, T, T]"""
    attn_out: list[Tensor]
    mlp_out: list[Tensor]
    logits_V: Tensor


class Patcher:
    """A base prompt, and another whose activations are put in its place.

    Raises InvalidSpec for prompts of different length, of no tokens or too many, and for the same prompt twice.
    """

    def __init__(self, model: Model, base_T: Tensor, other_T: Tensor) -> None:
        if not 1 <= len(base_T) <= model.max_context:
            raise InvalidSpec(
                f"the prompt has {len(base_T)} tokens",
                where="/spec/clean",
                expected=f"1 to {model.max_context} tokens",
            )
        require_same_length(len(base_T), len(other_T))
        self.model = model
        differs_T = base_T != other_T
        if not differs_T.any():
            raise InvalidSpec("the clean and the corrupt prompt are the same", where="/spec/corrupt")
        self.first_difference = int(differs_T.nonzero()[0])
        self.base, self.other = _see(model, base_T), _see(model, other_T)

    @property
    def n_tokens(self) -> int:
        return len(self.base.resid[0])

    @torch.inference_mode()
    def logits(self, place: PatchPlace, layer: int, cells: Sequence[Cell]) -> Tensor:
        """[B, V]: the model's logits at the last position, of the base prompt with each of `cells` patched alone.

        Layer -1 is there for `resid` only: the embeddings.
        """
        base, other = self.base, self.other
        at_BT = torch.tensor(
            [[position in (None, t) for t in range(self.n_tokens)] for _, position in cells],
            device=base.logits_V.device,
        )[:, :, None]
        if place == "resid":
            return self._from(layer + 1, torch.where(at_BT, other.resid[layer + 1], base.resid[layer + 1]))
        block = self.model.anatomy.blocks[layer]
        if place in ("attn.out", "mlp.out"):
            seen = other.attn_out if place == "attn.out" else other.mlp_out
            module = block.attn_writer if place == "attn.out" else block.mlp_writer
            hook = _rewrite(lambda out_BTD: torch.where(at_BT, seen[layer], out_BTD))
        else:
            module = block.attention.module
            added_BTD = torch.where(at_BT, self._moved(place, layer, [head for head, _ in cells]), 0)
            hook = _rewrite(lambda out_BTD: out_BTD + added_BTD)
        with hooked((module, hook)):
            return self._from(layer, base.resid[layer].expand(len(cells), -1, -1))

    def _moved(self, place: PatchPlace, layer: int, heads: Sequence[int | None]) -> Tensor:
        """[B, T, D]: what the attention writes otherwise, by one head or all, with what `place` names exchanged."""
        attention = self.model.anatomy.blocks[layer].attention
        pattern_HTT = (self.base if place == "head.value" else self.other).pattern[layer]
        read_TD = (self.base if place == "head.pattern" else self.other).attn_in[layer]
        moved_HTE = attention.mixed(read_TD, pattern_HTT) - attention.mixed(
            self.base.attn_in[layer], self.base.pattern[layer]
        )
        every = list(range(attention.n_heads))
        return torch.stack(
            [
                torch.einsum("hte,dhe->td", moved_HTE[chosen], attention.W_O_DHE[:, chosen])
                for chosen in (every if head is None else [head] for head in heads)
            ]
        )

    def _from(self, layer: int, x_BTD: Tensor) -> Tensor:
        """[B, V]: the last logits, of what enters `layer`."""
        for block, (args, kwargs) in list(zip(self.model.anatomy.blocks, self.base.calls, strict=True))[layer:]:
            x_BTD = written_by(block.module(x_BTD, *args, **kwargs))
        return self.model.anatomy.logits(x_BTD[:, -1:])[:, 0]


@torch.inference_mode()
def patch(
    model: Model,
    clean_T: Tensor,
    corrupt_T: Tensor,
    *,
    places: Sequence[PatchPlace],
    answer: int | None = None,
    wrong: int | None = None,
    metric: PatchMetric = "logit-difference",
    direction: PatchDirection = "denoising",
    layers: Sequence[int] | None = None,
    head_positions: bool = False,
    prompts_per_batch: int = 16,
    report: Report,
    prompts: tuple[str, str] | None = None,
    bos: str = "none",
) -> PatchDocument:
    """Every one of `places`, at each layer and each position or head, patched alone.

    `clean_T`, `corrupt_T` int64, as the model sees them; `prompts` (clean, corrupt) and `bos` are recorded. `answer`
    and `wrong` are by default the most likely tokens after the clean and the corrupt prompt. Raises InvalidSpec for
    prompts that `Patcher` refuses, a layer that is not there, and a metric that is the same on both prompts;
    StopRequested between batches.
    """
    require_same_length(len(clean_T), len(corrupt_T))
    require_layers(layers, model.n_layers)
    denoising = direction == "denoising"
    patcher = Patcher(model, *((corrupt_T, clean_T) if denoising else (clean_T, corrupt_T)))
    clean, corrupt = (patcher.other, patcher.base) if denoising else (patcher.base, patcher.other)
    answer = int(clean.logits_V.argmax()) if answer is None else answer
    wrong = int(corrupt.logits_V.argmax()) if wrong is None else wrong
    measured = _measure(metric, clean.logits_V, answer, wrong)
    clean_value, corrupt_value = (float(measured(seen.logits_V[None])[0]) for seen in (clean, corrupt))
    summary = PatchSummary(
        clean=text_of(model, clean_T.tolist()) if prompts is None else prompts[0],
        corrupt=text_of(model, corrupt_T.tolist()) if prompts is None else prompts[1],
        clean_tokens=[text_of(model, [token]) for token in clean_T.tolist()],
        corrupt_tokens=[text_of(model, [token]) for token in corrupt_T.tolist()],
        bos=bos,
        answer=text_of(model, [answer]),
        answer_id=answer,
        wrong=text_of(model, [wrong]),
        wrong_id=wrong,
        metric=metric,
        direction=direction,
        clean_value=clean_value,
        corrupt_value=corrupt_value,
        first_difference=patcher.first_difference,
    )
    _check(summary)
    chosen = list(range(model.n_layers)) if layers is None else sorted(layers)
    empty = [_empty(patcher, place, chosen, head_positions) for place in places]
    total = sum(len(each.layers) * len(_cells(patcher, each)) for each in empty)
    done, maps = 0, []
    for found in empty:
        cells, width = _cells(patcher, found), len(found.positions or found.heads or [])
        rows: list[list[float]] = []
        for layer in found.layers:
            values = []
            for start in range(0, len(cells), prompts_per_batch):
                if report.stop_requested():
                    raise StopRequested
                batch = cells[start : start + prompts_per_batch]
                values += measured(patcher.logits(found.place, layer, batch)).tolist()
                done += len(batch)
                report.progress("patch", done, total, "patches")
            of_cell = dict(zip(cells, values, strict=True))
            unmoved = corrupt_value if denoising else clean_value
            flat = [of_cell.get(cell, unmoved) for cell in _all_cells(found)]
            rows += [flat[first : first + width] for first in range(0, len(flat), width)]
        scores = [[(value - corrupt_value) / (clean_value - corrupt_value) for value in row] for row in rows]
        maps.append(found.model_copy(update={"values": rows, "scores": scores}))
    return PatchDocument(summary=summary, maps=maps)


def _empty(patcher: Patcher, place: PatchPlace, layers: list[int], head_positions: bool) -> PatchMap:
    of_heads = place.startswith("head.")
    return PatchMap(
        place=place,
        layers=[-1, *layers] if place == "resid" and layers[0] == 0 else layers,
        heads=list(range(patcher.model.anatomy.blocks[0].attention.n_heads)) if of_heads else None,
        positions=list(range(patcher.n_tokens)) if head_positions or not of_heads else None,
        values=[],
        scores=[],
    )


def _all_cells(found: PatchMap) -> list[Cell]:
    """Of one layer, in the order of the map."""
    heads: list[int | None] = [None] if found.heads is None else [*found.heads]
    positions: list[int | None] = [None] if found.positions is None else [*found.positions]
    return [(head, position) for head in heads for position in positions]


def _cells(patcher: Patcher, found: PatchMap) -> list[Cell]:
    """Those where the prompts can differ: no token sees a later one."""
    return [
        (head, position)
        for head, position in _all_cells(found)
        if position is None or position >= patcher.first_difference
    ]


def _measure(metric: PatchMetric, clean_V: Tensor, answer: int, wrong: int) -> Callable[[Tensor], Tensor]:
    """From logits [B, V] to float64 [B]."""
    if metric == "logit-difference":
        return lambda logits_BV: (logits_BV[:, answer].double() - logits_BV[:, wrong].double()).cpu()
    if metric == "probability":
        return lambda logits_BV: logits_BV.double().softmax(-1)[:, answer].cpu()
    clean_V = clean_V.double().log_softmax(-1)
    return lambda logits_BV: (clean_V.exp() * (clean_V - logits_BV.double().log_softmax(-1))).sum(-1).cpu()


def _check(summary: PatchSummary) -> None:
    if summary.metric == "logit-difference" and summary.answer_id == summary.wrong_id:
        raise InvalidSpec(
            f"the answer and the wrong one are both {summary.answer!r}",
            where="/spec/wrong",
            expected="two tokens between which the prompts decide",
            hint="give both; left out, they are the most likely tokens after the two prompts",
        )
    if abs(summary.clean_value - summary.corrupt_value) <= 1e-9 * max(1.0, abs(summary.clean_value)):
        raise InvalidSpec(
            f"the {summary.metric} is {summary.clean_value:.4g} on both prompts",
            where="/spec/corrupt",
            expected="prompts on which it differs",
        )


def _rewrite(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """A hook that changes what a module writes."""

    def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return hook


@torch.inference_mode()
def _see(model: Model, tokens_T: Tensor) -> _Seen:
    blocks = model.anatomy.blocks
    found: dict[tuple[int, str], Any] = {}

    def keep(layer: int, name: str, of: Callable[[Any, Any, Any], Any]) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            found[layer, name] = of(args, kwargs, output)

        return hook

    def entering(args: Any, kwargs: Any, _output: Any) -> Any:
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        return read_by(args, kwargs)[0], (args[1:], rest)

    def written(_args: Any, _kwargs: Any, output: Any) -> Tensor:
        return written_by(output)[0]

    hooks: list[Hook] = [(blocks[-1].module, keep(len(blocks), "resid", written))]
    for layer, block in enumerate(blocks):
        hooks += [
            (block.module, keep(layer, "entering", entering)),
            (block.attention.module, keep(layer, "attn_in", lambda args, kwargs, _: read_by(args, kwargs)[0])),
            (block.attention.module, keep(layer, "pattern", lambda _args, _kwargs, output: output[1][0])),
            (block.attn_writer, keep(layer, "attn_out", written)),
            (block.mlp_writer, keep(layer, "mlp_out", written)),
        ]
    with hooked(*hooks):
        logits = model.hf(input_ids=tokens_T[None].to(model.device), use_cache=False, logits_to_keep=1).logits
    layers = range(len(blocks))
    return _Seen(
        resid=[*(found[layer, "entering"][0] for layer in layers), found[len(blocks), "resid"]],
        calls=[found[layer, "entering"][1] for layer in layers],
        **{name: [found[layer, name] for layer in layers] for name in ("attn_in", "pattern", "attn_out", "mlp_out")},
        logits_V=logits[0, -1],
    )
