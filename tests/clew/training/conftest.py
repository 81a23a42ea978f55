"""A toy lab: a seeded model, a seeded dataset of its tokens, and one CPU thread, on which runs repeat bit by bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.clew.toys import toy_model, toy_tokens

from clew.data import Dataset, DatasetManifest
from clew.data.dataset import Split
from clew.data.packing import Packer
from clew.files import file_sha256
from clew.models import Model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model() -> Model:
    return toy_model()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"), train=10, heldout=5)


@pytest.fixture(scope="session")
def larger_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("larger"), train=300, heldout=5)


def make_dataset(folder: Path, *, train: int, heldout: int, context: int = 16) -> Dataset:
    """Random tokens in rows of `context`."""
    files: list[str] = []
    counts: dict[Split, int] = {"train": train, "heldout": heldout}
    for seed, (split, n_rows) in enumerate(counts.items()):
        packer = Packer(folder, split, context=context, bos_id=None)
        packer.add(toy_tokens(n_rows * context, seed=seed).tolist())
        packer.close()
        files += packer.files
    manifest = DatasetManifest(
        tokenizer_digest="t" * 64,
        context=context,
        bos="none",
        bos_id=None,
        separator_id=2,
        train_tokens=train * context,
        heldout_tokens=heldout * context,
        n_documents=2,
        n_heldout_documents=1,
        largest_id=60,
        seed=0,
        heldout_fraction=0.5,
        source={},
        files={name: file_sha256(folder / name) for name in files},
    ).signed()
    (folder / "dataset.json").write_text(manifest.model_dump_json())
    return Dataset.open(folder)
