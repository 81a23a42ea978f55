"""circuit-tracer as it is installed computes what we wrote, and we what it wrote."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tests.clew.coders.formats.random_coders import GIVEN, cross_layer, dense, inputs, outputs, random_coder
from tests.clew.coders.formats.test_gemma_scope import first, params
from tests.peers.conftest import Peer

from clew.coders import Coder
from clew.coders.calibration import with_thresholds
from clew.coders.formats import Given, circuit_tracer, read_coders
from clew_spec.coders import ReLU
from clew_spec.errors import InvalidSpec

pytestmark = [pytest.mark.peers, pytest.mark.timeout(1800)]

LAYERS = range(3)


def per_layer(kind: str, activation: str) -> list[Coder]:
    return [random_coder(kind, activation, layer=layer) for layer in LAYERS]  # type: ignore[arg-type]


SETS = {
    **{f"transcoder-{name}": per_layer("transcoder", name) for name in ("relu", "jumprelu", "batchtopk")},
    **{f"skip-{name}": per_layer("skip-transcoder", name) for name in ("relu", "jumprelu", "batchtopk")},
    **{f"cross-layer-{name}": cross_layer(3, name) for name in ("relu", "jumprelu", "batchtopk")},
}


def test_it_computes_what_we_wrote(peer: Peer, tmp_path: Path) -> None:
    for name, coders in SETS.items():
        circuit_tracer.write(coders, tmp_path / "sets" / name)
    x_ND = inputs()
    answer = peer("run", tmp_path / "sets", x=x_ND)
    for name, coders in SETS.items():
        for lazy in (False, True):
            z_LNF, y_LND = answer[f"{name}/{lazy}/z"], answer[f"{name}/{lazy}/y"]
            torch.testing.assert_close(z_LNF, torch.stack([dense(coder, x_ND) for coder in coders]))
            torch.testing.assert_close(y_LND, torch.stack(outputs(coders, x_ND)))


def test_we_compute_what_it_wrote(peer: Peer, tmp_path: Path) -> None:
    x_ND = inputs()
    answer = peer("make", tmp_path / "theirs", x=x_ND)
    folders = sorted((tmp_path / "theirs").iterdir())
    assert len(folders) == 6
    for folder in folders:
        coders = read_coders(folder, GIVEN)
        torch.testing.assert_close(torch.stack([dense(coder, x_ND) for coder in coders]), answer[f"{folder.name}/z"])
        torch.testing.assert_close(torch.stack(outputs(coders, x_ND)), answer[f"{folder.name}/y"])


def test_trap_2_it_reads_topk_as_relu_so_thresholds_leave(peer: Peer, tmp_path: Path) -> None:
    """TopK in its folder is read as ReLU without a word; we refuse to write that, and write calibrated thresholds."""
    coders, x_ND = per_layer("transcoder", "topk"), inputs()
    with pytest.raises(InvalidSpec, match="TopK of layer 0 as ReLU"):
        circuit_tracer.write(coders, tmp_path / "sets" / "refused")
    relu = [Coder.of(c.config.model_copy(update={"activation": ReLU()}), c.parameters()) for c in coders]
    circuit_tracer.write(relu, tmp_path / "sets" / "topk")
    config = tmp_path / "sets" / "topk" / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"activation": "topk", "k": 4}))
    calibrated = [with_thresholds(coder, x_ND) for coder in coders]
    circuit_tracer.write(calibrated, tmp_path / "sets" / "calibrated")

    answer = peer("run", tmp_path / "sets", x=x_ND)
    misread_LN = (answer["topk/False/z"] > 0).sum(-1)
    assert float(misread_LN.float().mean()) > 2 * 4
    for layer, coder in enumerate(coders):
        assert int((answer["calibrated/False/z"][layer] > 0).sum()) == int((dense(coder, x_ND) > 0).sum())


def test_trap_3_its_cross_layer_skip_is_lost_on_disk_so_none_leaves(peer: Peer, tmp_path: Path) -> None:
    """It adds `x @ W_skip`, saves all but that, and loads the rest as if nothing were missing."""
    x_ND = inputs()
    answer = peer("drop_skip", tmp_path / "theirs", x=x_ND)
    torch.testing.assert_close(answer["added"], x_ND @ answer["W_skip"][0])
    assert not answer["has_skip"]
    with pytest.raises(InvalidSpec, match="drops skip paths"):
        circuit_tracer.write(cross_layer(3, "relu", skip=True), tmp_path / "ours")


def test_gemma_scope_is_read_alike_but_for_trap_3(peer: Peer, tmp_path: Path) -> None:
    """Its loader of cross-layer transcoders stops before the last layer and fails; ours reads all of them."""
    single = {name: weight.float().contiguous() for name, weight in params(affine=True).items()}
    single["threshold"] = single["threshold"].abs()
    first(tmp_path / "first", {name: weight for name, weight in single.items() if "affine" not in name})
    for folder in ("second", "cross"):
        (tmp_path / folder).mkdir()
    save_file(single, tmp_path / "second" / "params.safetensors")
    for layer in LAYERS:
        weights = {name: weight.float() for name, weight in params(layer, n_layers=3, affine=True).items()}
        save_file(weights, tmp_path / "cross" / f"params_layer_{layer}.safetensors")
    x_ND = inputs()
    answer = peer("gemma_scope", tmp_path, x=x_ND)
    given = Given(**{**vars(GIVEN), "bos": "bos", "layer": 0, "hook_in": "mlp.in", "hook_out": "mlp.out"})
    for name in ("first", "second"):
        (coder,) = read_coders(tmp_path / name, given)
        torch.testing.assert_close(dense(coder, x_ND), answer[f"{name}/z"])
        torch.testing.assert_close(coder.forward(x_ND), answer[f"{name}/y"])
    assert not answer["loaded"]
    assert len(read_coders(tmp_path / "cross", GIVEN)) == 3
