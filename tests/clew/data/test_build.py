"""Nothing is lost, made up or shared between the splits on the way from text to rows."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from clew.data import Dataset, DatasetManifest, bos_token_id, build_dataset
from clew.data.dataset import Rows, Split
from clew.data.overlap import Passages, cut
from clew.data.packing import Packer
from clew.data.sources.pydoc import Pydoc
from clew.reporting import Silent, StopRequested
from clew_spec.datasets import Attention, BuildDatasetSpec, PydocSource
from clew_spec.errors import DataError, InvalidSpec

pytestmark = pytest.mark.science

DIGEST = "a" * 64
EOS = 1
WINDOW = 64


@pytest.fixture(scope="module", autouse=True)
def a_passage_is_a_dozen_words() -> Iterator[None]:
    """16 tokens are about that, but here a token is a byte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clew.data.overlap.WINDOW", WINDOW)
        yield


def byte_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """One token a byte, so that ids can be read back to text exactly."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    options: dict[str, Any] = {"tokenizer_object": inner, **(special or {"bos_token": "<s>", "eos_token": "</s>"})}
    return cast(PreTrainedTokenizerFast, cast(Any, PreTrainedTokenizerFast)(**options))


def spec(**changes: Any) -> BuildDatasetSpec:
    values: dict[str, Any] = {"source": PydocSource(packages=["json", "textwrap"]), "context": 64}
    return BuildDatasetSpec(name="d", model="m", **(values | changes))


def build(out: Path, report: Silent | None = None, **changes: Any) -> DatasetManifest:
    return build_dataset(spec(**changes), byte_tokenizer(), tokenizer_digest=DIGEST, out=out, report=report)


def documents_in(rows: Any, n_rows: int) -> set[tuple[int, ...]]:
    flat = rows[range(n_rows)].flatten().tolist()
    ends = [-1, *(i for i, token in enumerate(flat) if token == EOS)]
    return {tuple(flat[a + 1 : b]) for a, b in pairwise(ends)}


def test_rows_are_the_documents_end_to_end_and_no_document_is_in_both_splits(tmp_path: Path) -> None:
    manifest = build(tmp_path / "d", heldout_fraction=0.3)
    dataset = Dataset.open(tmp_path / "d")
    train = documents_in(dataset.train, len(dataset.train))
    heldout = documents_in(dataset.heldout, len(dataset.heldout))
    assert train
    assert heldout
    assert not train & heldout
    assert 0 < manifest.n_heldout_documents < manifest.n_documents
    assert len(dataset.train) * 64 == manifest.train_tokens
    letters = byte_tokenizer().convert_ids_to_tokens(list(min(train)))
    assert "".join(letters).startswith(("json", "textwrap"))


def passages(rows: Rows, n: int = WINDOW) -> set[tuple[int, ...]]:
    """All n tokens in a row that a row of a split shows, separators aside."""
    every = (row[i : i + n] for row in rows[:].tolist() for i in range(len(row) - n + 1))
    return {tuple(passage) for passage in every if EOS not in passage}


def copies(n: int) -> str:
    """Classes as large libraries have them: near copies, with a sentence of their own."""
    shared = "Arguments are read from the left, and what cannot be read is kept as it stands, without a warning."
    return "".join(
        f'class Reader{i}:\n    """Reader{i} reads number {i}.\n\n    {shared}\n\n'
        f"    Of all readers it is only {'abcdefghij'[i % 10] * 40}{i} that {'klmnopqrst'[i % 10] * 50}{i}.\n"
        f'    """\n    def go(self):\n        """{shared} {"Then again. " * (i % 3)}"""\n'
        for i in range(n)
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_no_passage_of_a_heldout_row_stands_in_a_training_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, fraction: float
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"clewtoy_copies{seed}.py").write_text(copies(80))
    source = PydocSource(packages=[f"clewtoy_copies{seed}", "json", "argparse", "textwrap"])
    kinds: dict[str, Any] = {"source": source, "seed": seed, "heldout_fraction": fraction, "context": 128}
    manifest = build(tmp_path / "cut", **kinds)
    dataset = Dataset.open(tmp_path / "cut")
    heldout = passages(dataset.heldout)
    assert len(heldout) > 1000
    assert not heldout & passages(dataset.train)
    assert sum(manifest.shared_tokens.values()) > 2000

    monkeypatch.setattr("clew.data.overlap.Passages.foreign", lambda *_: set())
    assert build(tmp_path / "whole", **kinds).shared_tokens == {"train": 0, "heldout": 0}
    whole = Dataset.open(tmp_path / "whole")
    assert passages(whole.heldout) & passages(whole.train), "the law is one that this text would break"


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(
        st.tuples(st.booleans(), st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=2, max_size=6)),
        max_size=12,
    )
)
def test_a_cut_leaves_nothing_foreign_and_takes_nothing_else(documents: list[tuple[bool, list[list[int]]]]) -> None:
    def found(ids: list[int]) -> set[tuple[int, ...]]:
        return {tuple(ids[i : i + 4]) for i in range(len(ids) - 3)}

    held: dict[Split, set[tuple[int, ...]]] = {"train": set(), "heldout": set()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clew.data.overlap.WINDOW", 4)
        index = Passages()
        for is_heldout, paragraphs in documents:
            split, other = ("heldout", "train") if is_heldout else ("train", "heldout")
            ids = [token for paragraph in paragraphs for token in paragraph]
            units = [number for number, paragraph in enumerate(paragraphs) for _ in paragraph]
            kept = cut(index, cast(Split, split), ids, units, [0] * len(paragraphs)).tolist()
            index.add(cast(Split, split), np.asarray(kept))
            others = held[cast(Split, other)]
            assert not found(kept) & others
            assert kept == ids or found(ids) & others
            assert len(kept) == 0 or kept[: len(paragraphs[0])] == paragraphs[0] or found(ids) & others
            held[cast(Split, split)] |= found(kept)


def names_in(rows: Rows) -> set[str]:
    """The first lines of the documents that a split shows."""
    tokenizer = byte_tokenizer()
    texts = ("".join(tokenizer.convert_ids_to_tokens(list(ids))) for ids in documents_in(rows, len(rows)))
    return {text.split("Ċ")[0] for text in texts}  # a line break, as byte-level tokenizers spell it


def test_what_one_dataset_holds_out_no_other_trains_on(tmp_path: Path) -> None:
    source = PydocSource(packages=["json", "argparse", "logging", "textwrap"])
    known = {document.name for document in Pydoc(source).documents(0)}
    splits = []
    for seed, fraction, max_tokens in [
        (0, 0.2, None),
        (1, 0.2, 20000),
        (2, 0.4, None),
        (3, 0.6, 30000),
        (4, 0.1, None),
    ]:
        folder = tmp_path / str(seed)
        build(folder, source=source, seed=seed, heldout_fraction=fraction, max_tokens=max_tokens)
        dataset = Dataset.open(folder)
        splits.append((fraction, names_in(dataset.heldout) & known, names_in(dataset.train) & known))
    assert all(heldout and train for _, heldout, train in splits)
    for fraction, heldout, _ in splits:
        for other, _, train in splits:
            if other >= fraction:
                assert not heldout & train
    assert splits[2][1] & splits[4][2], "a smaller share holds out less"


def test_segments_change_exactly_after_a_separator(tmp_path: Path) -> None:
    for bos in ("none", "bos"):
        build(tmp_path / bos, bos=bos, heldout_fraction=0.3)
        rows = Dataset.open(tmp_path / bos).train
        tokens_NT, segments_NT = rows[:].numpy(), rows.segments(slice(None)).numpy()
        assert (segments_NT[:, 0] == 0).all()
        first = int(bos == "bos")
        steps = np.diff(segments_NT[:, first:].astype(int), axis=1)
        assert np.array_equal(steps, (tokens_NT[:, first:-1] == EOS).astype(int))
        assert (tokens_NT[:, 0] == 0).all() == (bos == "bos")


def test_text_cannot_forge_a_separator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    functions = "".join(f'def f{i}():\n    """Ends </s> with </s> {i:03d}."""\n' for i in range(60))
    (tmp_path / "clewtoy_forger.py").write_text(functions)
    manifest = build(tmp_path / "d", source=PydocSource(packages=["clewtoy_forger"]), heldout_fraction=0.5)
    dataset = Dataset.open(tmp_path / "d")
    assert manifest.n_documents == 60
    separators = sum(int((rows[:] == EOS).sum()) for rows in (dataset.train, dataset.heldout))
    assert separators == sum(len(documents_in(rows, len(rows))) for rows in (dataset.train, dataset.heldout))
    assert 56 <= separators <= 60, "all but those in the two tails"


@settings(max_examples=150, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(2, 9), max_size=30), max_size=12),
    context=st.integers(2, 9),
    bos_id=st.sampled_from([None, 7]),
    per_shard=st.integers(1, 60),
    attention=st.sampled_from(["row", "document"]),
)
@example(documents=[[2] * 9, [3] * 2, [4] * 5], context=8, bos_id=None, per_shard=11, attention="row")
@example(documents=[[2] * 6, [3] * 9, [4] * 5], context=8, bos_id=7, per_shard=60, attention="document")
def test_packing_conserves_tokens_at_any_shard_size(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[list[int]],
    context: int,
    bos_id: int | None,
    per_shard: int,
    attention: Attention,
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    packer = Packer(folder, "train", context=context, bos_id=bos_id, attention=attention, tokens_per_shard=per_shard)
    for document in documents:
        packer.add(document)
    packer.close()
    rows = [row.tolist() for name in packer.files for row in load_file(folder / name)["tokens_NT"]]
    segments = [row.tolist() for name in packer.files for row in load_file(folder / name)["segments_NT"]]
    assert len(rows) == packer.n_rows
    text: list[int] = []
    for row, numbers in zip(rows, segments, strict=True):
        assert len(row) == len(numbers) == context
        for place, (token, number) in enumerate(zip(row, numbers, strict=True)):
            begins = place == 0 or (attention == "document" and number != numbers[place - 1])
            if begins and bos_id is not None:
                assert token == bos_id
            else:
                text.append(token)
    flat = [token for document in documents for token in document]
    assert text == flat[: len(flat) - packer.dropped]
    assert packer.dropped < context

    expected = [number for number, document in enumerate(documents) for _ in document]
    at = 0
    for row, numbers in zip(rows, segments, strict=True):
        own = [
            number
            for place, number in enumerate(numbers)
            if bos_id is None or not (place == 0 or (attention == "document" and number != numbers[place - 1]))
        ]
        theirs = expected[at : at + len(own)]
        at += len(own)
        assert all((a == b) == (c == d) for (a, b), (c, d) in zip(pairwise(own), pairwise(theirs), strict=True)), row


def test_the_seed_decides_everything_and_the_digest_says_so(tmp_path: Path) -> None:
    few: dict[str, Any] = {"max_tokens": 8000, "heldout_fraction": 0.2}
    one, again, other = (build(tmp_path / name, seed=seed, **few) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert one == again
    assert one.digest != other.digest
    assert build(tmp_path / "e", bos="bos", **few).digest != one.digest


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        ({}, "2f48331c4ddab50966c029b0345884cb7acdcedeeb08f1537bd5c0dea4a912f9"),
        ({"max_tokens": 9000, "seed": 5}, "ae0302aeeceb843479b73dc0dc783d8d6ce62f3b1970b5474912ee7c0720c1e7"),
    ],
    ids=["all", "some"],
)
def test_a_dataset_of_docstrings_is_today_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], digest: str
) -> None:
    """Digests of the first version that could build one: a change here makes every older dataset another."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for package in range(3):
        own = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(40 + package)]
        classes = (
            f'class C{word[:6]}:\n    """{word}\n\n    '
            f'{"Read from the left, and keep as it stands what cannot be read. " * 2}\n    """\n'
            f'    def go(self):\n        """{word[::-1]} {word}"""\n'
            for word in own
        )
        (tmp_path / f"clewtoy_pinned{package}.py").write_text("".join(classes))
    source = PydocSource(packages=[f"clewtoy_pinned{package}" for package in range(3)])
    manifest = build(tmp_path / "d", source=source, heldout_fraction=0.3, attention="row", **changes)
    assert manifest.digest == digest
    assert manifest.shared_tokens["heldout"] > 1000


@pytest.mark.parametrize("bos", ["none", "bos"])
def test_max_tokens_is_kept_to_the_row(tmp_path: Path, bos: str) -> None:
    manifest = build(tmp_path / "d", max_tokens=6000, heldout_fraction=0.2, bos=bos)
    total = manifest.train_tokens + manifest.heldout_tokens
    assert 6000 - 3 * 64 < total <= 6000


def test_what_cannot_be_built_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    class Stop(Silent):
        def stop_requested(self) -> bool:
            return True

    with pytest.raises(InvalidSpec, match="less than one row") as too_few:
        build(tmp_path / "d", max_tokens=63)
    assert too_few.value.where == "/spec/max_tokens"
    with pytest.raises(DataError, match="heldout split"):
        build(tmp_path / "d", max_tokens=200)
    with pytest.raises(DataError, match="clewtoy_absent") as absent:
        build(tmp_path / "d", source=PydocSource(packages=["json", "clewtoy_absent"]))
    assert absent.value.where == "/spec/source/packages/1"
    with pytest.raises(InvalidSpec, match="'hello'") as unknown:
        build(tmp_path / "d", bos="hello")
    assert unknown.value.where == "/spec/bos"
    with pytest.raises(StopRequested):
        build(tmp_path / "d", Stop())
    assert list(tmp_path.iterdir()) == []


def test_bos_rules() -> None:
    tokenizer = byte_tokenizer()
    assert [bos_token_id(tokenizer, rule) for rule in ("none", "bos", "</s>")] == [None, 0, 1]
    assert bos_token_id(tokenizer, "a") == tokenizer.encode("a")[0]
    with pytest.raises(InvalidSpec, match="no BOS"):
        bos_token_id(byte_tokenizer(eos_token="</s>"), "bos")


def test_a_damaged_dataset_and_another_models_are_refused(tmp_path: Path) -> None:
    manifest = build(tmp_path / "d", heldout_fraction=0.3)
    dataset = Dataset.open(tmp_path / "d")
    dataset.check_fits(tokenizer_digest=DIGEST, vocab_size=300, max_context=64)
    for changes in (
        {"tokenizer_digest": "b" * 64, "vocab_size": 300, "max_context": 64},
        {"tokenizer_digest": DIGEST, "vocab_size": manifest.largest_id, "max_context": 64},
        {"tokenizer_digest": DIGEST, "vocab_size": 300, "max_context": 63},
    ):
        with pytest.raises(InvalidSpec) as caught:
            dataset.check_fits(**changes)  # type: ignore[arg-type]  # the values differ in type by key
        assert caught.value.where == "/spec/dataset"

    shard = tmp_path / "d" / "heldout-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match="heldout-00000"):
        Dataset.open(tmp_path / "d")
    shard.unlink()
    with pytest.raises(DataError, match="heldout-00000"):
        Dataset.open(tmp_path / "d")
    path = tmp_path / "d" / "dataset.json"
    path.write_text(path.read_text().replace('"bos": "none"', '"bos": "bos"'))
    with pytest.raises(DataError, match="contradicts"):
        Dataset.open(tmp_path / "d")
