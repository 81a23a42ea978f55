"""How files are sent when the store stumbles: links that expire, parts that vanish, files that change."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from tests.clew_client.conftest import FAST
from tests.clew_client.contract import KEY

from clew_client import Lab
from clew_client.commands.data import progress_line
from clew_client.uploads import Uploads, find_files, name_of
from clew_spec.errors import ClewError, Conflict, InvalidSpec, Unavailable
from clew_spec.uploads import MIN_PART, UploadRequest

ID = UUID(int=7)
Stumble = Callable[[httpx2.Request], httpx2.Response | None]


class Store:
    """An API with one upload, and the object store behind it. `stumbles` answer first, one for each PUT."""

    def __init__(self) -> None:
        self.request: UploadRequest | None = None
        self.parts: dict[tuple[str, int], bytes] = {}
        self.puts: list[tuple[str, int]] = []
        self.stumbles: list[Stumble] = []
        self.forgets = False

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if request.method == "PUT":
            return self._put(request, path.split("/")[2], int(path.split("/")[3]))
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        if path.endswith("/uploads"):
            self.request = UploadRequest.model_validate_json(request.content)
            return httpx2.Response(201, json=self._detail("open"))
        missing = self._missing()
        if path.endswith("/parts"):
            return httpx2.Response(200, json={"items": missing, "next_cursor": None})
        if missing:
            return httpx2.Response(409, json=Conflict("parts are missing").problem().model_dump())
        return httpx2.Response(200, json=self._detail("complete"))

    def _put(self, request: httpx2.Request, file: str, number: int) -> httpx2.Response:
        assert "Authorization" not in request.headers, "the key is not the store's to see"
        self.puts.append((file, number))
        stumble = self.stumbles.pop(0)(request) if self.stumbles else None
        if stumble is not None:
            return stumble
        if not self.forgets:
            self.parts[file, number] = request.read()
        return httpx2.Response(200)

    def _missing(self) -> list[dict[str, Any]]:
        assert self.request is not None
        found = []
        for file in self.request.files:
            for number in range(1, file.parts + 1):
                offset, size = file.part(number)
                if len(self.parts.get((file.name, number), b"-" * (size + 1))) != size:
                    url = f"http://store/bucket/{file.name}/{number}"
                    found.append({"file": file.name, "number": number, "offset": offset, "size": size, "url": url})
        return found

    def _detail(self, state: str) -> dict[str, Any]:
        assert self.request is not None
        now = datetime.now(UTC).isoformat()
        size = sum(file.size for file in self.request.files)
        same = {"created_at": now, "completed_at": None, "expires_at": now, "project": "p", "user": None}
        contents = [file.model_dump() for file in self.request.files]
        known = {"id": str(ID), "name": self.request.name, "state": state, "size": size, "files": len(contents)}
        return {**known, **same, "contents": contents, "ref": f"upload:{ID}"}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def lab(store: Store) -> Lab:
    lab = Lab("http://lab", KEY, retry=FAST)
    transport = httpx2.MockTransport(store)
    lab._transport.http = httpx2.Client(
        transport=transport, base_url="http://lab/api/v1/", headers={"Authorization": f"Bearer {KEY}"}
    )
    lab.uploads = Uploads(lab._transport, httpx2.Client(transport=transport))
    return lab


def torn(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadError("torn", request=request)


def test_what_passes_is_tried_again_and_links_that_expired_are_asked_for_anew(
    lab: Lab, store: Store, tmp_path: Path
) -> None:
    content = b"a" * MIN_PART + b"b" * 5
    (tmp_path / "a.txt").write_bytes(content)
    store.stumbles = [lambda _: httpx2.Response(503), torn, lambda _: httpx2.Response(403), lambda _: None]
    seen: list[tuple[str, int, int, int]] = []
    found = lab.uploads.send(tmp_path / "a.txt", None, lambda *told: seen.append(told))
    assert (found.name, found.state) == ("a", "complete")
    assert store.puts == [("a.txt", 1)] * 4 + [("a.txt", 2)]
    assert b"".join(store.parts[key] for key in sorted(store.parts)) == content
    assert store.request is not None
    assert store.request.files[0].sha256 == hashlib.sha256(content).hexdigest()
    assert seen[-1] == ("send", len(content), len(content), 0)
    assert {phase for phase, *_ in seen} == {"hash", "send"}


@pytest.mark.parametrize(
    ("stumble", "error"),
    [(lambda _: httpx2.Response(503), Unavailable), (torn, Unavailable), (lambda _: httpx2.Response(400), ClewError)],
    ids=["away", "torn", "refused"],
)
def test_a_store_that_stays_away_is_told(
    lab: Lab, store: Store, tmp_path: Path, stumble: Stumble, error: type[ClewError]
) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    store.stumbles = [stumble] * 100
    with pytest.raises(error, match=r"part 1 of a.txt|store"):
        lab.upload(tmp_path / "a.txt")
    assert 1 <= len(store.puts) <= FAST.attempts


def test_a_store_that_forgets_and_links_that_never_hold_come_to_an_end(lab: Lab, store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    store.forgets = True
    with pytest.raises(Conflict, match="parts are missing"):
        lab.upload(tmp_path / "a.txt")
    store.stumbles = [lambda _: httpx2.Response(403)] * 100
    with pytest.raises(Conflict, match="parts are missing"):
        lab.upload(tmp_path / "a.txt")
    assert len(store.puts) <= 12


def test_a_file_that_changes_meanwhile_is_not_sent_on(lab: Lab, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * (MIN_PART + 1))

    def change(_: httpx2.Request) -> None:
        path.write_bytes(b"b" * (MIN_PART + 2))

    store.stumbles = [change]
    with pytest.raises(Conflict, match=r"a\.txt changed while it was uploaded"):
        lab.upload(path)
    assert store.puts == [("a.txt", 1)]


def test_a_folder_is_its_files_and_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", ".git/config", "a/.hidden"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text(name)
    (tmp_path / "x" / "link.txt").symlink_to(tmp_path / "x" / "b.txt")
    assert [file.name for file in find_files(tmp_path / "x")] == ["b.txt", "link.txt", "a/c.txt"]
    (tmp_path / "x" / "broken").symlink_to(tmp_path / "nothing")
    for path in (tmp_path / "x", tmp_path / "nothing", tmp_path / "x" / ".git"):
        if path.name == ".git":
            (path / "config").unlink()
        with pytest.raises(InvalidSpec):
            find_files(path)


@pytest.mark.parametrize(
    ("given", "name"),
    [("Notes 2026.jsonl.gz", "notes-2026"), ("model.GGUF", "model"), ("..odd..txt", "odd"), ("\u65e5.txt", "upload")],
)
def test_a_name_is_made_of_the_files_own(tmp_path: Path, given: str, name: str) -> None:
    (tmp_path / given).touch()
    assert name_of(tmp_path / given) == name
    UploadRequest.model_validate_json(
        json.dumps({"name": name_of(tmp_path / given), "files": [{"name": "a", "size": 0, "sha256": "0" * 64}]})
    )


def test_how_far_it_is_and_how_long_it_takes() -> None:
    assert progress_line(2**20, 2**22, 2**20, 2.0) == "1.0 MiB of 4.0 MiB, 512.0 KiB/s, 6 s left"
    assert progress_line(0, 2**22, 0, 2.0) == "0 B of 4.0 MiB"
