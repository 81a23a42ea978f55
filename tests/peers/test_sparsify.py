"""sparsify as it is installed computes what we wrote, and we what it wrote."""

from pathlib import Path

import pytest
import torch
from tests.clew.coders.formats.random_coders import GIVEN, dense, inputs, random_coder
from tests.peers.conftest import Peer

from clew.coders.formats import read_coders, sparsify

pytestmark = [pytest.mark.peers, pytest.mark.timeout(1800)]

CODERS = [
    random_coder("sae", "topk", layer=0, centred=True),
    random_coder("sae", "topk", layer=1),
    random_coder("sae", "topk", layer=2, centred=True, hook="resid"),
    random_coder("transcoder", "topk", layer=3),
    random_coder("skip-transcoder", "topk", layer=4),
]


def test_it_computes_what_we_wrote(peer: Peer, tmp_path: Path) -> None:
    sparsify.write(CODERS, tmp_path / "set")
    x_ND = inputs()
    answer = peer("run", tmp_path / "set", x=x_ND)
    for coder in CODERS:
        module = f"layers.{coder.layer}" + ("" if coder.config.hook_out == "resid" else ".mlp")
        torch.testing.assert_close(answer[f"{module}/z"], dense(coder, x_ND))
        torch.testing.assert_close(answer[f"{module}/y"], coder.forward(x_ND))


def test_we_compute_what_it_wrote(peer: Peer, tmp_path: Path) -> None:
    x_ND = inputs()
    answer = peer("make", tmp_path / "theirs", x=x_ND)
    for name in ("sae", "transcoder", "skip"):
        (coder,) = read_coders(tmp_path / "theirs" / name, GIVEN)
        assert coder.layer == 1
        torch.testing.assert_close(dense(coder, x_ND), answer[f"{name}/z"])
        torch.testing.assert_close(coder.forward(x_ND), answer[f"{name}/y"])
