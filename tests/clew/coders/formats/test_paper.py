"""Checkpoints of the paper's code give the paper's outputs, and a pickle that wants more than tensors gets nothing."""

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from tests.clew.coders.formats.random_coders import GIVEN, D, F, dense, inputs
from torch import Tensor

from clew.coders.formats import Given, detect, read_coders
from clew_spec.errors import DataError

pytestmark = pytest.mark.science


@pytest.fixture
def their_config(monkeypatch: pytest.MonkeyPatch) -> type:
    """The class whose instances those checkpoints hold, in a module of its name, gone again when files are read."""
    config = type("LanguageModelSAERunnerConfig", (), {"__module__": "sae_training.config"})
    module = ModuleType("sae_training.config")
    module.LanguageModelSAERunnerConfig = config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sae_training", ModuleType("sae_training"))
    monkeypatch.setitem(sys.modules, "sae_training.config", module)
    return config


def save(path: Path, their_config: type, weights: dict[str, Tensor], **cfg: Any) -> Path:
    of_file = their_config()
    vars(of_file).update(
        model_name="gpt2-small",
        hook_point="blocks.8.ln2.hook_normalized",
        hook_point_layer=8,
        hook_point_head_index=None,
        dtype=torch.float32,
        device=torch.device("cpu"),
        l1_coefficient=1.4e-4,
        **cfg,
    )
    torch.save({"cfg": of_file, "state_dict": weights}, path)
    del sys.modules["sae_training.config"]
    return path


def weights(*, transcoder: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (D, F), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,)} | (
        {"b_dec_out": (D,)} if transcoder else {}
    )
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.mark.parametrize("transcoder", [False, True])
def test_outputs_are_those_of_equations_3_and_4(transcoder: bool, their_config: type, tmp_path: Path) -> None:
    """A1"""
    found = weights(transcoder=transcoder)
    path = tmp_path / "final_sparse_autoencoder_gpt2-small_blocks.8.ln2.hook_normalized_24.pt"
    cfg = {"out_hook_point": "blocks.8.hook_mlp_out"} if transcoder else {}
    save(path, their_config, found, is_transcoder=transcoder, **cfg)
    torch.save(torch.zeros(F), tmp_path / "final_sparse_autoencoder_gpt2-small_log_feature_sparsity.pt")
    assert detect(tmp_path) == "paper"
    (coder,) = read_coders(tmp_path, GIVEN)
    assert coder.layer == 8
    assert coder.hooks == (("mlp.normed", "mlp.out") if transcoder else ("mlp.normed", "mlp.normed"))
    assert coder.config.loss is not None
    assert (coder.config.loss.fidelity, coder.config.loss.sparsity_weight) == ("norm-scaled", 1.4e-4)
    x_ND = inputs(dtype=torch.float64)
    z_NF = ((x_ND - found["b_dec"]) @ found["W_enc"] + found["b_enc"]).relu()
    torch.testing.assert_close(dense(coder, x_ND), z_NF, rtol=0, atol=1e-8)
    y_hat_ND = z_NF @ found["W_dec"] + found["b_dec_out" if transcoder else "b_dec"]
    torch.testing.assert_close(coder.forward(x_ND), y_hat_ND, rtol=0, atol=1e-8)


class Hostile:
    """Asks whoever unpickles it to make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["cfg", "state_dict", "whole", "attribute", "plain pickle"])
def test_a_hostile_pickle_does_nothing(place: str, their_config: type, tmp_path: Path) -> None:
    hostile = Hostile(tmp_path / "touched")
    path = tmp_path / "coder.pt"
    of_file = their_config()
    content: Any = {"cfg": of_file, "state_dict": weights(transcoder=False)}
    if place == "attribute":
        of_file.hook_point = hostile
    content = (
        hostile if place in ("whole", "plain pickle") else content | ({place: hostile} if place in content else {})
    )
    if place == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(DataError, match="cannot be read"):
        read_coders(path, GIVEN, "paper")
    assert not hostile.target.exists()
    torch.load(path, weights_only=False) if place != "plain pickle" else pickle.loads(path.read_bytes())  # noqa: S301
    assert hostile.target.exists(), "it would have, elsewhere"


@pytest.mark.parametrize("content", [{"cfg": 1}, [1, 2], {"cfg": {}, "state_dict": {"W_enc": torch.zeros(1)}}])
def test_other_content_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "coder.pt")
    with pytest.raises(DataError, match="holds something else"):
        read_coders(tmp_path, GIVEN)


@pytest.mark.parametrize("trick", ["packed", "one number"])
def test_a_small_file_of_large_tensors_is_refused(trick: str, their_config: type, tmp_path: Path) -> None:
    size = (1024, 4096) if trick == "packed" else (10**7, 10**7)
    large = torch.zeros(size) if trick == "packed" else torch.zeros(1).expand(size)
    path = save(tmp_path / "coder.pt", their_config, weights(transcoder=False) | {"W_enc": large}, is_transcoder=False)
    if trick == "packed":
        with ZipFile(path) as stored, ZipFile(tmp_path / "packed.pt", "w", ZIP_DEFLATED) as packed:
            for name in stored.namelist():
                packed.writestr(name, stored.read(name))
        path = tmp_path / "packed.pt"
    with pytest.raises(DataError, match=r"unpacks to more than|holds less than W_enc says"):
        read_coders(path, GIVEN, "paper")


def test_a_stated_place_comes_before_the_files(their_config: type, tmp_path: Path) -> None:
    save(tmp_path / "coder.pt", their_config, weights(transcoder=False), is_transcoder=False)
    stated = Given(**{**vars(GIVEN), "layer": 2, "hook_in": "resid", "hook_out": "resid"})
    (coder,) = read_coders(tmp_path, stated)
    assert (coder.layer, coder.hooks) == (2, ("resid", "resid"))
