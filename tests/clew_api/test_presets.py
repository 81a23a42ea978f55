"""The presets are jobs that this lab would take."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.clew_api.seeds import Tenant, World

from clew_client.requests import read_request
from clew_lab.catalogue.tables import Worker
from clew_spec.api import EstimateView
from clew_spec.coders import ReLU
from clew_spec.jobs import JobRequest
from clew_spec.training import TrainSpec

pytestmark = pytest.mark.lab

PAPER = sorted((Path(__file__).parents[2] / "presets" / "paper").glob("*.yaml"))
_NEOX = {"architecture": "GPTNeoXForCausalLM", "n_layers": 24, "n_heads": 16, "n_kv_heads": 16, "vocab_size": 50304}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "architecture": "GPT2LMHeadModel",
        "n_layers": 12,
        "d_model": 768,
        "d_mlp": 3072,
        "n_heads": 12,
        "n_kv_heads": 12,
        "vocab_size": 50257,
        "n_parameters": 124_439_808,
    },
    "pythia-410m": _NEOX | {"d_model": 1024, "d_mlp": 4096, "n_parameters": 405_334_016},
    "pythia-1.4b": _NEOX | {"d_model": 2048, "d_mlp": 8192, "n_parameters": 1_414_647_808},
}
GIB = 2**30


def test_there_is_one_for_each_model_of_the_paper() -> None:
    assert [path.stem for path in PAPER] == ["gpt2-small-all-layers", "pythia-1.4b-layer-15", "pythia-410m-layer-15"]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_a_paper_preset_is_the_papers_run_and_fits_its_gpu(
    path: Path, api: TestClient, world: World, alice: Tenant
) -> None:
    request = read_request(path)
    assert isinstance(request, JobRequest)
    spec = request.spec
    assert isinstance(spec, TrainSpec)
    sizes = MODELS[spec.model]
    assert {coder.n_features for _, coder in spec.variants} == {32 * sizes["d_model"]}
    assert {coder.activation for _, coder in spec.variants} == {ReLU()}
    assert {coder.loss.fidelity for _, coder in spec.variants} == {"norm-scaled"}
    assert abs(spec.steps * spec.tokens_per_step - 60e6) < spec.tokens_per_step
    for name, coder in spec.variants:
        assert name is None or name.endswith(
            f"-{coder.loss.sparsity_weight:.1e}".replace(".0e", "e").replace("-0", "-")
        )

    world.model(alice, spec.model, **sizes)
    world.dataset(alice, spec.dataset, context=128, train_tokens=60_000_000, heldout_tokens=3_200_000)
    world.add(Worker(name="a100", pool="train", device="cuda", memory_bytes=80 * GIB))
    answer = api.post("/api/v1/estimates", json=request.model_dump(mode="json"))
    assert answer.status_code == 200, answer.text
    found = EstimateView.model_validate_json(answer.content)
    assert found.fits
    assert 4 * GIB < (found.estimate.memory_bytes or 0) < 80 * GIB
