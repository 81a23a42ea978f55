"""What a job needs is fetched from a real store, whatever becomes of the way to it."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.proxy import Proxy, through_proxy
from tests.support.servers import S3
from tests.support.waiting import until

from clew.reporting import StopRequested
from clew_lab.storage import Store
from clew_lab.storage.store import PRESIGNED_FOR_RUNNERS
from clew_spec.errors import DataError, Unavailable
from clew_spec.runner import EVENTS_FILE, Input
from clew_worker.runner import inputs
from clew_worker.runner.channel import Inbox, Outbox
from clew_worker.runner.inputs import lay_out

CONTENT = b"weights" * 1000


class Fetch:
    """One input in the store, behind a proxy that can be cut."""

    def __init__(self, s3: S3, folder: Path, proxy: Proxy, url: str) -> None:
        (folder / "source").write_bytes(CONTENT)
        digest = sha256(CONTENT).hexdigest()
        Store(s3.endpoint, s3.access_key, s3.secret_key, s3.bucket).put("projects/p/w", folder / "source", digest)
        self.store = Store(url.removeprefix("http://"), s3.access_key, s3.secret_key, s3.bucket)
        self.input = self.at("projects/p/w")
        self.proxy, self.folder = proxy, folder
        reader, self.writer = os.pipe()
        self.inbox = Inbox(os.fdopen(reader))
        self.report = Outbox(folder, self.inbox)

    def at(self, key: str) -> Input:
        return Input(
            name="model/w",
            url=self.store.link(key, lasts=PRESIGNED_FOR_RUNNERS),
            sha256=sha256(CONTENT).hexdigest(),
            size=len(CONTENT),
        )

    def __call__(self) -> bytes:
        place = lay_out([self.input], self.folder / "in", cache=self.folder, project_id="p", report=self.report)
        return (place / "model/w").read_bytes()

    @property
    def tries(self) -> int:
        return (self.folder / EVENTS_FILE).read_text().count("could not be fetched")


@pytest.fixture
def fetch(s3: S3, tmp_path: Path) -> Iterator[Fetch]:
    with _proxied(s3, tmp_path) as fetch:
        yield fetch


@contextmanager
def _proxied(s3: S3, folder: Path) -> Iterator[Fetch]:
    with through_proxy(f"http://{s3.endpoint}") as (proxy, url):
        fetch = Fetch(s3, folder, proxy, url)
        yield fetch
        os.close(fetch.writer)
        fetch.report.close()


def test_an_outage_of_the_store_is_waited_out(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 120 <= sum(inputs.DELAYS_S) <= 600
    monkeypatch.setattr(inputs, "DELAYS_S", [0.05] * 1000)
    fetch.proxy.cut()
    with ThreadPoolExecutor(1) as pool:
        fetched = pool.submit(fetch)
        until(lambda: fetch.tries >= 10, "it tries on")
        fetch.proxy.mend()
        assert fetched.result(30) == CONTENT


def test_it_gives_up_in_the_end_and_says_whose_fault_it_is(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "DELAYS_S", [0.01] * 3)
    fetch.proxy.cut()
    with pytest.raises(Unavailable, match="model/w"):
        fetch()
    assert fetch.tries == 3


def test_who_waits_for_the_store_can_be_stopped(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "DELAYS_S", [3600.0])
    fetch.proxy.cut()
    with ThreadPoolExecutor(1) as pool:
        fetched = pool.submit(fetch)
        until(lambda: fetch.tries == 1, "it waits")
        fetch.inbox.request_stop(checkpoint=False)
        with pytest.raises(StopRequested):
            fetched.result(30)


def test_what_is_gone_is_not_waited_for(fetch: Fetch) -> None:
    fetch.input = fetch.at("projects/p/gone")
    with pytest.raises(DataError, match="gone"):
        fetch()
    assert fetch.tries == 0


def test_links_for_runners_live_a_day_and_others_minutes(fetch: Fetch) -> None:
    def lasts(url: str) -> timedelta:
        return timedelta(seconds=int(parse_qs(urlsplit(url).query)["X-Amz-Expires"][0]))

    assert lasts(fetch.input.url) == timedelta(hours=24)
    assert lasts(fetch.store.link("projects/p/w")) == timedelta(minutes=15)
