"""Server-sent events: nothing twice, nothing missed, and nothing left behind."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import func, update
from tests.clew_api.conftest import Running
from tests.clew_api.seeds import Tenant, World
from tests.support.proxy import through_proxy
from tests.support.servers import Lab as LabServers

from clew_api import streams
from clew_api.app import create_app
from clew_api.lab import Lab
from clew_lab.catalogue import queries
from clew_lab.catalogue.tables import Job
from clew_lab.jobs.accept import Asked, accept
from clew_lab.jobs.cancel import cancel
from clew_spec.api import EventView, JobSummary, Page
from clew_spec.jobs import JobRequest

Frame = dict[str, str]


def frames(response: httpx2.Response) -> Iterator[Frame]:
    """As a browser reads them; comments come as `{"": text}`."""
    frame: Frame = {}
    for line in response.iter_lines():
        if not line:
            if frame:
                yield frame
            frame = {}
        else:
            name, _, value = line.partition(": ")
            frame[name] = value


@contextmanager
def stream(running: Running, path: str, who: Tenant, **options: Any) -> Iterator[Iterator[Frame]]:
    headers = who.auth | options.pop("headers", {})
    with httpx2.stream("GET", running.url + path, headers=headers, timeout=30, **options) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield frames(response)


def eventually(true: Callable[[], bool], patience_s: float = 20) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def places(running: Running) -> int:
    lab: Lab = running.app.state.lab
    return lab.bell.places


def finish(world: World, job: Job) -> None:
    world.append(job.id, 1, type="state")
    with world.sessions.begin() as session:
        session.execute(
            update(Job).where(Job.id == job.id).values(state="succeeded", finished_at=func.now(), updated_at=func.now())
        )


def test_events_come_once_and_in_order_across_broken_connections(running: Running, world: World, alice: Tenant) -> None:
    job, total = world.job(alice), 1200

    def write() -> None:
        for _ in range(total // 40):
            world.append(job.id, 40)
        finish(world, job)

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    ended = 0
    while not ended:
        last = {"Last-Event-ID": str(seen[-1])} if seen else {}
        began = len(seen)
        with stream(running, f"/jobs/{job.id}/events", alice, headers=last) as events:
            for frame in events:
                if frame.get("event") == "end":
                    ended += 1
                elif "data" in frame:
                    view = EventView.model_validate_json(frame["data"])
                    assert (str(view.seq), view.type) == (frame["id"], frame["event"])
                    seen.append(view.seq)
                if len(seen) - began > 150 and not ended:
                    break  # the connection is cut in the middle of what is on its way
    writer.join()
    assert seen == list(range(1, total + 2))
    with stream(running, f"/jobs/{job.id}/events?after={total}", alice) as events:
        assert [frame["event"] for frame in events] == ["state", "end"]
    eventually(lambda: places(running) == 0)


def test_a_new_event_is_pushed_by_the_bell_and_not_by_polling(
    running: Running, world: World, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "POLL_S", 60.0)
    world.model(alice)
    request = JobRequest.model_validate({"spec": {"kind": "build-dataset", "name": "d", "model": "m"}})
    with world.sessions.begin() as session:
        job, _ = accept(session, alice.actor, Asked(request, "d"))
    with stream(running, f"/jobs/{job.id}/events", alice) as events:
        assert json.loads(next(events)["data"])["data"]["state"] == "queued"
        with world.sessions.begin() as session:
            cancel(session, alice.actor, job.id)
        rest = list(events)
    assert rest[-1]["event"] == "end"
    assert json.loads(rest[-2]["data"])["data"]["state"] == "cancelled"


def test_quiet_streams_show_signs_of_life_and_end_with_their_key(
    running: Running, world: World, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "POLL_S", 0.05)
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(streams, "CHECK_S", 0.1)
    job = world.job(alice)
    with stream(running, f"/jobs/{job.id}/events", alice) as events:
        assert [next(events), next(events)] == [{"": "still here"}] * 2
        world.revoke(alice)
        assert set(map(str, events)) <= {str({"": "still here"})}, "and then the stream ends"


@pytest.mark.parametrize("path", ["/jobs/{}/events", "/stream?job={}"])
def test_a_busy_stream_ends_with_its_key(
    running: Running, world: World, alice: Tenant, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(streams, "CHECK_S", 0.1)
    job, done = world.job(alice), threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            world.append(job.id, 1)

    writer = threading.Thread(target=keep_busy)
    writer.start()
    timer = threading.Timer(10, done.set)  # a stream that goes on would keep this test for ever
    try:
        with stream(running, path.format(job.id), alice) as events:
            next(frame for frame in events if "id" in frame)
            world.revoke(alice)
            timer.start()
            for _ in events:
                assert not done.is_set(), "the stream outlives its key"
    finally:
        done.set()
        timer.cancel()
        writer.join()


def test_a_stream_ends_with_its_session(
    running: Running, world: World, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "POLL_S", 0.05)
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(streams, "CHECK_S", 0.1)
    with httpx2.Client(headers={"Sec-Fetch-Site": "same-origin"}, timeout=30) as browser:
        browser.post(f"{running.url}/session", json={"key": alice.key})
        with browser.stream("GET", f"{running.url}/stream") as response:
            tab = frames(response)
            assert [next(tab), next(tab), next(tab)][1:] == [{"": "still here"}] * 2
            assert httpx2.get(f"{running.url}/session", headers=alice.auth, timeout=30).status_code == 200
            browser.delete(f"{running.url}/session")
            heard_until = time.monotonic() + 10
            for _ in tab:
                assert time.monotonic() < heard_until, "the key is good, the session is not"


def test_what_ended_in_an_outage_is_told_after_it(
    make_lab: Callable[..., LabServers], world: World, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "POLL_S", 0.05)
    monkeypatch.setattr(streams, "CHANGES_WINDOW_S", 0.5)
    with through_proxy(world.settings.database_url.get_secret_value()) as (proxy, url):
        running = Running(create_app(make_lab(database_url=url).settings))
        running.start()
        try:
            job = world.job(alice)
            with stream(running, "/stream", alice) as tab:
                assert next(frame for frame in tab if "event" in frame)["event"] == "job"
                proxy.cut()
                finish(world, job)
                time.sleep(1.5)  # the outage: longer than the window
                proxy.mend()
                frame = next(frame for frame in tab if "event" in frame)
                assert JobSummary.model_validate_json(frame["data"]).state == "succeeded"
        finally:
            assert running.stop(15)


def test_a_tab_hears_of_its_projects_jobs_and_of_the_one_it_shows(
    running: Running, world: World, alice: Tenant, bob: Tenant
) -> None:
    watched, other = world.job(alice), world.job(alice)
    foreign, shared = world.job(bob), world.job(bob, visibility="lab")
    for job in (watched, other, foreign, shared):
        world.touch(job, updated_at=func.now() - func.make_interval(0, 0, 0, 1))
    world.append(watched.id, 3)
    with stream(running, f"/stream?job={watched.id}&after=1", alice) as events:
        assert next(events) == {"": "open"}
        assert [next(events)["id"] for _ in range(2)] == ["2", "3"]
        world.touch(foreign, cancel_requested=True)
        world.touch(shared, cancel_requested=True)
        world.touch(other, cancel_requested=True)
        heard: list[JobSummary] = []
        while len({view.id for view in heard}) < 2:
            frame = next(events)
            assert (frame["event"], "id" in frame) == ("job", False)
            heard.append(JobSummary.model_validate_json(frame["data"]))
        assert [view.id for view in heard] == [shared.id, other.id], "each change once, the foreign one never"
        world.append(watched.id, 1)
        frame = next(frame for frame in events if frame["event"] == "event")
        assert (frame["id"], EventView.model_validate_json(frame["data"]).seq) == ("4", 4)
    eventually(lambda: places(running) == 0)


def test_after_a_wave_of_changes_a_reader_has_the_state_of_the_database(
    running: Running, world: World, alice: Tenant
) -> None:
    jobs = [world.job(alice) for _ in range(queries.CHANGES_AT_ONCE + 100)]
    marker = world.job(alice, visibility="lab")

    def change(some: list[Job], **fields: Any) -> None:
        of_them = update(Job).where(Job.id.in_([job.id for job in some]))
        with world.sessions.begin() as session:
            session.execute(of_them.values(updated_at=func.now(), **fields))

    def wave() -> None:
        with world.sessions.begin() as slow:  # began before all others, and is committed behind them
            slow.execute(update(Job).where(Job.id == jobs[0].id).values(updated_at=func.now(), priority=1))
            for job in jobs[1:40]:
                change([job], priority=-1)
            change(jobs[1:], cancel_requested=True)
            for job in jobs[100:140]:
                change([job], priority=1)
        time.sleep(1)
        world.touch(marker, visibility="project")

    def listed() -> dict[UUID, JobSummary]:
        found: dict[UUID, JobSummary] = {}
        cursor: str | None = None
        while not found or cursor:
            params = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
            answer = httpx2.get(f"{running.url}/jobs", params=params, headers=alice.auth, timeout=30)
            page = Page[JobSummary].model_validate_json(answer.content)
            found |= {job.id: job for job in page.items}
            cursor = page.next_cursor
        return found

    heard: set[str] = set()
    with stream(running, "/stream", alice) as tab:
        next(tab)
        shown = listed()
        writer = threading.Thread(target=wave)
        writer.start()
        while shown[marker.id].visibility == "lab":
            frame = next(frame for frame in tab if "event" in frame)
            heard.add(frame["event"])
            if frame["event"] == "refresh":
                shown = listed()
            else:
                job = JobSummary.model_validate_json(frame["data"])
                shown[job.id] = job
        writer.join()
    assert shown == listed()
    assert heard == {"job", "refresh"}


def test_streams_survive_a_database_that_drops_them(running: Running, world: World, alice: Tenant) -> None:
    job = world.job(alice)
    with stream(running, f"/jobs/{job.id}/events", alice) as events:
        world.append(job.id, 1)
        assert next(events)["id"] == "1"
        world.cut_connections()
        world.append(job.id, 1)
        assert next(frame for frame in events if "id" in frame)["id"] == "2"


def test_a_waiting_stream_holds_no_connection_and_the_server_stops_in_spite_of_it(
    app: Any, world: World, alice: Tenant
) -> None:
    running = Running(app)
    running.start()
    job = world.job(alice)
    with stream(running, "/stream", alice) as tab, stream(running, f"/jobs/{job.id}/events", alice) as events:
        next(tab)
        eventually(lambda: places(running) == 2)
        lab: Lab = running.app.state.lab
        eventually(lambda: lab.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]  # a QueuePool
        assert running.stop(10)
        assert [frame for frame in events if "event" in frame] == []
        assert [frame for frame in tab if "id" in frame] == []


def test_what_is_not_there_is_told_before_a_stream_begins(
    running: Running, world: World, alice: Tenant, bob: Tenant
) -> None:
    foreign = world.job(bob)
    for path in (f"/jobs/{foreign.id}/events", f"/stream?job={foreign.id}"):
        answer = httpx2.get(running.url + path, headers=alice.auth, timeout=30)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:clew:not-found")
    mine = world.job(alice)
    answer = httpx2.get(f"{running.url}/jobs/{mine.id}/events", headers=alice.auth | {"Last-Event-ID": "x"}, timeout=30)
    assert (answer.status_code, answer.json()["where"]) == (422, "/header/Last-Event-ID")
    assert httpx2.head(f"{running.url}/stream", headers=alice.auth, timeout=30).status_code == 405
