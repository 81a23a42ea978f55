"""What was backed up comes back, byte for byte, and works again; what is not whole, or not empty, is refused."""

import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from random import Random

import psycopg
import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr
from tests.support.fleet import TENTH, Fleet, fleet
from tests.support.jobs import Queue, dataset_result, queue, uploaded
from tests.support.rows import REVISIONS, fill
from tests.support.servers import ROLE_PASSWORD, S3, Databases, Lab, s3

from clew_lab.backup import create, restore
from clew_lab.backup.manifest import Table, connect, read
from clew_lab.catalogue import migrate, roles
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.tables import Audit, Base, Job
from clew_lab.jobs import finalise, report
from clew_lab.settings import Settings
from clew_lab.storage import Store, object_key
from clew_spec.errors import Conflict, DataError, NotFound
from clew_spec.jobs import JobState

__all__ = ["fleet", "queue", "s3"]
another_bucket = s3
"""A bucket of its own for the lab that is restored into."""


@pytest.fixture
def empty(make_lab: Callable[..., Lab], empty_database_url: str, another_bucket: S3, tmp_path: Path) -> Lab:
    passwords = {f"db_password_{role}": ROLE_PASSWORD for role in roles.ROLES}
    return make_lab(
        **TENTH,
        **passwords,
        database_url=empty_database_url,
        s3_bucket=another_bucket.bucket,
        data_dir=tmp_path / "restored",
    )


@pytest.fixture
def backup(fleet: Fleet, tmp_path: Path) -> Path:
    """Of a lab with a finished job, one that was drained off its worker, and one that waits."""
    scheduler = fleet.scheduler()
    worker = fleet.worker()
    done = fleet.settle(fleet.submit("steps_5", "every_2"))
    assert done.state == JobState.SUCCEEDED
    half = fleet.submit("steps_200", "ms_50", "every_5")
    fleet.wait_for_checkpoint(half, 5)
    for process in (worker, scheduler):
        process.terminate()
        process.wait(20)
    fleet.submit("steps_3")
    folder = tmp_path / "backup"
    create(fleet.lab.settings, folder)
    return folder


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    with connect(url) as connection:
        return {
            name: sorted(connection.execute(f'select t::text from "{name}" t').fetchall())  # noqa: S608  # our own tables
            for name in Base.metadata.tables
        }


def contents(lab: Lab) -> dict[str, bytes]:
    store = Store.of(lab.settings)
    return {key: store.read(key) for key in store.keys("projects/")}


def test_a_restored_lab_is_the_same_and_works(fleet: Fleet, backup: Path, empty: Lab, tmp_path: Path) -> None:
    source, target = (lab.settings.database_url.get_secret_value() for lab in (fleet.lab, empty))
    assert restore(empty.settings, backup).keys_are_good
    assert rows(target) == rows(source)
    named = {stored.key for stored in read(backup).objects}
    assert len(named) >= 2
    assert contents(empty) == {key: content for key, content in contents(fleet.lab).items() if key in named}

    folder = tmp_path / "restored-logs"
    folder.mkdir()
    second = Fleet(empty, folder, project="after")
    try:
        unfinished = [job.id for job in second.rows(Job, Job.state == JobState.QUEUED)]
        second.scheduler()
        second.worker("restored")
        assert [second.settle(job).state for job in unfinished] == [JobState.SUCCEEDED] * 2, second.logs()
        assert {1, 2} in [{attempt for _, attempt in second.steps(job)} for job in unfinished], "from its checkpoint"
        assert second.settle(second.submit("steps_4")).state == JobState.SUCCEEDED
        numbers = [max(row.id for row in labs.rows(Audit)) for labs in (fleet, second)]
        assert numbers[1] == numbers[0] + 1, "they go on where they stood"
    finally:
        second.stop()


@dataclass
class Small:
    """A lab with a published file and a running job's checkpoint, without a process."""

    queue: Queue
    settings: Settings
    file: str
    checkpoint: str
    running: Job


@pytest.fixture
def small(queue: Queue, lab: Lab, tmp_path: Path) -> Small:
    store, content = Store.of(lab.settings), tmp_path / "content"
    content.write_bytes(b"tokens")
    digest = sha256(b"tokens").hexdigest()
    job = queue.running()
    published = replace(uploaded(job, job.fence), sha256=digest)
    store.put(published.key, content, digest)
    with queue.sessions.begin() as session:
        finalise.succeed(session, job.id, job.fence, dataset_result(), [published])
    content.write_bytes(b"state")
    running = queue.running()
    key = object_key(running.project_id, running.id, running.fence, "checkpoints/3/state")
    state = {"name": "state", "key": key, "sha256": sha256(b"state").hexdigest(), "size": 5}
    store.put(key, content, str(state["sha256"]))
    with queue.sessions.begin() as session:
        report.register_checkpoint(session, running.id, running.fence, 3, [state])
    return Small(queue, lab.settings, published.key, key, running)


def test_a_backup_is_whole_or_not_there(small: Small, tmp_path: Path, empty_database_url: str) -> None:
    folder = tmp_path / "backups" / "one"
    manifest = create(small.settings, folder)
    assert {stored.key for stored in manifest.objects} == {small.file, small.checkpoint}
    for path in (folder, folder / "secret_key", folder / "tables" / "api_keys"):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    with pytest.raises(Conflict):
        create(small.settings, folder)
    Store.of(small.settings).delete(small.file)
    with pytest.raises(DataError, match="is gone"):
        create(small.settings, tmp_path / "backups" / "two")
    nothing = small.settings.model_copy(update={"database_url": SecretStr(empty_database_url)})
    with pytest.raises(DataError, match="holds no lab"):
        create(nothing, tmp_path / "backups" / "three")
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_a_job_whose_checkpoint_was_replaced_meanwhile_begins_anew(small: Small, empty: Lab, tmp_path: Path) -> None:
    Store.of(small.settings).delete(small.checkpoint)
    assert create(small.settings, tmp_path / "backup").lost_checkpoints == [small.running.id]
    other = empty.settings.model_copy(update={"secret_key": SecretStr("another-secret" + "0" * 32)})
    assert not restore(other, tmp_path / "backup").keys_are_good
    assert small.queue.job(small.running.id).checkpoint is not None
    engine = make_engine(empty.settings.database_url.get_secret_value())
    with session_factory(engine)() as session:
        job = session.get_one(Job, small.running.id)
        assert (job.checkpoint, job.state) == (None, JobState.RUNNING)
    engine.dispose()


def test_rows_that_come_to_lie_in_another_order_are_the_same(small: Small, empty: Lab, tmp_path: Path) -> None:
    """Postgres puts a short row where a long one had no room."""
    source, target = (each.database_url.get_secret_value() for each in (small.settings, empty.settings))
    chosen = Random(7)  # noqa: S311  # to be the same again, not to be secret
    with connect(source) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into audit (action, target, data) values ('job.accepted', %s, %s)",
            [(str(number), Jsonb(chosen.randbytes(chosen.randint(10, 900)).hex())) for number in range(3000)],
        )
        cursor.execute("delete from audit where id % 3 = 0")
    create(small.settings, tmp_path / "backup")
    restore(empty.settings, tmp_path / "backup")
    assert rows(target) == rows(source)

    def stored(url: str) -> list[tuple[object, ...]]:
        with connect(url) as connection:
            return connection.execute("select id from audit order by ctid").fetchall()

    assert stored(target) != stored(source), "nothing was tried"


def test_only_an_empty_lab_is_restored_into(small: Small, empty: Lab, lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    create(small.settings, folder)
    before = rows(small.settings.database_url.get_secret_value())
    with pytest.raises(Conflict, match="there are rows in"):
        restore(small.settings, folder)
    assert rows(small.settings.database_url.get_secret_value()) == before
    strange = tmp_path / "strange"
    strange.write_bytes(b"x")
    store = Store.of(empty.settings)
    store.put("projects/p/jobs/j/1/strange", strange, sha256(b"x").hexdigest())
    with pytest.raises(Conflict, match="projects/p/jobs/j/1/strange"):
        restore(empty.settings, folder)
    assert migrate.current(empty.settings.database_url.get_secret_value()) is None
    store.delete("projects/p/jobs/j/1/strange")
    restore(empty.settings, folder)
    with pytest.raises(Conflict):
        restore(empty.settings, folder)


def test_a_backup_that_was_changed_is_refused_before_anything_is_written(
    small: Small, empty: Lab, tmp_path: Path
) -> None:
    whole = tmp_path / "backup"
    manifest = create(small.settings, whole)
    with pytest.raises(NotFound):
        restore(empty.settings, tmp_path)
    parts = [*(table.path for table in manifest.tables), *(stored.path for stored in manifest.objects)]
    newer = manifest.model_copy(update={"revision": "9999"})
    for number, path in enumerate([*parts[::5], parts[-1], Path("manifest.json")]):
        changed = tmp_path / f"changed-{number}"
        shutil.copytree(whole, changed)
        if path.name == "manifest.json":
            (changed / path).write_text(newer.model_dump_json())
        elif number % 2:
            (changed / path).unlink()
        else:
            (changed / path).write_bytes((changed / path).read_bytes() + b"x")
        with pytest.raises(DataError):
            restore(empty.settings, changed)
        assert migrate.current(empty.settings.database_url.get_secret_value()) is None
        assert list(Store.of(empty.settings).keys("projects/")) == []


def test_a_restore_that_was_interrupted_is_done_again(
    small: Small, empty: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(small.settings, tmp_path / "backup")
    module = import_module("clew_lab.backup.restore")
    load = module._load

    def interrupted(connection: psycopg.Connection, folder: Path, table: Table) -> None:
        if table.name == "artifacts":
            raise KeyboardInterrupt
        load(connection, folder, table)

    monkeypatch.setattr(module, "_load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore(empty.settings, tmp_path / "backup")
    url = empty.settings.database_url.get_secret_value()
    assert not any(rows(url).values()), "rows appear together"
    monkeypatch.undo()
    restore(empty.settings, tmp_path / "backup")
    assert rows(url) == rows(small.settings.database_url.get_secret_value())


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_a_backup_of_an_older_version_is_brought_to_this_one(
    databases: Databases, empty: Lab, tmp_path: Path, revision: str
) -> None:
    name = databases.create()
    try:
        old = empty.settings.model_copy(update={"database_url": SecretStr(databases.url(name))})
        migrate.upgrade(databases.url(name), revision)
        counted = fill(databases.url(name), objects=False)
        create(old, tmp_path / "backup")
    finally:
        databases.drop(name)
    restore(empty.settings, tmp_path / "backup")
    url = empty.settings.database_url.get_secret_value()
    assert migrate.current(url) == REVISIONS[-1]
    assert {table: len(found) for table, found in rows(url).items() if table in counted} == counted
