"""SAELens as it is installed computes what we wrote, and we what it wrote."""

from pathlib import Path

import pytest
import torch
from tests.clew.coders.formats.random_coders import GIVEN, dense, inputs, random_coder
from tests.peers.conftest import Peer

from clew.coders.formats import read_coders, saelens, sparsify

pytestmark = [pytest.mark.peers, pytest.mark.timeout(1800)]

CODERS = [
    random_coder("sae", "relu", layer=0, centred=True),
    random_coder("sae", "relu", layer=1),
    random_coder("sae", "topk", layer=2, centred=True),
    random_coder("sae", "jumprelu", layer=3, centred=True, hook="resid"),
    random_coder("sae", "batchtopk", layer=4),
    random_coder("transcoder", "relu", layer=5),
    random_coder("transcoder", "jumprelu", layer=6),
    random_coder("transcoder", "batchtopk", layer=7),
    random_coder("skip-transcoder", "relu", layer=8),
    random_coder("skip-transcoder", "jumprelu", layer=9),
]


def test_it_computes_what_we_wrote(peer: Peer, tmp_path: Path) -> None:
    saelens.write(CODERS, tmp_path / "set")
    x_ND = inputs()
    answer = peer("run", tmp_path / "set", x=x_ND)
    for coder in CODERS:
        torch.testing.assert_close(answer[f"L{coder.layer:02d}/z"], dense(coder, x_ND))
        torch.testing.assert_close(answer[f"L{coder.layer:02d}/y"], coder.forward(x_ND))


def test_we_compute_what_it_wrote(peer: Peer, tmp_path: Path) -> None:
    x_ND = inputs()
    answer = peer("make", tmp_path / "theirs", x=x_ND)
    folders = sorted((tmp_path / "theirs").iterdir())
    assert len(folders) == 9
    for folder in folders:
        (coder,) = read_coders(folder, GIVEN)
        z_NF = answer[f"{folder.name}/z"]
        torch.testing.assert_close(dense(coder, x_ND), z_NF)
        torch.testing.assert_close(coder.forward(x_ND), answer[f"{folder.name}/y"])


def test_trap_1_it_cannot_read_sparsify_and_reads_what_we_make_of_it(peer: Peer, tmp_path: Path) -> None:
    """Its loader transposes `W_dec`, which lies as it should; through us the same coder arrives."""
    coder = random_coder("sae", "topk", centred=True, hook="resid")
    sparsify.write([coder], tmp_path / "sparsify")
    x_ND = inputs()
    assert peer("read_sparsify", tmp_path / "sparsify" / "layers.1", x=x_ND)["mismatch"]
    found = read_coders(tmp_path / "sparsify", GIVEN)
    saelens.write(found, tmp_path / "saelens")
    torch.testing.assert_close(peer("run", tmp_path / "saelens", x=x_ND)["L01/y"], coder.forward(x_ND))
