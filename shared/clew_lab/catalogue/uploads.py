"""Uploads in the catalogue: announced, completed, found by the jobs that need them, and gone when their time is over.

An upload that has expired never comes back: the same files announced again are a new one. What lies in the store is
`storage.multipart`'s; here no server but Postgres is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, cast, delete, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from clew_lab.catalogue import audit
from clew_lab.catalogue.pages import page
from clew_lab.catalogue.scope import Actor, may_see_upload
from clew_lab.catalogue.tables import Job, Project, Upload, UploadedFile, User
from clew_lab.storage import upload_prefix
from clew_spec.api import Page
from clew_spec.data_views import UploadDetail, UploadFileView, UploadView
from clew_spec.errors import Conflict, InvalidSpec, NotFound
from clew_spec.jobs import TERMINAL
from clew_spec.people import Permission
from clew_spec.uploads import SCHEME, UploadFile, UploadRequest, split_ref

LISTED = 10
"""File names that an error tells."""


@dataclass(frozen=True)
class Sending:
    """A file on its way into the store."""

    number: int
    key: str
    file: UploadFile
    multipart_id: str | None
    whole: bool


def announced(session: Session, actor: Actor, request: UploadRequest) -> bool:
    """Whether the same upload is there, begun or complete: it takes no room that it has not."""
    same = exists().where(may_see_upload(actor), Upload.digest == _digest(request))
    return bool(session.scalar(select(same)))


def announce(
    session: Session, actor: Actor, request: UploadRequest, *, open_s: float, request_id: str | None = None
) -> tuple[UploadDetail, bool]:
    """A new upload, or the one there is of the same; and whether it is new. `open_s`: how long it may stand still."""
    digest = _digest(request)
    same = [Upload.project_id == actor.project_id, Upload.digest == digest, Upload.state != "deleted"]
    session.execute(update(Upload).where(*same, Upload.expires_at <= func.now()).values(state="deleted"))
    upload = session.scalar(
        insert(Upload)
        .values(
            project_id=actor.project_id,
            name=request.name,
            digest=digest,
            size=sum(file.size for file in request.files),
            state="open",
            created_by=actor.key_id,
            user_id=actor.user_id,
            expires_at=_from_now(open_s),
        )
        # Literally: of a statement that is prepared, a parameter would name no index.
        .on_conflict_do_nothing(index_elements=["project_id", "digest"], index_where=text("state <> 'deleted'"))
        .returning(Upload)
    )
    if upload is None:
        there = session.scalar(select(Upload).where(*same).with_for_update())
        if there is None:
            raise Conflict("the same upload was removed at this moment", hint="announce it again")
        return detail(session, actor, _kept(there, open_s).id), False
    session.add_all(
        UploadedFile(
            project_id=actor.project_id,
            upload_id=upload.id,
            number=number,
            name=file.name,
            size=file.size,
            sha256=file.sha256,
        )
        for number, file in enumerate(request.files)
    )
    told = {"name": upload.name, "files": len(request.files), "size": upload.size}
    _record(session, actor, "upload.announced", upload, request_id, **told)
    session.flush()
    return detail(session, actor, upload.id), True


def keep(session: Session, actor: Actor, upload_id: UUID, *, open_s: float) -> None:
    """Somebody works on it: an open one stays so for another while. Raises `NotFound`."""
    _kept(_get(session, actor, upload_id, lock=True), open_s)


def sending(session: Session, actor: Actor, upload_id: UUID) -> list[Sending]:
    """Its files, in the order of the request. Raises `NotFound`."""
    upload = _get(session, actor, upload_id)
    prefix = upload_prefix(upload.project_id, upload.id)
    return [
        Sending(
            row.number,
            f"{prefix}{row.number}",
            UploadFile(name=row.name, size=row.size, sha256=row.sha256),
            row.multipart_id,
            row.whole,
        )
        for row in _files(session, upload.id)
    ]


def began(session: Session, upload_id: UUID, sent: Sending, multipart_id: str) -> str:
    """Remember the store's id of a file's upload, unless another request was first; returns the one that holds."""
    row = session.scalars(
        select(UploadedFile)
        .where(UploadedFile.upload_id == upload_id, UploadedFile.number == sent.number)
        .with_for_update()
    ).one()
    if row.multipart_id == sent.multipart_id:
        row.multipart_id = multipart_id
    return row.multipart_id or multipart_id


def joined(session: Session, upload_id: UUID, numbers: Sequence[int]) -> None:
    """These files are whole."""
    session.execute(
        update(UploadedFile)
        .where(UploadedFile.upload_id == upload_id, UploadedFile.number.in_(numbers))
        .values(whole=True)
    )


def complete(
    session: Session, actor: Actor, upload_id: UUID, *, keep_s: float, request_id: str | None = None
) -> UploadDetail:
    """Jobs can name it from now on, for `keep_s`; again changes nothing. Raises `Conflict` where files are missing."""
    upload = _get(session, actor, upload_id, lock=True)
    if upload.state == "open":
        if missing := [file.name for file in _files(session, upload.id) if not file.whole]:
            raise incomplete(missing)
        upload.state, upload.completed_at, upload.expires_at = "complete", func.now(), _from_now(keep_s)
        _record(session, actor, "upload.completed", upload, request_id)
        session.flush()
    return detail(session, actor, upload.id)


def incomplete(names: Sequence[str]) -> Conflict:
    shown = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    return Conflict(
        f"parts are missing, or have another size than was announced, of {shown}",
        expected="every part that POST /api/v1/uploads/{id}/parts lists",
        hint="send those parts, then complete again",
    )


def remove(session: Session, actor: Actor, upload_id: UUID, *, request_id: str | None = None) -> None:
    """No job can name it any more; the sweep takes its files. Who does not manage the project's jobs removes their own.

    Raises `NotFound`, `Forbidden`, `Conflict` where a job that has not ended needs it.
    """
    upload = _get(session, actor, upload_id, lock=True)
    if not actor.submitted(upload):
        actor.require(Permission.JOB_MANAGE)
    if session.scalar(select(_needed(upload.id))):
        raise Conflict("a job that has not ended needs this upload", hint="wait for the job, or cancel it")
    upload.state, upload.expires_at = "deleted", func.now()
    _record(session, actor, "upload.removed", upload, request_id)


def list_uploads(
    session: Session, actor: Actor, *, name: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page[UploadView]:
    statement = _views(actor)
    if name is not None:
        statement = statement.where(Upload.name == name)
    return page(session, statement, Upload, lambda row: UploadView(**_view(*row)), cursor=cursor, limit=limit)


def detail(session: Session, actor: Actor, upload_id: UUID) -> UploadDetail:
    row = session.execute(_views(actor).where(Upload.id == upload_id), execution_options={"populate_existing": True})
    found = row.one_or_none()
    if found is None:
        raise _none(upload_id)
    files = [UploadFileView(name=f.name, size=f.size, sha256=f.sha256) for f in _files(session, upload_id)]
    return UploadDetail(**_view(*found), contents=files, ref=f"{SCHEME}{upload_id}")


def find_upload(
    session: Session, actor: Actor, path: str, *, where: str, endings: tuple[str, ...], folder: bool = True
) -> UUID:
    """The complete upload that a path such as `upload:texts/a.txt` names: by id, or the newest of that name.

    Raises `InvalidSpec` where there is none, where it has no such file, or none that ends in one of `endings`.
    """
    ref, inner = split_ref(path) or ("", "")
    by = Upload.id == as_id if (as_id := _uuid(ref)) else Upload.name == ref
    found = session.scalars(select(Upload).where(may_see_upload(actor), by).order_by(Upload.id.desc())).all()
    whole = [upload for upload in found if upload.state == "complete"]
    if not whole:
        said = f"the upload {ref[:80]} is not complete" if found else f"your project has no upload {ref[:80]!r}"
        hint = "`clew upload` goes on where it stopped" if found else "list them with GET /api/v1/uploads"
        raise InvalidSpec(said, where=where, expected="the name or id of a complete upload", hint=hint)
    names = [file.name for file in _files(session, whole[0].id)]
    below = [name for name in names if not inner or name == inner or name.startswith(inner.rstrip("/") + "/")]
    one_file = inner in names or (not inner and len(names) == 1)
    if not below or not any(name.endswith(endings) for name in below) or not (folder or one_file):
        shown = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
        kind = "files that end in" if folder else "one file that ends in"
        raise InvalidSpec(
            f"the upload {whole[0].name} has nothing of that kind" + (f" at {inner!r}" if inner else ""),
            where=where,
            expected=f"{kind} {' or '.join(endings)}",
            hint=f"it has {shown}",
        )
    return whole[0].id


def stored_bytes(session: Session, project_id: UUID) -> int:
    """Of the project's uploads, those on their way included."""
    total = select(func.coalesce(func.sum(Upload.size), 0))
    return int(session.scalars(total.where(Upload.project_id == project_id, Upload.state != "deleted")).one())


@dataclass(frozen=True)
class Expired:
    id: UUID
    prefix: str
    sent: list[tuple[str, str]]
    """Keys of files, each with the store's id of its upload, that may have parts."""


def expired(session: Session, *, limit: int = 20) -> list[Expired]:
    """Uploads whose time is over and that no job needs."""
    rows = session.scalars(
        select(Upload)
        .where(Upload.expires_at < func.now(), ~_needed(Upload.id))
        .order_by(Upload.expires_at)
        .limit(limit)
    ).all()
    found = []
    for upload in rows:
        prefix = upload_prefix(upload.project_id, upload.id)
        files = _files(session, upload.id)
        sent = [(f"{prefix}{file.number}", file.multipart_id) for file in files if file.multipart_id and not file.whole]
        found.append(Expired(upload.id, prefix, sent))
    return found


def forget(session: Session, upload_id: UUID) -> None:
    """Delete the rows of an expired upload, once its objects are gone."""
    session.execute(delete(Upload).where(Upload.id == upload_id, Upload.expires_at < func.now()))


def files_of(session: Session, upload_id: UUID) -> tuple[Upload, Sequence[UploadedFile]] | None:
    """For the job that needs it; None where it is gone."""
    upload = session.get(Upload, upload_id)
    return None if upload is None else (upload, _files(session, upload_id))


def _digest(request: UploadRequest) -> str:
    return sha256(request.model_dump_json().encode()).hexdigest()


def _files(session: Session, upload_id: UUID) -> Sequence[UploadedFile]:
    statement = select(UploadedFile).where(UploadedFile.upload_id == upload_id).order_by(UploadedFile.number)
    return session.scalars(statement).all()


def _get(session: Session, actor: Actor, upload_id: UUID, *, lock: bool = False) -> Upload:
    statement = select(Upload).where(may_see_upload(actor), Upload.id == upload_id)
    upload = session.scalar(statement.with_for_update() if lock else statement)
    if upload is None:
        raise _none(upload_id)
    return upload


def _none(upload_id: UUID) -> NotFound:
    return NotFound(f"no upload {upload_id}", hint="list them with GET /api/v1/uploads")


def _kept(upload: Upload, open_s: float) -> Upload:
    if upload.state == "open":
        upload.expires_at = _from_now(open_s)
    return upload


def _needed(upload_id: Any) -> ColumnElement[bool]:
    """Whether a job that has not ended was accepted with it."""
    ended = [state.value for state in TERMINAL]
    id = str(upload_id) if isinstance(upload_id, UUID) else cast(upload_id, Text)
    return exists().where(Job.inputs["upload"].astext == id, Job.state.not_in(ended))


def _views(actor: Actor) -> Select[Any]:
    count = select(func.count()).where(UploadedFile.upload_id == Upload.id).scalar_subquery()
    return (
        select(Upload)
        .join(Project, Project.id == Upload.project_id)
        .outerjoin(User, User.id == Upload.user_id)
        .where(may_see_upload(actor))
        .add_columns(Project.name, User.name, count)
    )


def _view(row: Upload, project: str, user: str | None, files: int) -> dict[str, Any]:
    same = ("id", "name", "state", "size", "created_at", "completed_at", "expires_at")
    return {**{name: getattr(row, name) for name in same}, "project": project, "user": user, "files": files}


def _record(session: Session, actor: Actor, action: str, upload: Upload, request_id: str | None, **data: Any) -> None:
    audit.record(session, actor, action, upload.id, project_id=upload.project_id, request_id=request_id, **data)


def _from_now(seconds: float) -> ColumnElement[Any]:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _uuid(ref: str) -> UUID | None:
    try:
        return UUID(ref)
    except ValueError:
        return None
