"""The records that a spec's references name, as far as the asker may see them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, or_, select
from sqlalchemy.orm import Session

from clew_lab.catalogue.engine import once
from clew_lab.catalogue.scope import Actor, may_read, readable
from clew_lab.catalogue.tables import Artifact, Coder, Dataset, Graph, Model
from clew_spec.attribution import MAX_PROMPT_TOKENS
from clew_spec.coders import CoderConfig
from clew_spec.errors import InvalidSpec

R = TypeVar("R", Model, Dataset, Coder, Graph)

NO_BOS, OWN_BOS = "none", "bos"


@dataclass(frozen=True)
class Resolved:
    """What a spec's references are at this moment."""

    name: str
    """The job's: that of what it makes, or of the coders it measures."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """All the records the job needs, by field: `model`, `dataset`, `graph` (UUIDs), `coders` (UUIDs by
    layer); and `upload`, the UUID of the files it reads."""
    tokenizer: Artifact | None = None
    """`tokenizer.json` of the model, where `check_text` needs it."""
    max_context: int = MAX_PROMPT_TOKENS
    """In tokens, of the model."""
    bos: str = NO_BOS

    @property
    def max_prompt_tokens(self) -> int:
        return min(MAX_PROMPT_TOKENS, self.max_context)

    def also(self, inputs: dict[str, str]) -> "Resolved":
        """With further inputs."""
        return replace(self, inputs={**self.inputs, **inputs})


def find(session: Session, actor: Actor, table: type[R], ref: str, where: str) -> R:
    """By its UUID or its job's, else by name: the newest of one's own, else the newest that others show to the lab."""
    found = once(session, (actor.project_id, table, ref), lambda: _find(session, actor, table, ref))
    if found is None:
        kind = table.__tablename__
        raise InvalidSpec(
            f"no {kind[:-1]} named {ref} is visible to you",
            where=where,
            expected=f"the name or UUID of a {kind[:-1]}",
            hint=f"list them with GET /api/v1/{kind}",
        )
    return found


def _find(session: Session, actor: Actor, table: type[R], ref: str) -> R | None:
    if as_id := _uuid(ref):
        made = table.id == as_id, table.job_id == as_id
        found = session.scalar(readable(actor, table).where(or_(*made)).order_by(made[0].desc()).limit(1))
        if found is not None:
            return found
    newest: R | None = session.scalar(_named(table), {"own": actor.project_id, "named": ref})
    return newest


@cache
def _named(table: type[R]) -> Select[R]:
    """The newest of a name: built once, for almost every job that is submitted asks."""
    own = bindparam("own", type_=Uuid())
    newest = (table.project_id == own).desc(), table.id.desc()
    return select(table).where(may_read(own, table), table.name == bindparam("named")).order_by(*newest).limit(1)


def coders_and_model(session: Session, actor: Actor, ref: str) -> tuple[list[Coder], Model]:
    """The coders of a set (by its name or its training job) or the one of a UUID, by layer, and their one model.

    `{UUID of the job}/{variant}` is one of several sets that a job made.
    """
    key = (actor.project_id, "coders and model", ref)
    coders, model = once(session, key, lambda: _coders_and_model(session, actor, ref))
    return list(coders), model


def _coders_and_model(session: Session, actor: Actor, ref: str) -> tuple[list[Coder], Model]:
    where = "/spec/coders"
    job, _, variant = ref.partition("/")
    as_id = _uuid(job)
    visible = readable(actor, Coder)
    coders: list[Coder] = []
    if as_id and not variant:
        coders = list(session.scalars(visible.where(Coder.id == as_id)))
    if as_id and not coders:
        made = list(session.scalars(visible.where(Coder.job_id == as_id).order_by(Coder.layer)))
        coders = [coder for coder in made if not variant or coder.name.endswith(f".{variant}")]
    if not coders:
        newest = find(session, actor, Coder, ref, where)
        named = visible.where(Coder.job_id == newest.job_id, Coder.name == newest.name)
        coders = list(session.scalars(named.order_by(Coder.layer)))
    if len(names := sorted({coder.name for coder in coders})) > 1:
        raise InvalidSpec(
            f"job {job} made several sets of coders: {', '.join(names)}",
            where=where,
            expected="the name of one, or the job's UUID with `/` and the name of a variant",
        )
    if len({coder.model_id for coder in coders}) > 1:
        raise InvalidSpec(f"the coders of {ref} belong to several models", where=where, expected="coders of one model")
    same_bos(coders, coders[0].config["bos"], where, "the first of them")
    _whole(coders, where)
    return coders, used(session, actor, Model, coders[0].model_id, "ask its owners to show it to the lab")


def used(session: Session, actor: Actor, table: type[R], id: UUID, hint: str) -> R:
    visible = readable(actor, table).where(table.id == id)
    found = once(session, (actor.project_id, table, id), lambda: session.scalar(visible))
    if found is None:
        what = table.__tablename__[:-1]
        raise InvalidSpec(f"the {what} of these coders is not visible to you", where="/spec/coders", hint=hint)
    return found


def _whole(coders: Sequence[Coder], where: str) -> None:
    """A part of a cross-layer transcoder writes only a part of anything."""
    layers = {coder.layer for coder in coders}
    for coder in coders:
        if missing := sorted({*CoderConfig.model_validate(coder.config).later_layers} - layers):
            raise InvalidSpec(
                f"coder {coder.name} of layer {coder.layer} is one of a cross-layer transcoder, which also has the "
                f"layers {missing}",
                where=where,
                expected="the whole set, by its name or its job",
            )


def same_bos(coders: Sequence[Coder], bos: str, where: str, what: str) -> None:
    for coder in coders:
        if coder.config["bos"] != bos:
            raise InvalidSpec(
                f"coder {coder.name} of layer {coder.layer} was trained with bos {coder.config['bos']!r}, "
                f"{what} has {bos!r}",
                where=where,
                expected=repr(coder.config["bos"]),
            )


def _uuid(ref: str) -> UUID | None:
    try:
        return UUID(ref)
    except ValueError:
        return None
