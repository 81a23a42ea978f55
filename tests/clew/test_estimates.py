"""What is estimated, against the bytes that tensors really take."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.clew.families import CONTEXT, FAMILIES, LAYERS, family_model
from tests.clew.toys import toy_model, toy_tokens
from tests.clew.training.conftest import make_dataset

from clew.circuits.patching import patch
from clew.coders import Coder
from clew.coders.coder import shapes
from clew.data import Dataset
from clew.evaluation import evaluate
from clew.models import Model, hook_activations
from clew.reporting import Silent
from clew.training import harvest, train
from clew_spec.coders import BatchTopK, CoderConfig, CoderSpec
from clew_spec.estimates import DatasetFacts, Estimate, Facts, estimate
from clew_spec.estimates.sizes import RUNTIME_BYTES, coder_shapes, forward_bytes, stored_parameters
from clew_spec.evaluation import EvaluateSpec
from clew_spec.patching import PatchSpec
from clew_spec.results import Lineage
from clew_spec.training import TrainSpec

pytestmark = pytest.mark.science

TOO_HIGH = 1.6
SIZES: dict[str, Any] = {"n_layers": 4, "d_model": 256, "n_heads": 8, "n_kv_heads": 4, "max_context": 128}
TOPK = {"n_features": 1024, "activation": {"kind": "topk", "k": 16}}


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that tensors of this thread held at once during `work`, beyond what they held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    moves = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for move in sorted(moves, key=lambda event: event.start_ns()):
        held += move.nbytes()
        most = max(most, held)
    return most


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {dtype: toy_model(dtype=getattr(torch, dtype), **SIZES) for dtype in ("float32", "bfloat16")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"), train=40, heldout=8, context=128)


def facts(model: Model, dataset: Dataset, *coders: CoderConfig, device: str = "cpu") -> Facts:
    manifest = dataset.manifest
    return Facts(
        model=model.config(),
        dataset=DatasetFacts(
            context=manifest.context, train_tokens=manifest.train_tokens, heldout_tokens=manifest.heldout_tokens
        ),
        coders=list(coders),
        device=device,
    )


def check(said: Estimate, model: Model, held: int) -> None:
    weights = sum(weight.numel() * weight.element_size() for weight in model.hf.parameters())
    assert said.memory_bytes is not None
    assert held + weights <= said.memory_bytes - RUNTIME_BYTES <= TOO_HIGH * (held + weights), said.memory


CHUNKED: dict[str, Any] = {
    "layers": [0],
    "tokens_per_step": 1024,
    "evaluate_tokens": 256,
    "optimizer": {"kind": "adafactor"},
}
LEARNT: dict[str, dict[str, Any]] = {
    "topk": {"coder": TOPK},
    "bfloat16": {"coder": TOPK, "dtype": "bfloat16"},
    "much-text": {"coder": TOPK | {"n_features": 64}, "layers": [3], "tokens_per_step": 2048},
    "wide": {"coder": {"n_features": 8500, "activation": {"k": 8}}, "layers": [0], "tokens_per_step": 128},
    "clipped": {
        "coder": TOPK | {"kind": "skip-transcoder", "n_features": 4096},
        "optimizer": {"decoder_rows": "unit-norm", "clip_norm": 1.0},
        "tokens_per_step": 128,
    },
    "relu": {
        "coder": {
            "n_features": 1024,
            "activation": {"kind": "relu"},
            "loss": {"fidelity": "norm-scaled", "sparsity": "l1", "sparsity_weight": 1e-4},
        },
        "optimizer": {"decoder_rows": "unit-norm"},
    },
    "batchtopk": {"coder": TOPK | {"activation": {"kind": "batchtopk", "k": 16}}},
    "jumprelu": {
        "coder": {
            "n_features": 1024,
            "activation": {"kind": "jumprelu"},
            "loss": {"sparsity": "l0", "sparsity_weight": 1e-4},
        }
    },
    "auxk": {"coder": TOPK | {"loss": {"auxk": {"dead_after_tokens": 1}}}},
    "crossing": {"coder": TOPK | {"kind": "cross-layer-transcoder"}, "layers": [0, 1, 3]},
    "crossing-much": {
        "coder": {"kind": "cross-layer-transcoder", "n_features": 256, "activation": {"kind": "topk", "k": 64}},
        "layers": [0, 1, 2, 3],
        "tokens_per_step": 2048,
    },
    "crossing-several": {
        "coders": [
            {"name": "a", "kind": "cross-layer-transcoder", **TOPK},
            {"name": "b", "kind": "cross-layer-transcoder", **TOPK, "n_features": 512},
            {"name": "c", **TOPK},
        ],
        "layers": [0, 1, 2],
        "evaluate_tokens": 256,
    },
    "adafactor": {"coder": TOPK | {"n_features": 4096}, "optimizer": {"kind": "adafactor"}, "tokens_per_step": 128},
    "chunked": {"coder": TOPK | {"n_features": 16384}} | CHUNKED,
    "chunked-bfloat16": {"coder": TOPK | {"n_features": 16384}, "dtype": "bfloat16"} | CHUNKED,
    "several": {
        "coders": [
            {"name": "a", **TOPK},
            {"name": "b", "kind": "sae", "hook_in": "mlp.out", **TOPK},
            {"name": "c", "kind": "sae", "hook_in": "resid", **TOPK},
        ],
        "layers": [0, 1, 2],
    },
}


AHEAD: dict[str, dict[str, Any]] = {
    "ahead": {"coder": TOPK | {"n_features": 2048}, "evaluate_tokens": 128},
    "ahead-crossing": {"coder": TOPK | {"kind": "cross-layer-transcoder"}, "evaluate_tokens": 128},
}
"""As on CUDA: batches are so small that no device takes them in parts."""


class InThisThread(ThreadPoolExecutor):
    """Only what this thread holds is counted."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args, **kwargs))
        return done


@pytest.mark.parametrize("name", [*LEARNT, *AHEAD])
def test_training_never_holds_more_than_was_said(
    models: dict[str, Model], dataset: Dataset, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {"name": "a", "model": "m", "dataset": "d", "layers": [0, 3], "steps": 2, "tokens_per_step": 512}
    ahead = name in AHEAD
    monkeypatch.setattr(harvest, "ThreadPoolExecutor", InThisThread)
    spec = TrainSpec.model_validate(common | {"checkpoint_every": 1} | (LEARNT | AHEAD)[name])
    model = models[spec.dtype]

    def run() -> None:
        train(
            model,
            dataset,
            spec,
            model_digest="m" * 64,
            tokenizer_digest="t" * 64,
            lineage=Lineage(code_version="test"),
            out=tmp_path,
            prefetch=ahead,
        )

    said = estimate(spec, facts(model, dataset, device="cuda" if ahead else "cpu"))
    check(said, model, peak_bytes(run))
    assert said.disk is not None
    written = sum(file.stat().st_size for file in (tmp_path / "coders").rglob("*.safetensors"))
    assert said.disk.published_bytes <= written <= 1.02 * said.disk.published_bytes + 4096
    kept = sum(file.stat().st_size for file in (tmp_path / "checkpoints").rglob("*.safetensors"))
    assert said.disk.checkpoint_bytes / 2 <= kept <= 1.02 * said.disk.checkpoint_bytes / 2 + 8192


@pytest.mark.parametrize("rows_per_batch", [1, 6])
@pytest.mark.parametrize("vocab_size", [61, 4000])
def test_evaluation_never_holds_more_than_was_said(dataset: Dataset, rows_per_batch: int, vocab_size: int) -> None:
    model = toy_model(dtype=torch.float32, vocab_size=vocab_size, **SIZES)
    spec = EvaluateSpec(coders="c", tokens=1024, rows_per_batch=rows_per_batch)
    coders = {layer: coder(layer) for layer in (0, 2)}
    said = estimate(spec, facts(model, dataset, *(each.config for each in coders.values())))
    weights = sum(weight.nbytes for each in coders.values() for weight in each.parameters().values())
    work = peak_bytes(
        lambda: evaluate(model, coders, dataset.heldout, tokens=spec.tokens, rows_per_batch=rows_per_batch)
    )
    check(said, model, weights + work)


@pytest.mark.parametrize(
    ("prompts_per_batch", "vocab_size", "n_tokens"), [(1, 61, 128), (16, 61, 128), (64, 61, 24), (64, 40_000, 8)]
)
def test_patching_never_holds_more_than_was_said(prompts_per_batch: int, vocab_size: int, n_tokens: int) -> None:
    model = toy_model(dtype=torch.float32, vocab_size=vocab_size, **SIZES)
    clean_T, corrupt_T = toy_tokens(n_tokens), toy_tokens(n_tokens, seed=1)
    spec = PatchSpec(model="m", clean="c", corrupt="d", layers=[0, 3], prompts_per_batch=prompts_per_batch)
    said = estimate(spec, Facts(model=model.config(), prompt_tokens=n_tokens, device="cpu"))

    def run() -> None:
        answers: dict[str, Any] = {"answer": 5, "wrong": 6, "layers": spec.layers, "report": Silent()}
        patch(model, clean_T, corrupt_T, places=spec.places, prompts_per_batch=prompts_per_batch, **answers)

    check(said, model, peak_bytes(run))


def coder(layer: int, *, d_model: int = SIZES["d_model"], **fields: Any) -> Coder:
    given: dict[str, Any] = {"activation": BatchTopK(k=16), "n_features": 1024} | fields
    config = CoderConfig(
        d_in=d_model,
        d_out=d_model,
        layer=layer,
        model_digest="",
        tokenizer_digest="",
        dataset_digest="",
        bos="none",
        **given,
    )
    generator = torch.Generator().manual_seed(layer)
    weights = {name: torch.randn(shape, generator=generator) / 16 for name, shape in shapes(config).items()}
    if isinstance(config.activation, BatchTopK):
        weights["threshold"] = torch.tensor([2.0])
    return Coder.of(config, weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_forward_pass_of_every_family_is_bounded(family: str, dtype: torch.dtype) -> None:
    model = family_model(family, dtype=dtype)
    tokens_BT = torch.randint(3, 60, (32, CONTEXT))
    place = (LAYERS - 1, "mlp.out")
    held = peak_bytes(lambda: hook_activations(model, tokens_BT, [place]))
    said = forward_bytes(model.config(), len(tokens_BT), CONTEXT, dtype.itemsize)
    said += tokens_BT.numel() * model.d_model * dtype.itemsize
    assert held <= said <= 2.5 * held


@pytest.mark.parametrize("kind", ["transcoder", "skip-transcoder", "sae", "cross-layer-transcoder"])
@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu"])
def test_a_coder_has_the_shapes_of_its_weights(kind: Any, activation: str) -> None:
    hook = "mlp.out" if kind == "sae" else "mlp.in"
    spec = CoderSpec.model_validate({"kind": kind, "hook_in": hook, "activation": {"kind": activation}})
    layers = [0, 3, 5]
    said = coder_shapes(spec, layers, SIZES["d_model"])
    for i, layer in enumerate(layers):
        later = layers[i + 1 :] if kind == "cross-layer-transcoder" else []
        update = {"kind": kind, "activation": spec.activation, "n_features": spec.n_features, "later_layers": later}
        config = coder(layer).config.model_copy(update=update)
        assert sorted(said[i]) == sorted(shapes(config).values())
        assert stored_parameters(config) == sum(map(prod, said[i]))
