"""Files go straight to the store, in parts; nothing of them is there before all of it is, in the sizes announced."""

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import func, select, text, update
from tests.clew_api.seeds import Tenant, World
from tests.support.servers import under_role
from tests.support.uploading import UPLOADS, announcement, described, missing, put, uploaded

from clew_lab.catalogue import uploads
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.tables import Audit, Job, Project, Upload, UploadedFile
from clew_lab.storage import Multipart, upload_prefix
from clew_scheduler.retention import sweep_uploads
from clew_spec.jobs import JobState
from clew_spec.people import Role
from clew_spec.uploads import MIN_PART, UploadFile, UploadRequest

JOBS = "/api/v1/jobs"
LARGE = os.urandom(MIN_PART) + b"and a second part"


def build(path: str, kind: str = "text", **source: Any) -> dict[str, Any]:
    spec = {"kind": "build-dataset", "name": "d2", "model": "m", "source": {"kind": kind, "path": path, **source}}
    return {"spec": spec}


def test_any_number_is_announced_over_one_connection(world: World, alice: Tenant) -> None:
    """The driver prepares what is said often, and Postgres plans it anew for parameters that it does not know yet."""
    with world.sessions.begin() as session:
        session.execute(text("set local plan_cache_mode = force_generic_plan"))
        for number in range(12):
            request = UploadRequest.model_validate(announcement(f"u{number}", a_txt=b"a"))
            for is_new in (True, False):
                assert uploads.announce(session, alice.actor, request, open_s=60)[1] == is_new


def test_a_length_that_lies_brings_nothing_in(api: TestClient) -> None:
    """Less than the header says, and more: neither the part nor the bytes behind it are taken."""
    content = b"exactly so much"
    id = api.post(UPLOADS, json=announcement("lies", a_txt=content)).json()["id"]
    [part] = missing(api, id)
    url = urlsplit(part["url"])

    def send(body: bytes, length: int) -> bytes:
        with socket.create_connection((url.hostname, url.port), timeout=30) as store:
            head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {length}\r\n"
            store.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
            store.shutdown(socket.SHUT_WR)
            return store.recv(12)

    assert send(content[:4], len(content)) != b"HTTP/1.1 200"
    assert send(content[:4], 4) == b"HTTP/1.1 403"
    assert missing(api, id)[0]["number"] == part["number"]
    assert api.post(f"{UPLOADS}/{id}/complete").status_code == 409
    assert send(content + b"and more", len(content)) == b"HTTP/1.1 200"
    assert api.post(f"{UPLOADS}/{id}/complete").json()["size"] == len(content)


def test_an_upload_is_resumed_where_it_stopped_and_seen_when_it_is_whole(
    api: TestClient, world: World, alice: Tenant
) -> None:
    world.model(alice)
    body = announcement("notes", a_txt=b"short", deep__b_txt=LARGE, c_txt=b"")
    contents = {"a.txt": b"short", "deep/b.txt": LARGE, "c.txt": b""}
    begun = api.post(UPLOADS, json=body)
    assert begun.status_code == 201
    id = begun.json()["id"]
    assert begun.headers["location"] == f"{UPLOADS}/{id}"
    parts = missing(api, id)
    assert [(part["file"], part["number"], part["offset"], part["size"]) for part in parts] == [
        ("a.txt", 1, 0, 5),
        ("deep/b.txt", 1, 0, MIN_PART),
        ("deep/b.txt", 2, MIN_PART, 17),
        ("c.txt", 1, 0, 0),
    ]
    for part in parts[:2]:
        assert put(part, contents[part["file"]]) == 200

    again = api.post(UPLOADS, json=body)
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, id, "open")
    left = missing(api, id)
    assert [(part["file"], part["number"]) for part in left] == [("deep/b.txt", 2), ("c.txt", 1)]
    refused = api.post(f"{UPLOADS}/{id}/complete")
    assert (refused.status_code, "deep/b.txt, c.txt" in refused.json()["detail"]) == (409, True)
    early = api.post(JOBS, json=build("upload:notes"))
    assert (early.status_code, early.json()["where"]) == (422, "/spec/source/path")
    assert "is not complete" in early.json()["detail"]

    for part in left:
        assert put(part, contents[part["file"]]) == 200
    done = api.post(f"{UPLOADS}/{id}/complete")
    assert (done.status_code, done.json()["state"], done.json()["size"]) == (200, "complete", len(LARGE) + 5)
    assert api.post(f"{UPLOADS}/{id}/complete").json() == done.json(), "asking twice is asking once"
    assert missing(api, id) == []
    assert api.post(UPLOADS, json=body).json() == done.json(), "what is there need not be sent again"
    prefix = upload_prefix(alice.project.id, UUID(id))
    assert [world.store.read(f"{prefix}{number}") for number in range(3)] == list(contents.values())

    job = api.post(JOBS, json=build("upload:notes/deep")).json()
    with world.sessions() as session:
        assert session.get_one(Job, UUID(job["id"])).inputs["upload"] == id
        actions = session.scalars(select(Audit.action).where(Audit.target == id).order_by(Audit.id)).all()
    assert actions == ["upload.announced", "upload.completed"]
    assert job["inputs"].keys() == {"model"}


def test_parts_come_in_pages_and_an_upload_survives_the_loss_of_the_stores_memory(
    api: TestClient, world: World, alice: Tenant
) -> None:
    contents = {f"{number}.txt": bytes([number]) for number in range(5)}
    body = {"name": "many", "files": [described(name, content) for name, content in contents.items()]}
    id = api.post(UPLOADS, json=body).json()["id"]
    seen, cursor = [], None
    while True:
        page = api.post(f"{UPLOADS}/{id}/parts", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [part["file"] for part in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == list(contents)
    assert api.post(f"{UPLOADS}/{id}/parts", params={"cursor": "5"}).status_code == 422
    with world.sessions() as session:
        rows = session.scalars(select(UploadedFile).where(UploadedFile.upload_id == UUID(id))).all()
        sent = [(f"{upload_prefix(alice.project.id, UUID(id))}{row.number}", row.multipart_id) for row in rows]
    for key, multipart_id in sent[:3]:
        Multipart(world.store).abort(key, multipart_id or "")
    for part in missing(api, id):
        assert put(part, contents[part["file"]]) == 200
    # joined, but the answer was lost before it was written down
    key, multipart_id = sent[4]
    Multipart(world.store).join(key, multipart_id or "", Multipart(world.store).parts(key, multipart_id or "") or [])
    assert missing(api, id) == []
    assert api.post(f"{UPLOADS}/{id}/complete").status_code == 200


def test_two_who_resume_at_once_work_on_one_upload(api: TestClient) -> None:
    body = announcement("notes", a_txt=LARGE)
    with ThreadPoolExecutor(4) as pool:
        ids = {answer.json()["id"] for answer in pool.map(lambda _: api.post(UPLOADS, json=body), range(4))}
        (id,) = ids
        signed = list(pool.map(lambda _: missing(api, id), range(4)))
    for parts, number in zip(signed, (0, 1, 0, 1), strict=True):
        assert put(parts[number], LARGE) == 200
    assert missing(api, id) == []
    assert api.post(f"{UPLOADS}/{id}/complete").json()["state"] == "complete"


def test_a_size_that_was_a_lie_is_never_taken(api: TestClient, world: World, alice: Tenant) -> None:
    """A link is signed for the announced length, and a store that took another is caught when parts are joined."""
    body = {"name": "liar", "files": [described("a.txt", b"four"), described("b.txt", b"four")]}
    id = api.post(UPLOADS, json=body).json()["id"]
    first, second = missing(api, id)
    for content in (b"fou", b"fours", bytes(10**6)):
        assert put(first | {"size": len(content)}, content) == 403
    assert put(second, b"four") == 200
    with world.sessions() as session:
        row = session.scalars(select(UploadedFile).where(UploadedFile.name == "a.txt")).one()
        key = f"{upload_prefix(alice.project.id, UUID(id))}{row.number}"
        forged = Multipart(world.store).link(key, row.multipart_id or "", 1, 9)
    assert put({"url": forged, "offset": 0, "size": 9}, b"nine here") == 200
    assert [part["file"] for part in missing(api, id)] == ["a.txt"]
    refused = api.post(f"{UPLOADS}/{id}/complete")
    assert (refused.status_code, "a.txt" in refused.json()["detail"]) == (409, True)
    assert put(first, b"four") == 200
    assert api.post(f"{UPLOADS}/{id}/complete").status_code == 200


ODD_NAMES = [
    *("..", ".", "", "/", "/etc/passwd", "../a", "a/../b", "a/./b", "a//b", "a/", "a\\..\\b", "C:/a", "a\0b", "a\nb"),
    *("a\x1b[2J", "a\u202etxt.exe", "\ufeffa", " a", "a ", "a/ /b", "x" * 513, "a/" * 16 + "b"),
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
def test_a_name_that_leads_elsewhere_is_refused(api: TestClient, world: World, name: str) -> None:
    answer = api.post(UPLOADS, json={"name": "n", "files": [described("fine.txt", b""), described(name, b"x")]})
    assert answer.status_code == 422, answer.text
    with world.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Upload)) == 0


@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "a", "", "\\", "b c"]), max_size=5).map("/".join))
def test_every_name_that_is_taken_stays_inside(name: str) -> None:
    try:
        UploadFile(name=name, size=0, sha256="0" * 64)
    except ValidationError:
        return
    root = Path("/r")
    assert os.path.normpath(root / name) == str(root / name)
    assert (root / name).is_relative_to(root)
    assert name.isprintable() or not any(ord(character) < 32 for character in name)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "at least 1"),
        ([described("a", b""), described("a", b"x")], "same name"),
        ([described("a", b""), described("a/b", b"x")], "is itself a file"),
        ([described("a", b"", size=-1)], "greater than or equal to 0"),
        ([described("a", b"", size=2**44 + 1)], "less than or equal to"),
        ([described("a", b"", size=2**44), described("b", b"", size=1)], "at most"),
        ([described("a", b"", sha256="0" * 63)], "pattern"),
        ([described("a", b"", size="1")], "integer"),
        ([described(f"f{number}", b"") for number in range(1001)], "at most 1000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_an_upload_is_told(api: TestClient, files: list[dict[str, Any]], said: str) -> None:
    answer = api.post(UPLOADS, json={"name": "n", "files": files})
    assert answer.status_code == 422
    assert said in answer.text


@given(st.integers(0, 2**44))
def test_parts_cover_a_file_without_gap_or_overlap(size: int) -> None:
    file = UploadFile(name="a", size=size, sha256="0" * 64)
    assert 1 <= file.parts <= 5000
    assert file.part(1)[0] == 0
    numbers = {1, 2, file.parts // 2, file.parts - 1, file.parts} & set(range(1, file.parts + 1))
    for number in numbers:
        offset, length = file.part(number)
        following = size if number == file.parts else file.part(number + 1)[0]
        assert offset + length == following
        assert length <= 5 * 2**30
        assert number == file.parts or length >= 5 * 2**20, "S3 refuses smaller ones but the last"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such upload": (build("upload:nothing"), "has no upload 'nothing'"),
    "no such file": (build("upload:notes/b.txt"), "nothing of that kind at 'b.txt'"),
    "a file of another ending": (build("upload:notes/a.txt", "jsonl"), "nothing of that kind"),
    "an empty name": (build("upload:"), "has no upload ''"),
    "a path that climbs": (build("upload:notes/../../x"), "nothing of that kind"),
    "a model of texts": ({"spec": {"kind": "import-model", "name": "m2", "path": "upload:notes"}}, "that kind"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_job_names_what_is_there_and_of_its_kind(api: TestClient, world: World, alice: Tenant, what: str) -> None:
    world.model(alice)
    uploaded(api, "notes", {"a.txt": b"a", "deep/c.txt": b"c"})
    body, said = BAD[what]
    answer = api.post(JOBS, json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text
    assert answer.json()["where"].endswith("/path")


def test_the_newest_complete_upload_of_a_name_is_meant(api: TestClient, world: World, alice: Tenant) -> None:
    world.model(alice)
    ids = [uploaded(api, "notes", {"a.txt": content}) for content in (b"one", b"two")]
    api.post(UPLOADS, json=announcement("notes", a_txt=b"three"))
    by_name, by_id = (api.post(JOBS, json=build(f"upload:{ref}")).json()["id"] for ref in ("notes", ids[0]))
    with world.sessions() as session:
        assert [session.get_one(Job, UUID(job)).inputs["upload"] for job in (by_name, by_id)] == [ids[1], ids[0]]


def test_uploads_are_the_projects_own(api: TestClient, anyone: TestClient, world: World, bob: Tenant) -> None:
    body = announcement("notes", a_txt=b"a")
    id = uploaded(api, "notes", {"a.txt": b"a"})
    world.model(bob)
    for method, path in (("GET", ""), ("POST", "/parts"), ("POST", "/complete"), ("DELETE", "")):
        assert anyone.request(method, f"{UPLOADS}/{id}{path}", headers=bob.auth).status_code == 404
    assert anyone.get(UPLOADS, headers=bob.auth).json()["items"] == []
    for ref in ("notes", id):
        assert anyone.post(JOBS, json=build(f"upload:{ref}"), headers=bob.auth).status_code == 422
    own = anyone.post(UPLOADS, json=body, headers=bob.auth)
    assert (own.status_code, own.json()["id"] == id) == (201, False), "that another project has it is not told"


def test_who_may_send_and_who_may_remove(anyone: TestClient, api: TestClient, world: World, alice: Tenant) -> None:
    viewer = world.member(alice.project, "vera", Role.VIEWER)
    member = world.member(alice.project, "max", Role.MEMBER)
    id = uploaded(api, "notes", {"a.txt": b"a"})
    assert anyone.post(UPLOADS, json=announcement("n", a_txt=b""), headers=viewer.auth).status_code == 403
    assert anyone.get(f"{UPLOADS}/{id}", headers=viewer.auth).status_code == 200
    assert anyone.delete(f"{UPLOADS}/{id}", headers=viewer.auth).status_code == 403
    assert anyone.delete(f"{UPLOADS}/{id}", headers=member.auth).status_code == 403, "another's"
    theirs = anyone.post(UPLOADS, json=announcement("n", a_txt=b""), headers=member.auth).json()["id"]
    assert anyone.delete(f"{UPLOADS}/{theirs}", headers=member.auth).status_code == 204
    assert anyone.delete(f"{UPLOADS}/{id}", headers=alice.auth).status_code == 204
    assert api.get(f"{UPLOADS}/{id}").status_code == 404


def test_what_is_announced_counts_and_the_quota_holds_for_many_at_once(
    api: TestClient, world: World, alice: Tenant
) -> None:
    with world.sessions.begin() as session:
        session.execute(update(Project).where(Project.id == alice.project.id).values(max_stored_bytes=100))
    bodies = [announcement(f"n{number}", a_txt=bytes(40)) for number in range(5)]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda body: api.post(UPLOADS, json=body), bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert "stores 80 B, and this upload adds about 40 B; its quota is 100 B" in refused["detail"]
    taken = [body for body, answer in zip(bodies, answers, strict=True) if answer.status_code == 201]
    assert api.post(UPLOADS, json=taken[0]).status_code == 200, "the same again takes no more"
    shares = api.get("/api/v1/lab").json()["projects"]
    assert [share["stored_bytes"] for share in shares] == [80]
    id = api.post(UPLOADS, json=taken[0]).json()["id"]
    assert api.delete(f"{UPLOADS}/{id}").status_code == 204
    assert api.post(UPLOADS, json=announcement("last", a_txt=bytes(60))).status_code == 201


def test_what_is_abandoned_is_swept_and_what_a_job_needs_stays(
    api: TestClient, world: World, alice: Tenant, database_url: str
) -> None:
    world.model(alice)
    needed = uploaded(api, "needed", {"a.txt": b"a"})
    kept = uploaded(api, "kept", {"a.txt": b"b"})
    spent = uploaded(api, "spent", {"a.txt": b"c"})
    half = api.post(UPLOADS, json=announcement("half", a_txt=LARGE, b_txt=b"b")).json()["id"]
    parts = missing(api, half)
    assert put(parts[0], LARGE) == 200
    assert put(parts[2], b"b") == 200
    job = UUID(api.post(JOBS, json=build("upload:needed")).json()["id"])
    assert api.delete(f"{UPLOADS}/{needed}").status_code == 409
    past = func.now() - func.make_interval(0, 0, 0, 1)
    with world.sessions.begin() as session:
        old = Upload.id.in_([UUID(id) for id in (needed, spent, half)])
        session.execute(update(Upload).where(old).values(expires_at=past))
    for id in (needed, spent, half):
        assert api.get(f"{UPLOADS}/{id}").status_code == 404
    assert api.post(JOBS, json=build("upload:needed")).status_code == 422

    engine = make_engine(under_role(database_url, "scheduler"))
    sessions = session_factory(engine)
    with world.sessions() as session:
        key = f"{upload_prefix(alice.project.id, UUID(half))}0"
        sent = session.scalars(select(UploadedFile.multipart_id).where(UploadedFile.upload_id == UUID(half))).first()
    assert sweep_uploads(sessions, world.store) == 2
    assert sweep_uploads(sessions, world.store) == 0
    assert Multipart(world.store).parts(key, sent or "") is None, "its parts take no room any more"
    left = {key.split("/")[3] for key in world.store.keys(f"projects/{alice.project.id}/uploads/")}
    assert left == {needed, kept}
    again = api.post(UPLOADS, json=announcement("half", a_txt=LARGE, b_txt=b"b"))
    assert (again.status_code, again.json()["id"] != half) == (201, True)

    world.touch(world_job(world, job), state=JobState.CANCELLED.value, finished_at=func.now())
    assert sweep_uploads(sessions, world.store) == 1
    engine.dispose()
    left = {key.split("/")[3] for key in world.store.keys(f"projects/{alice.project.id}/uploads/")}
    assert left == {kept}


def world_job(world: World, id: UUID) -> Job:
    with world.sessions() as session:
        return session.get_one(Job, id)


def test_a_store_that_is_away_is_told_and_nothing_is_lost(
    api: TestClient, world: World, monkeypatch: pytest.MonkeyPatch, make_lab: Callable[..., Any]
) -> None:
    id = api.post(UPLOADS, json=announcement("n", a_txt=b"a")).json()["id"]
    assert put(missing(api, id)[0], b"a") == 200
    lab = api.app.state.lab  # type: ignore[attr-defined]
    away = make_lab(s3_endpoint="127.0.0.1:9").settings
    monkeypatch.setattr(lab.store, "client", type(lab.store).of(away).client)
    assert api.post(f"{UPLOADS}/{id}/complete").status_code == 503
    monkeypatch.undo()
    assert api.post(f"{UPLOADS}/{id}/complete").json()["state"] == "complete"


def test_the_same_request_has_the_same_digest_however_it_is_spelt() -> None:
    file = described("a.txt", b"a")
    one, other = (
        UploadRequest.model_validate({"name": "n", "files": [f]}) for f in (file, dict(reversed(file.items())))
    )
    assert one.model_dump_json() == other.model_dump_json()
