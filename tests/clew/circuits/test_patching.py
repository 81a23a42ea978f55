"""A patch is the model with one place exchanged: against the modules' own hooks, exact laws, and a planted circuit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.clew.circuits.planted import ANSWER, HEAD, JOINS, KINDS, OTHER, SEES_A, TOKENS_T, TRAP, TWO, A, planted
from tests.clew.families import FAMILIES, LAYERS, family_model
from tests.clew.toys import toy_tokens
from torch import Tensor

from clew.circuits.patching import Cell, Patcher, patch
from clew.models import Model
from clew.reporting import Silent
from clew_spec.errors import InvalidSpec
from clew_spec.patching import PatchDocument, PatchPlace, effect, effects, strongest

pytestmark = pytest.mark.science

CLEAN_T = toy_tokens(7)
CORRUPT_T = CLEAN_T.clone()
CORRUPT_T[2], CORRUPT_T[4] = 9, 30
PLACES: list[PatchPlace] = ["resid", "attn.out", "mlp.out", "head.out", "head.pattern", "head.value"]
_MODELS: dict[str, Model] = {}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def model_of(family: str) -> Model:
    if family not in _MODELS:
        _MODELS[family] = family_model(family)
    return _MODELS[family]


def logits(model: Model, tokens_T: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model.hf(input_ids=tokens_T[None], use_cache=False).logits[0, -1]
    return found


def found_of(model: Model, **options: Any) -> PatchDocument:
    given: dict[str, Any] = {"places": PLACES, "answer": 7, "wrong": 8, "report": Silent()} | options
    return patch(model, CLEAN_T, CORRUPT_T, **given)


@contextmanager
def exchanged(modules: list[Any], change: Callable[[Any, Tensor], Tensor], *, reads: bool = False) -> Iterator[None]:
    """The modules' outputs, or what they read, changed."""

    def pre(module: Any, args: Any) -> Any:
        return (change(module, args[0]), *args[1:])

    def post(module: Any, _args: Any, output: Any) -> Any:
        return change(module, output)

    handles = [m.register_forward_pre_hook(pre) if reads else m.register_forward_hook(post) for m in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def instead_of(tensors: dict[Any, Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda module, _: tensors[module]


def kept(model: Model, tokens_T: Tensor, modules: list[Any], *, reads: bool = False) -> dict[Any, Tensor]:
    seen: dict[Any, Tensor] = {}

    def keep(module: Any, tensor: Tensor) -> Tensor:
        seen[module] = tensor
        return tensor

    with exchanged(modules, keep, reads=reads):
        logits(model, tokens_T)
    return seen


def test_all_of_the_residual_stream_of_a_layer_is_the_other_prompt(family: str) -> None:
    model = model_of(family)
    for base_T, other_T in ((CORRUPT_T, CLEAN_T), (CLEAN_T, CORRUPT_T)):
        patcher = Patcher(model, base_T, other_T)
        for layer in range(-1, LAYERS):
            (patched_V,) = patcher.logits("resid", layer, [(None, None)])
            torch.testing.assert_close(patched_V, logits(model, other_T), atol=1e-12, rtol=0)
        nothing: list[Cell] = [(None, 0), (None, 1)]  # before the prompts differ
        for place in PLACES:
            for patched_V in patcher.logits(place, 1, nothing):
                torch.testing.assert_close(patched_V, logits(model, base_T), atol=1e-10, rtol=0)


def test_all_heads_are_the_attention_and_a_head_is_its_part_of_what_w_o_reads(family: str) -> None:
    """By a hook on the projection itself, which knows nothing of patterns, values and groups."""
    model = model_of(family)
    patcher = Patcher(model, CORRUPT_T, CLEAN_T)
    at: list[Cell] = [(None, position) for position in (2, 4, 6, None)]
    for layer in range(LAYERS):
        by_heads, whole = (patcher.logits(place, layer, at) for place in ("head.out", "attn.out"))
        torch.testing.assert_close(by_heads, whole, atol=1e-6, rtol=0)  # softmax of some families is taken in float32

    attention: Any = model.anatomy.blocks[1].attention.module
    project = next(getattr(attention, name) for name in ("o_proj", "c_proj", "dense") if hasattr(attention, name))
    clean = kept(model, CLEAN_T, [project], reads=True)[project]
    width = model.anatomy.blocks[1].attention.W_O_DHE.shape[2]
    moved = 0.0
    for head, position in [(h, t) for h in range(4) for t in (4, 6, None)]:
        rows = slice(None) if position is None else slice(position, position + 1)
        part = slice(head * width, (head + 1) * width)

        def change(_module: Any, read: Tensor, rows: slice = rows, part: slice = part) -> Tensor:
            read = read.clone()
            read[:, rows, part] = clean[:, rows, part]
            return read

        with exchanged([project], change, reads=True):
            expected_V = logits(model, CORRUPT_T)
        (patched_V,) = patcher.logits("head.out", 1, [(head, position)])
        torch.testing.assert_close(patched_V, expected_V, atol=1e-6, rtol=0)
        moved = max(moved, float((expected_V - logits(model, CORRUPT_T)).abs().max()))
    assert moved > 1e-3


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
def test_patterns_are_queries_and_keys_and_values_are_values(family: str) -> None:
    model = model_of(family)
    patcher = Patcher(model, CORRUPT_T, CLEAN_T)
    attention: Any = model.anatomy.blocks[1].attention.module
    places: list[tuple[PatchPlace, list[Any]]] = [
        ("head.value", [attention.v_proj]),
        ("head.pattern", [attention.q_proj, attention.k_proj]),
    ]
    for place, modules in places:
        clean = kept(model, CLEAN_T, modules)
        with exchanged(modules, instead_of(clean)):
            expected_V = logits(model, CORRUPT_T)
        (patched_V,) = patcher.logits(place, 1, [(None, None)])
        torch.testing.assert_close(patched_V, expected_V, atol=1e-6, rtol=0)
        assert (expected_V - logits(model, CORRUPT_T)).abs().max() > 1e-3


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_what_cannot_reach_the_answer_changes_nothing_and_batches_do_not_matter(family: str, direction: str) -> None:
    model = model_of(family)
    one = found_of(model, direction=direction, head_positions=True, prompts_per_batch=1)
    many = found_of(model, direction=direction, head_positions=True, prompts_per_batch=64)
    for left, right in zip(one.maps, many.maps, strict=True):
        a, b = torch.tensor(left.values), torch.tensor(right.values)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    unmoved = 0.0 if direction == "denoising" else 1.0
    for each in (one_of for found in one.maps for one_of in effects(found)):
        assert each.position is not None
        if each.position < 2:
            assert each.score == unmoved
        elif each.layer == LAYERS - 1 and each.position < 6:
            assert each.score == pytest.approx(unmoved, abs=1e-5)
        elif (each.place, each.layer, each.position) == ("resid", LAYERS - 1, 6):
            assert each.score == pytest.approx(1 - unmoved, abs=1e-9)
    heads = next(found for found in one.maps if found.place == "head.out")
    assert (len(heads.values), len(heads.values[0])) == (LAYERS * 4, len(CLEAN_T))
    moved = [each for each in strongest(one, 3) if each.place == "head.pattern"]
    assert len(moved) == 3
    assert all(each.score != pytest.approx(unmoved, abs=1e-4) for each in moved[:1])


def test_metrics_are_what_they_say_and_both_directions_share_one_scale() -> None:
    model = model_of("llama")
    clean_V, corrupt_V = (logits(model, tokens_T).softmax(-1) for tokens_T in (CLEAN_T, CORRUPT_T))
    kl = float((clean_V * (clean_V / corrupt_V).log()).sum())
    expected = {
        "logit-difference": tuple(float((p[7] / p[8]).log()) for p in (clean_V, corrupt_V)),
        "probability": (float(clean_V[7]), float(corrupt_V[7])),
        "kl": (0.0, kl),
    }
    for metric, (clean, corrupt) in expected.items():
        for direction in ("denoising", "noising"):
            found = found_of(model, metric=metric, direction=direction, places=["resid"])
            assert found.summary.clean_value == pytest.approx(clean, abs=1e-9)
            assert found.summary.corrupt_value == pytest.approx(corrupt, abs=1e-9)
            for each in effects(found.maps[0]):
                assert each.score == pytest.approx((each.value - corrupt) / (clean - corrupt), abs=1e-6)
            last = found.maps[0].scores[-1][-1]
            assert last == pytest.approx(1 if direction == "denoising" else 0, abs=1e-9)
    likely = found_of(model, answer=None, wrong=None, places=["resid"], layers=[2]).summary
    assert (likely.answer_id, likely.wrong_id) == (int(clean_V.argmax()), int(corrupt_V.argmax()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_circuit_is_found_where_it_lies(kind: str) -> None:
    model, _ = planted(kind)
    corrupt_T = torch.where(TOKENS_T == A, 10, TOKENS_T)
    for direction in ("denoising", "noising"):
        found = patch(
            model,
            TOKENS_T,
            corrupt_T,
            places=["mlp.out", "head.out", "head.value"],
            answer=ANSWER,
            wrong=OTHER,
            direction=direction,
            report=Silent(),
        )
        mlp, head, value = (found.maps[i] for i in range(3))
        scores = {(each.layer, each.position): each.score for each in effects(mlp)}
        carriers = [(SEES_A[0], 2), (TWO[0], 2), (JOINS[0], 5)]
        for at, score in scores.items():
            share = effect(score, found.summary.direction)
            assert share > 0.5 if at in carriers else abs(share) < 0.1, (at, share)
        for heads in (head, value):
            for each in effects(heads):
                share = effect(each.score, found.summary.direction)
                at_head = (each.layer, each.head)
                small = (
                    0.5 if at_head == TRAP else 0.1
                )  # in parallel blocks it only makes the final norm's scale smaller
                assert share > 0.5 if at_head == HEAD else abs(share) < small, each


@pytest.mark.parametrize(
    ("corrupt_T", "options", "match"),
    [
        (CLEAN_T[:5], {}, "clean prompt has 7 tokens and the corrupt one 5"),
        (CLEAN_T, {}, "are the same"),
        (CORRUPT_T, {"layers": [1, 3]}, "layer 3 is out of range"),
        (CORRUPT_T, {"answer": 8}, "are both '<8>'"),
    ],
)
def test_what_cannot_be_compared_is_refused(corrupt_T: Tensor, options: dict[str, Any], match: str) -> None:
    given: dict[str, Any] = {"places": PLACES, "answer": 7, "wrong": 8, "report": Silent()} | options
    with pytest.raises(InvalidSpec, match=match):
        patch(model_of("llama"), CLEAN_T, corrupt_T, **given)
