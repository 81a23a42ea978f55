"""Between the catalogue's rows of an upload and its parts in the object store. No transaction waits for the store."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from uuid import UUID

from clew_api.lab import Lab
from clew_lab.catalogue import uploads
from clew_lab.catalogue.scope import Actor
from clew_lab.catalogue.uploads import Sending
from clew_lab.storage import Multipart
from clew_lab.storage.multipart import Part
from clew_spec.api import Page
from clew_spec.data_views import PartView, UploadDetail
from clew_spec.errors import InvalidSpec

AT_ONCE = 8
"""Files that the store is asked about side by side."""


def missing_parts(lab: Lab, actor: Actor, upload_id: UUID, *, cursor: str | None, limit: int) -> Page[PartView]:
    """Links for the next parts that are not there in their full size. Raises `NotFound`, `InvalidSpec`."""
    with lab.transaction() as session:
        uploads.keep(session, actor, upload_id, open_s=lab.settings.keep_open_uploads_s)
        files = uploads.sending(session, actor, upload_id)
    found = list(islice(_missing(lab, upload_id, files, _number(cursor, len(files))), limit + 1))
    more = len(found) > limit
    return Page[PartView](items=[view for _, view in found[:limit]], next_cursor=str(found[limit][0]) if more else None)


def complete(lab: Lab, actor: Actor, upload_id: UUID, *, request_id: str | None = None) -> UploadDetail:
    """Join the parts of each file. Raises `NotFound`, and `Conflict` where parts are missing or have another size.

    What the files hold is not read here: whoever reads them holds them against their sha256.
    """
    with lab.transaction() as session:
        files = [sent for sent in uploads.sending(session, actor, upload_id) if not sent.whole]
    store = Multipart(lab.store)

    def join(sent: Sending) -> bool:
        parts = _parts(store, sent)
        if parts is not None and sent.multipart_id is not None:
            if len(parts) < sent.file.parts:
                return False
            store.join(sent.key, sent.multipart_id, [parts[number] for number in sorted(parts)])
        there = lab.store.stat(sent.key)
        return there is not None and there.size == sent.file.size

    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = list(pool.map(join, files))
    with lab.transaction() as session:
        uploads.joined(session, upload_id, [sent.number for sent, done in zip(files, whole, strict=True) if done])
    if missing := [sent.file.name for sent, done in zip(files, whole, strict=True) if not done]:
        raise uploads.incomplete(missing)
    with lab.transaction() as session:
        keep_s = lab.settings.keep_uploads_s
        return uploads.complete(session, actor, upload_id, keep_s=keep_s, request_id=request_id)


def _missing(lab: Lab, upload_id: UUID, files: Sequence[Sending], first: int) -> Iterator[tuple[int, PartView]]:
    """With the number of the file that each part is of."""
    store = Multipart(lab.store)
    for sent in files[first:]:
        if sent.whole:
            continue
        parts = _parts(store, sent)
        if parts is None:
            there = lab.store.stat(sent.key)
            if there is not None and there.size == sent.file.size:
                continue  # joined, though nobody wrote it down
            id, parts = _begin(lab, store, upload_id, sent), {}
        else:
            assert sent.multipart_id is not None
            id = sent.multipart_id
        for number in sorted({*range(1, sent.file.parts + 1)} - parts.keys()):
            offset, size = sent.file.part(number)
            url = store.link(sent.key, id, number, size)
            yield sent.number, PartView(file=sent.file.name, number=number, offset=offset, size=size, url=url)


def _begin(lab: Lab, store: Multipart, upload_id: UUID, sent: Sending) -> str:
    """The store's id for the file; of two requests at once, one's."""
    id = store.begin(sent.key)
    with lab.transaction() as session:
        holds = uploads.began(session, upload_id, sent, id)
    if holds != id:
        store.abort(sent.key, id)
    return holds


def _parts(store: Multipart, sent: Sending) -> dict[int, Part] | None:
    """By number, those of the announced size; None where the store knows of no upload of the file."""
    found = None if sent.multipart_id is None else store.parts(sent.key, sent.multipart_id)
    if found is None:
        return None
    last = sent.file.parts
    return {
        part.number: part for part in found if 1 <= part.number <= last and part.size == sent.file.part(part.number)[1]
    }


def _number(cursor: str | None, files: int) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdecimal() or int(cursor) >= files:
        raise InvalidSpec(
            "the cursor is not one of ours", where="/query/cursor", expected="the `next_cursor` of the page before"
        )
    return int(cursor)
