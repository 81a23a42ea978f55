"""Whatever the files, the same documents come of them; what is no text is told by file and line."""

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.clew.data.test_build import DIGEST, byte_tokenizer, spec
from tests.support.parquet import saying

from clew.data import DatasetManifest, build_dataset
from clew.data.sources import open_source
from clew.data.sources.source import MAX_CHARACTERS
from clew_spec.datasets import JsonlSource, ParquetSource, TextSource
from clew_spec.errors import DataError, InvalidSpec

pytestmark = pytest.mark.science

OfFiles = TextSource | JsonlSource | ParquetSource

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)


def read(source: OfFiles, root: Path, seed: int = 0) -> list[str]:
    return [document.text for document in open_source(source, [root]).documents(seed)]


def build(out: Path, source: OfFiles, root: Path, **changes: Any) -> DatasetManifest:
    asked = spec(source=source, **changes)
    return build_dataset(asked, byte_tokenizer(), tokenizer_digest=DIGEST, out=out, import_roots=[root])


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


def write(folder: Path, kind: str, texts: list[str], ending: str = "") -> OfFiles:
    """`texts` as one file of `kind` in `folder`, and the source that reads it."""
    folder.mkdir(exist_ok=True)
    if kind == "parquet":
        pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), folder / "a.parquet", row_group_size=7)
        return ParquetSource(path=str(folder))
    if kind == "jsonl":
        content = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts).encode()
    else:
        content = "\n<|end|>\n".join(texts).encode()
    # Compressed files that were put end to end are one file.
    half = len(content) // 2
    pack = COMPRESSED[ending]
    (folder / f"a.{'jsonl' if kind == 'jsonl' else 'txt'}{ending}").write_bytes(
        pack(content[:half]) + pack(content[half:])
    )
    return JsonlSource(path=str(folder)) if kind == "jsonl" else TextSource(path=str(folder), separator="<|end|>")


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(words, min_size=1, max_size=20), seed=st.integers(0, 2**32 - 1))
def test_all_records_come_once_in_an_order_of_the_seeds(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], seed: int
) -> None:
    root = tmp_path_factory.mktemp("root")
    expected = sorted(text for text in texts if text.strip())
    orders = []
    for kind, ending in [("jsonl", ""), ("jsonl", ".gz"), ("jsonl", ".zst"), ("parquet", "")]:
        source = write(root / f"{kind}{ending}", kind, texts, ending)
        orders.append(read(source, root, seed))
        assert read(source, root, seed) == orders[-1]
        assert sorted(orders[-1]) == expected
    assert all(order == orders[0] for order in orders)


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_text_is_split_where_it_is_asked_to_be(tmp_path: Path, ending: str) -> None:
    source = write(
        tmp_path / "d", "text", ["One\nand more.", " Two <|end|> ends nothing.\n\n\nHere.", "\n", "Three."], ending
    )
    path = source.path
    by_separator = [" Two <|end|> ends nothing.\n\n\nHere.", "One\nand more.", "Three."]
    assert sorted(read(source, tmp_path)) == by_separator
    by_blank_lines = ["<|end|>\nThree.", "Here.\n<|end|>", "One\nand more.\n<|end|>\n Two <|end|> ends nothing."]
    assert sorted(read(TextSource(path=path, separator=""), tmp_path)) == by_blank_lines
    [whole] = read(TextSource(path=path), tmp_path)
    assert whole.count("<|end|>") == 4


def test_line_ends_and_byte_order_marks_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n<|end|>  \r\nthree\r\n")
    assert sorted(read(TextSource(path=str(tmp_path / "a.txt"), separator="<|end|>"), tmp_path)) == [
        "one\ntwo",
        "three",
    ]


def test_a_text_without_end_becomes_several_documents(tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(MAX_CHARACTERS // 8))
    (tmp_path / "lines.txt").write_text(text)
    (tmp_path / "line.txt").write_text("é" * (2 * MAX_CHARACTERS + 5))
    source = open_source(TextSource(path=str(tmp_path)), [tmp_path])
    documents = {document.name: document.text for document in source.documents(0)}
    assert max(map(len, documents.values())) <= MAX_CHARACTERS
    names = sorted(documents, key=lambda name: int(name.partition(":")[2] or 0))
    pieces = [documents[name] for name in names if name.startswith("lines")]
    assert len(pieces) > 1
    assert "\n".join(pieces) + "\n" == text
    assert sum(text.count("é") for text in documents.values()) == 2 * MAX_CHARACTERS + 5


def test_files_below_a_folder_come_by_name_whatever_the_disks_order(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    for folder in (outside, root / "b", root / ".hidden"):
        folder.mkdir(parents=True)
    for name in ("z.txt", "b/a.txt", "a.txt", ".hidden/h.txt", ".dot.txt", "notes.md", "a.txt.zip"):
        (root / name).write_text(name)
    (root / "away").symlink_to(outside)
    (root / "again.txt").symlink_to("a.txt")
    (outside / "o.txt").write_text("outside")
    assert sorted(read(TextSource(path=str(root)), root)) == ["a.txt", "a.txt", "b/a.txt", "z.txt"]
    elsewhere = tmp_path / "elsewhere"
    os.rename(root, elsewhere)
    many = [f"f{number}.txt" for number in range(9)]
    for name in many:
        (elsewhere / name).write_text(name)
    orders = [read(TextSource(path=str(elsewhere)), elsewhere, seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_paths_outside_the_roots_are_refused_however_they_are_written(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "linked", outside, tmp_path / "root-2"):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("text")
    (root / "link").symlink_to(outside)
    (root / "linked" / "b.txt").symlink_to(outside / "a.txt")
    for path in (
        outside,
        root / "link",
        root / "link" / "a.txt",
        root / ".." / "outside",
        root / "linked",
        f"{root}-2",
    ):
        with pytest.raises(InvalidSpec, match="outside the folders") as refused:
            read(TextSource(path=str(path)), root)
        assert refused.value.where == "/spec/source/path"
    with pytest.raises(InvalidSpec):
        list(open_source(TextSource(path=str(root)), []).documents(0))


def bad(name: str, content: bytes, field: str, *said: str) -> Any:
    return pytest.param(name, content, field, said, id=" ".join(said))


@pytest.mark.parametrize(
    ("name", "content", "field", "said"),
    [
        bad("a.jsonl", b'{"text": "a"}\n{"text": \n', "path", "a.jsonl:2", "is not JSON"),
        bad("a.jsonl", b'{"text": "a"}\n["b"]\n', "path", "a.jsonl:2", "no object"),
        bad("a.jsonl", b"[" * 100_000 + b"\n", "path", "a.jsonl:1", "not JSON"),
        bad("a.jsonl", b'{"id": 1, "body": "a"}\n', "field", "a.jsonl:1", "no field `text`", "body, id"),
        bad("a.jsonl", b'{"text": ["a"]}\n', "field", "a.jsonl:1", "holds no text but list"),
        bad("a.jsonl", b'{"text": "\xff"}\n', "path", "a.jsonl", "not UTF-8"),
        bad("a.txt", b"caf\xe9 au lait", "path", "a.txt", "not UTF-8"),
        bad("a.jsonl.gz", b"no gzip", "path", "a.jsonl.gz", "cannot be read"),
        bad("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:-9], "path", "a.jsonl.gz", "end-of-stream"),
        bad("a.jsonl.zst", zstd(b'{"text": "a"}\n' * 99)[:-4], "path", "a.jsonl.zst", "Truncated"),
        bad("a.parquet", b"no parquet", "path", "a.parquet", "not parquet"),
        bad("a.md", b"text", "path", "a.md", ".jsonl or"),
        bad("none.txt", b"", "", "no text in", "none.txt"),
        bad("blank.jsonl", b'{"text": " "}\n\n{"text": null}\n', "", "no text in", "field `text`", "blank.jsonl"),
    ],
)
def test_what_is_no_text_is_told_by_file_and_line(
    tmp_path: Path, name: str, content: bytes, field: str, said: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(content)
    kinds: dict[str, type[OfFiles]] = {"txt": TextSource, "parquet": ParquetSource}
    source = kinds.get(name.partition(".")[2], JsonlSource)(path=str(tmp_path / name))
    with pytest.raises(DataError) as refused:
        build(tmp_path / "d", source, tmp_path)
    assert refused.value.where == f"/spec/source/{field}".rstrip("/")
    assert [part for part in said if part not in str(refused.value)] == []
    assert not (tmp_path / "d").exists()


def test_a_column_is_named_and_holds_strings(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1], "label": pa.array(["kept"]).dictionary_encode()}), tmp_path / "a.parquet")
    path = str(tmp_path)
    assert read(ParquetSource(path=path, field="label"), tmp_path) == ["kept"]
    with pytest.raises(DataError, match="no field `text`; at /spec/source/field; expected one of its fields: label, n"):
        read(ParquetSource(path=path), tmp_path)
    with pytest.raises(DataError, match=r"column `n` of a.parquet holds int64"):
        read(ParquetSource(path=path, field="n"), tmp_path)


@pytest.mark.parametrize("rows", [2**40, 301, 299, 0])
def test_a_parquet_file_has_as_many_rows_as_it_says(tmp_path: Path, rows: int) -> None:
    """Else a part of it is missing, and a dataset of the rest would be taken for one of all."""
    source = write(tmp_path / "d", "parquet", prose(300))
    path = tmp_path / "d" / "a.parquet"
    path.write_bytes(saying(path.read_bytes(), rows))
    with pytest.raises(DataError, match=f"a.parquet says that it has {rows} rows, and has 300; at /spec/source/path"):
        read(source, tmp_path)


def test_empty_folders_pipes_and_absent_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no such file.*end in .txt or .txt.gz"):
        read(TextSource(path=str(tmp_path / "empty")), tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read(TextSource(path=str(tmp_path / "absent")), tmp_path)
    os.mkfifo(tmp_path / "empty" / "pipe.txt")
    with pytest.raises(DataError, match="not a regular file"):
        read(TextSource(path=str(tmp_path / "empty")), tmp_path)


@pytest.mark.parametrize("separator", [" ", "a ", " a", "a\nb"])
def test_a_separator_is_one_line_without_space_around_it(separator: str) -> None:
    with pytest.raises(ValidationError):
        TextSource(path="/data", separator=separator)


def prose(n: int) -> list[str]:
    """Documents of two paragraphs, the second of which every third shares with others."""
    own = [
        " ".join(f"{word}{number}" for word in ("read", "keep", "mend", "send", "bind", "find")) for number in range(n)
    ]
    shared = "What stands in several of them may stand in one split alone, whichever was the first to hold it."
    return [f"{text}.\n\n{shared if number % 3 == 0 else text[::-1]}" for number, text in enumerate(own)]


def test_every_kind_of_source_obeys_the_same_split_and_overlap(tmp_path: Path) -> None:
    manifests = []
    for kind in ("text", "jsonl", "parquet"):
        source = write(tmp_path / kind, kind, prose(300))
        one, again = (build(tmp_path / f"{kind}-{copy}", source, tmp_path, heldout_fraction=0.3) for copy in "ab")
        other = build(tmp_path / f"{kind}-c", source, tmp_path, heldout_fraction=0.3, seed=1)
        assert one == again
        assert one.digest != other.digest
        assert one.source["text_sha256"] != other.source["text_sha256"]
        assert sum(one.shared_tokens.values()) > 1000
        manifests.append(one)
    assert len({manifest.digest for manifest in manifests}) == 1, "the same text in the same order, however it is kept"
    assert {manifest.source["kind"] for manifest in manifests} == {"text", "jsonl", "parquet"}
    few = build(tmp_path / "few", source, tmp_path, heldout_fraction=0.3, max_tokens=9000)
    assert few.train_tokens + few.heldout_tokens <= 9000
    assert few.source["files_read"] == 1


def test_memory_is_bounded_by_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.data.sources.files.SHUFFLED_DOCUMENTS", 16)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        for number in range(2000):
            file.write(json.dumps({"text": f"{number} " + "x" * 20_000}) + "\n")
    source = open_source(JsonlSource(path=str(tmp_path)), [tmp_path])
    tracemalloc.start()
    try:
        numbers = [int(document.text.split()[0]) for document in source.documents(0)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sorted(numbers) == [*range(2000)] != numbers
    assert peak < 4 * 2**20, "of 40 MB"
    done, total, unit = source.progress()
    assert (done, unit) == (total, "bytes")


def test_a_small_file_without_end_is_told_and_fills_no_memory(tmp_path: Path) -> None:
    """Blanks, fields that are no document's, one value repeated: whatever a bomb is made of, reading it stops."""
    blanks = (b" " * 2**15 + b"\n") * 2**5
    empty = b'{"text": "", "other": "' + b"x" * 2**20 + b'"}\n'
    for name, part in (("a.txt", blanks), ("a.jsonl", empty)):
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            file.writelines([part] * 100)
        with pa.CompressedOutputStream(str(tmp_path / f"{name}.zst"), "zstd") as packed:
            for _ in range(100):
                packed.write(part)
    one = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), ["y" * 2**14])})
    pq.write_table(one, tmp_path / "a.parquet")
    sources = {".txt": TextSource, ".jsonl": JsonlSource, ".parquet": ParquetSource}
    for path in sorted(tmp_path.iterdir()):
        source = sources[path.suffixes[0]]
        assert path.stat().st_size < 2**18
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match="unfolds to more than 200 times its size"):
                for _ in open_source(source(path=str(path)), [tmp_path]).documents(0):
                    pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2**28, "of 1.6 GB and more"


def test_a_page_that_would_fill_memory_is_refused_before_it_is_unfolded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.data.sources.parquet.MAX_GROUP", 2**20)
    pq.write_table(pa.table({"s": [{"a": 1}], "text": ["z" * 2**22]}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(DataError, match="in one group of rows"):
        read(ParquetSource(path=str(tmp_path / "a.parquet")), tmp_path)
    pq.write_table(pa.table({"s": [{"a": 1}], "text": ["z" * 2**22]}), tmp_path / "a.parquet", compression="none")
    read(ParquetSource(path=str(tmp_path / "a.parquet")), tmp_path)
