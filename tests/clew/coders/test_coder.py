"""A coder is a sparse function of its weights, and the same one after a trip to disk."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from clew.coders import Coder, activate, load_coder, save_coder
from clew.coders.store import CODER_FILES, read_manifest
from clew_spec.coders import CoderConfig, TopK
from clew_spec.errors import DataError, ModelError
from clew_spec.results import Lineage

pytestmark = pytest.mark.science

LINEAGE = Lineage(code_version="test", seed=3)


def make_coder(*, n_features: int = 24, d_in: int = 5, d_out: int = 7, k: int = 4, seed: int = 0) -> Coder:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    config = CoderConfig(
        activation=TopK(k=k),
        n_features=n_features,
        d_in=d_in,
        d_out=d_out,
        layer=1,
        dtype="float64",
        model_digest="m" * 64,
        tokenizer_digest="t" * 64,
        dataset_digest="d" * 64,
        bos="none",
    )
    return Coder(config, normal(n_features, d_in), normal(n_features), normal(n_features, d_out), normal(d_out))


def test_forward_is_the_dense_formula() -> None:
    coder = make_coder()
    x_ND = torch.randn(50, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pre_NF = x_ND @ coder.W_enc.T + coder.b_enc
    threshold_N1 = pre_NF.sort(dim=1, descending=True).values[:, 3:4]
    z_NF = torch.where(pre_NF >= threshold_N1, pre_NF, 0.0).relu()

    indices_NK, values_NK = coder.encode(x_ND)
    torch.testing.assert_close(torch.zeros_like(pre_NF).scatter(1, indices_NK, values_NK), z_NF)
    torch.testing.assert_close(coder.forward(x_ND), z_NF @ coder.W_dec + coder.b_dec)


@given(st.integers(1, 6), st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=8))
def test_of_equals_the_lower_index_wins(k: int, rows: list[list[int]]) -> None:
    indices_NK, values_NK = activate(TopK(k=k), torch.tensor(rows, dtype=torch.float32))
    for row, indices, values in zip(rows, indices_NK.tolist(), values_NK.tolist(), strict=True):
        best = sorted(range(6), key=lambda feature: (-row[feature], feature))[:k]
        active = {feature for feature, value in zip(indices, values, strict=True) if value > 0}
        assert active == {feature for feature in best if row[feature] > 0}
        assert values == [max(row[feature], 0) for feature in best]


def test_disk_keeps_every_bit_and_the_digest_names_the_content(tmp_path: Path) -> None:
    coder = make_coder()
    digest = save_coder(coder, tmp_path / "L01", LINEAGE)
    loaded = load_coder(tmp_path / "L01")
    assert loaded.config == coder.config
    assert all(torch.equal(loaded.parameters()[name], value) for name, value in coder.parameters().items())
    assert read_manifest(tmp_path / "L01").lineage == LINEAGE
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["L01", *CODER_FILES])

    other_lineage = Lineage(code_version="another")
    assert save_coder(coder, tmp_path / "again", other_lineage) == digest
    assert save_coder(make_coder(seed=1), tmp_path / "L01", LINEAGE) != digest, "an older coder is replaced"
    assert not torch.equal(load_coder(tmp_path / "L01").W_enc, coder.W_enc)


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = save_coder(make_coder(), tmp_path / "L01", LINEAGE)

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("clew.coders.store.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_coder(make_coder(seed=1), tmp_path / "L01", LINEAGE)
    load_coder(tmp_path / "L01")
    assert read_manifest(tmp_path / "L01").digest == digest
    assert [path.name for path in tmp_path.iterdir()] == ["L01"]


@pytest.mark.parametrize("name", CODER_FILES)
def test_damage_is_found(tmp_path: Path, name: str) -> None:
    save_coder(make_coder(), tmp_path / "L01", LINEAGE)
    path = tmp_path / "L01" / name
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=name):
        load_coder(tmp_path / "L01")
    path.unlink()
    with pytest.raises(DataError, match=name):
        load_coder(tmp_path / "L01")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    coder = make_coder()
    with pytest.raises(ModelError, match="W_dec") as caught:
        Coder(coder.config, coder.W_enc, coder.b_enc, coder.W_dec.T, coder.b_dec)
    assert caught.value.expected == "(24, 7)"

    save_coder(coder, tmp_path / "L01", LINEAGE)
    weights = tmp_path / "L01" / "weights.safetensors"
    save_file({"W_enc": coder.W_enc}, weights)
    _sign_again(tmp_path / "L01")
    with pytest.raises(ModelError, match="W_enc"):
        load_coder(tmp_path / "L01")


def _sign_again(folder: Path) -> None:
    from clew.files import digest_of, file_sha256

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: file_sha256(folder / name) for name in manifest["files"]}
    manifest["digest"] = digest_of(manifest["files"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
