"""The object store, on a real S3 server."""

import os
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.servers import S3, Lab

from clew_lab.settings import Settings
from clew_lab.storage import Store, attempt_prefix, checked_name, object_key
from clew_lab.storage.keys import MAX_KEY_BYTES
from clew_lab.storage.store import PART_BYTES
from clew_spec.errors import ClewError, Conflict, DataError, InvalidSpec, NotFound, Unavailable

ID = UUID("01890000-0000-7000-8000-000000000000")


@pytest.fixture
def store(s3: S3) -> Store:
    return Store(s3.endpoint, s3.access_key, s3.secret_key, s3.bucket)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return sha256(content).hexdigest()


@given(st.text(max_size=40) | st.sampled_from(["..", "a/../b", "/etc/passwd", "a//b", "a\\b", "", "a/", "a\x00b"]))
def test_a_key_never_leaves_its_attempt(name: str) -> None:
    try:
        key = object_key(ID, ID, 3, name)
    except InvalidSpec:
        return
    assert key == attempt_prefix(ID, ID, 3) + name
    assert os.path.normpath(key) == key
    assert len(key.encode()) <= MAX_KEY_BYTES
    assert key.isprintable() or not any(ord(character) < 32 for character in key)


@pytest.mark.parametrize("name", ["..", "a/../b", "/etc/passwd", "a//b", "a/", "", ".", "a\\b", "a\nb", "a\x7fb"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(InvalidSpec):
        checked_name(name)


@pytest.mark.parametrize("size", [0, 5, PART_BYTES + 7], ids=["empty", "small", "in parts"])
def test_what_is_put_can_be_read_by_its_link(store: Store, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    digest = write(tmp_path / "file", content)
    key = object_key(uuid4(), uuid4(), 1, "coders/L03/wägung 1.safetensors")
    stored = store.put(key, tmp_path / "file", digest)
    assert (stored.size, stored.sha256) == (size, digest)
    assert store.stat(key) == stored
    with urlopen(store.link(key, download_as="weights.safetensors")) as answer:  # noqa: S310  # our own server
        assert answer.read() == content
        assert answer.headers["content-disposition"] == 'attachment; filename="weights.safetensors"'


@pytest.mark.parametrize("size", [9, PART_BYTES + 9], ids=["small", "in parts"])
def test_a_file_that_is_not_what_was_announced_is_never_stored(store: Store, tmp_path: Path, size: int) -> None:
    write(tmp_path / "file", os.urandom(size))
    with pytest.raises(DataError, match="not what was announced"):
        store.put("projects/p/wrong", tmp_path / "file", "0" * 64)
    assert store.stat("projects/p/wrong") is None


def test_a_key_is_written_once(store: Store, tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", b"one"), write(tmp_path / "2", b"two")
    store.put("projects/p/key", tmp_path / "1", first)
    store.put("projects/p/key", tmp_path / "1", first)
    with pytest.raises(Conflict):
        store.put("projects/p/key", tmp_path / "2", second)
    assert store.read("projects/p/key") == b"one"


def test_an_attempts_leftovers_go_and_its_neighbours_stay(store: Store, tmp_path: Path) -> None:
    digest = write(tmp_path / "file", b"x")
    project, job = uuid4(), uuid4()
    for fence, name in ((1, "a"), (1, "b/c"), (11, "a"), (2, "a")):
        store.put(object_key(project, job, fence, name), tmp_path / "file", digest)
    kept = object_key(project, job, 1, "a")
    assert store.delete_prefix(attempt_prefix(project, job, 1), keep=frozenset({kept})) == 1
    assert sorted(store.keys(f"projects/{project}/")) == sorted(
        [kept, object_key(project, job, 11, "a"), object_key(project, job, 2, "a")]
    )
    for prefix in ("", "/", "projects"):
        with pytest.raises(ValueError, match="refusing"):
            store.delete_prefix(prefix)


def test_a_missing_object_is_not_an_outage(store: Store) -> None:
    assert store.stat("projects/none") is None
    store.delete("projects/none")
    with pytest.raises(NotFound):
        store.read("projects/none")


def test_links_are_signed_for_the_address_that_readers_use(lab: Lab) -> None:
    public = Settings.model_validate({**lab.settings.model_dump(), "s3_public_url": "https://s3.lab.example"})
    store = Store.of(public)
    store.create_bucket()
    store.create_bucket()
    link = store.link("projects/p/file")
    assert link.startswith(f"https://s3.lab.example/{lab.settings.s3_bucket}/projects/p/file?")
    assert "X-Amz-Expires=900" in link
    assert store.origin == "https://s3.lab.example"
    assert Store.of(lab.settings).origin == f"http://{lab.settings.s3_endpoint}"


def test_no_server_and_wrong_keys_are_both_unavailable(s3: S3) -> None:
    strangers: list[ClewError] = []
    for stranger in (
        Store("127.0.0.1:9", s3.access_key, s3.secret_key, s3.bucket),
        Store(s3.endpoint, s3.access_key, "wrong", s3.bucket),
    ):
        with pytest.raises(Unavailable) as caught:
            stranger.create_bucket()
        strangers.append(caught.value)
    assert "does not answer" in strangers[0].detail
    assert "refused" in strangers[1].detail
    assert all(s3.secret_key not in str(error) for error in strangers)
