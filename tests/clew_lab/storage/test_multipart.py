"""Parts that others send by links, on a real S3 server."""

import os
from hashlib import md5
from uuid import uuid4

import httpx2
import pytest
from tests.support.servers import S3

from clew_lab.storage import Multipart, Store
from clew_lab.storage.multipart import Part
from clew_spec.errors import DataError

MIB = 2**20


@pytest.fixture
def store(s3: S3) -> Store:
    return Store(s3.endpoint, s3.access_key, s3.secret_key, s3.bucket)


@pytest.fixture
def key() -> str:
    return f"projects/{uuid4()}/uploads/{uuid4()}/0"


def put(url: str, content: bytes) -> int:
    return httpx2.put(url, content=content).status_code


def test_parts_become_an_object_once_they_are_joined_and_no_link_writes_to_it_after(store: Store, key: str) -> None:
    parts = Multipart(store)
    id = parts.begin(key)
    first, last = os.urandom(5 * MIB), os.urandom(7)
    links = {1: parts.link(key, id, 1, len(first)), 2: parts.link(key, id, 2, len(last))}
    assert parts.parts(key, id) == []
    assert put(links[2], last) == 200
    assert put(links[1], os.urandom(len(first))) == 200
    assert put(links[1], first) == 200, "a part can be sent again"
    wanted = [
        Part(number, len(content), md5(content, usedforsecurity=False).hexdigest())
        for number, content in ((1, first), (2, last))
    ]
    assert {*wanted} <= {*(parts.parts(key, id) or [])}
    assert store.stat(key) is None, "half an upload is not there"
    parts.join(key, id, wanted)
    assert store.read(key) == first + last
    assert parts.parts(key, id) is None
    parts.join(key, id, wanted)  # asking twice is asking once
    assert put(links[2], b"changed") in (403, 404)
    assert store.read(key) == first + last


def test_a_link_takes_its_part_in_its_length_and_nothing_else(store: Store, key: str) -> None:
    parts = Multipart(store)
    id = parts.begin(key)
    link = parts.link(key, id, 1, 100)
    for content in (bytes(99), bytes(101), b"", bytes(6 * MIB)):
        assert put(link, content) == 403
    assert httpx2.put(link, content=iter([bytes(50), bytes(50)])).status_code == 403, "a length that nobody said"
    for change in (("partNumber=1", "partNumber=2"), ("/0?", "/1?"), ("X-Amz-Expires=900", "X-Amz-Expires=90000")):
        assert change[0] in link
        assert put(link.replace(*change), bytes(100)) == 403
    assert httpx2.get(link).status_code == 403
    assert parts.parts(key, id) == []
    assert put(link, bytes(100)) == 200


def test_an_empty_file_has_one_empty_part(store: Store, key: str) -> None:
    parts = Multipart(store)
    id = parts.begin(key)
    assert put(parts.link(key, id, 1, 0), b"") == 200
    parts.join(key, id, parts.parts(key, id) or [])
    there = store.stat(key)
    assert there is not None
    assert there.size == 0


def test_what_is_aborted_is_gone_and_parts_that_are_not_there_are_refused(store: Store, key: str) -> None:
    parts = Multipart(store)
    id = parts.begin(key)
    link = parts.link(key, id, 1, 3)
    assert put(link, b"abc") == 200
    with pytest.raises(DataError):
        parts.join(key, id, [Part(1, 3, "0" * 32)])
    assert store.stat(key) is None
    parts.abort(key, id)
    parts.abort(key, id)
    assert parts.parts(key, id) is None
    assert put(link, b"abc") == 404
    assert store.stat(key) is None


def test_links_are_signed_for_the_address_that_senders_use(s3: S3, key: str) -> None:
    public = Store(s3.endpoint, s3.access_key, s3.secret_key, s3.bucket, public_url="https://s3.lab.example")
    link = Multipart(public).link(key, "id", 1, 5)
    assert link.startswith(f"https://s3.lab.example/{s3.bucket}/{key}?")
    assert s3.secret_key not in link
