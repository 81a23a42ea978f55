"""People, projects, and who is what in which."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from clew_lab.catalogue import audit, identity
from clew_lab.catalogue.pages import page
from clew_lab.catalogue.scope import Actor, get_project, may_reach
from clew_lab.catalogue.tables import Membership, Project, User
from clew_spec.api import MemberView, Page, ProjectRole, ProjectView, UserView
from clew_spec.errors import Conflict, InvalidSpec, NotFound
from clew_spec.people import (
    MemberChange,
    MemberRequest,
    ProjectChange,
    ProjectRequest,
    Role,
    UserChange,
    UserRequest,
)


def list_users(
    session: Session, *, name: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page[UserView]:
    statement = select(User) if name is None else select(User).where(User.name == name)
    found = page(session, statement, User, lambda row: _user(row[0], []), cursor=cursor, limit=limit)
    roles = _roles(session, [user.id for user in found.items])
    for user in found.items:
        user.projects = roles.get(user.id, [])
    return found


def get_user(session: Session, id: UUID) -> UserView:
    return _user(_find_user(session, id), _roles(session, [id]).get(id, []))


def create_user(
    session: Session, actor: Actor, request: UserRequest, *, password: str | None, request_id: str | None = None
) -> UserView:
    """`password` is the hash of the one that was asked for. Raises `Conflict` where the name is taken."""
    display_name = request.display_name or request.name
    values = {"name": request.name, "display_name": display_name, "password": password, "admin": request.admin}
    row = session.scalar(
        insert(User).values(**values).on_conflict_do_nothing(index_elements=[User.name]).returning(User)
    )
    if row is None:
        raise Conflict(f"there is a user {request.name} already", where="/name", expected="another name")
    audit.record(session, actor, "user.created", row.id, request_id=request_id, name=request.name, admin=request.admin)
    return _user(row, [])


def change_user(
    session: Session,
    actor: Actor,
    id: UUID,
    request: UserChange,
    *,
    password: str | None,
    request_id: str | None = None,
) -> UserView:
    """Raises `NotFound`, and `Conflict` where the lab would have no admin left that can come in."""
    # All admins are locked, so that two do not shut out each other.
    session.scalars(select(User).where(User.admin).order_by(User.id).with_for_update()).all()
    row = _find_user(session, id)
    if request.display_name is not None:
        row.display_name = request.display_name
    if request.admin is not None:
        row.admin = request.admin
    if request.disabled is not None and request.disabled != (row.disabled_at is not None):
        row.disabled_at = func.now() if request.disabled else None
    if password is not None:
        row.password = password
    session.flush()
    if session.scalar(select(User.id).where(User.admin, User.disabled_at.is_(None)).limit(1)) is None:
        raise Conflict("the lab would have no admin left", hint="make another person an admin first")
    if password is not None or request.disabled:
        identity.close_sessions(session, id)
    changed = request.model_dump(exclude={"password"}, exclude_none=True)
    audit.record(
        session, actor, "user.changed", id, request_id=request_id, **changed, new_password=password is not None
    )
    session.refresh(row)
    return get_user(session, id)


def change_password(
    session: Session,
    actor: Actor,
    shown: identity.Shown,
    password: str,
    *,
    keep: str | None,
    request_id: str | None = None,
) -> None:
    """One's own, by the present one that was shown; ends one's sessions but the one stored under `keep`.

    Raises `NotAuthenticated` where that is no longer the present one.
    """
    row = identity.hold(session, shown)
    assert isinstance(row, User)  # keys have no password
    row.password = password
    session.flush()
    identity.close_sessions(session, row.id, keep=keep)
    audit.record(session, actor, "user.changed", row.id, request_id=request_id, new_password=True)


def list_projects(session: Session, actor: Actor, *, cursor: str | None = None, limit: int = 50) -> Page[ProjectView]:
    """The one the actor acts in; all of them, to who manages them."""
    return page(session, _projects(actor), Project, lambda row: _project(*row), cursor=cursor, limit=limit)


def get_project_view(session: Session, actor: Actor, id: UUID) -> ProjectView:
    get_project(session, actor, id)
    return _project(*session.execute(_projects(actor).where(Project.id == id)).one())


def create_project(
    session: Session, actor: Actor, request: ProjectRequest, *, request_id: str | None = None
) -> ProjectView:
    """Raises `Conflict` where the name is taken, `InvalidSpec` where its first admin is nobody."""
    first = _user_named(session, request.admin, where="/admin") if request.admin else None
    values = request.model_dump(exclude={"admin"})
    id = session.scalar(
        insert(Project).values(**values).on_conflict_do_nothing(index_elements=[Project.name]).returning(Project.id)
    )
    if id is None:
        raise Conflict(f"there is a project {request.name} already", where="/name", expected="another name")
    if first is not None:
        session.add(Membership(project_id=id, user_id=first.id, role=Role.ADMIN))
        session.flush()
    audit.record(session, actor, "project.created", id, request_id=request_id, **request.model_dump(exclude_none=True))
    return get_project_view(session, actor, id)


def change_project(
    session: Session, actor: Actor, id: UUID, request: ProjectChange, *, request_id: str | None = None
) -> ProjectView:
    """Weight and quotas, which hold from the next decision on. Raises `NotFound`."""
    row = get_project(session, actor, id, lock=True)
    for name, value in request.changes.items():
        setattr(row, name, value)
    session.flush()
    audit.record(session, actor, "project.changed", id, request_id=request_id, **request.changes)
    return get_project_view(session, actor, id)


def list_members(session: Session, actor: Actor, project_id: UUID) -> list[MemberView]:
    """By name."""
    get_project(session, actor, project_id)
    found = session.execute(_members().where(Membership.project_id == project_id).order_by(User.name))
    return [_member(*row) for row in found]


def add_member(
    session: Session, actor: Actor, project_id: UUID, request: MemberRequest, *, request_id: str | None = None
) -> MemberView:
    """Raises `Conflict` for who is one already, `InvalidSpec` for nobody."""
    get_project(session, actor, project_id)
    user = _user_named(session, request.user, where="/user")
    values = {"project_id": project_id, "user_id": user.id, "role": request.role.value}
    keys = [Membership.project_id, Membership.user_id]
    made = insert(Membership).values(**values).on_conflict_do_nothing(index_elements=keys).returning(Membership.role)
    if session.scalar(made) is None:
        raise Conflict(f"{user.name} is a member already", where="/user", hint="PATCH changes the role")
    _tell(session, actor, "member.added", project_id, user.id, request_id, request.role)
    return _member(*session.execute(_members().where(*_one(project_id, user.id))).one())


def change_member(
    session: Session,
    actor: Actor,
    project_id: UUID,
    user_id: UUID,
    request: MemberChange,
    *,
    request_id: str | None = None,
) -> MemberView:
    row = _find_member(session, actor, project_id, user_id)
    row.role = request.role.value
    session.flush()
    _tell(session, actor, "member.changed", project_id, user_id, request_id, request.role)
    return _member(*session.execute(_members().where(*_one(project_id, user_id))).one())


def remove_member(
    session: Session, actor: Actor, project_id: UUID, user_id: UUID, *, request_id: str | None = None
) -> None:
    """Their keys and sessions no longer open the project."""
    session.delete(_find_member(session, actor, project_id, user_id))
    _tell(session, actor, "member.removed", project_id, user_id, request_id, None)


def _find_user(session: Session, id: UUID) -> User:
    row = session.get(User, id, with_for_update=True)
    if row is None:
        raise NotFound(f"no user {id}", hint="list them with GET /api/v1/users")
    return row


def _user_named(session: Session, name: str, *, where: str) -> User:
    row = session.scalar(select(User).where(User.name == name))
    if row is None:
        raise InvalidSpec(
            f"there is no user {name}", where=where, expected="the name of a person", hint="admins of the lab make them"
        )
    return row


def _find_member(session: Session, actor: Actor, project_id: UUID, user_id: UUID) -> Membership:
    """Locked."""
    get_project(session, actor, project_id)
    row = session.scalar(select(Membership).where(*_one(project_id, user_id)).with_for_update())
    if row is None:
        raise NotFound(f"no member {user_id}", hint=f"list them with GET /api/v1/projects/{project_id}/members")
    return row


def _tell(
    session: Session,
    actor: Actor,
    action: str,
    project_id: UUID,
    user_id: UUID,
    request_id: str | None,
    role: Role | None,
) -> None:
    session.flush()
    audit.record(
        session, actor, action, user_id, project_id=project_id, request_id=request_id, role=role and role.value
    )


def _one(project_id: UUID, user_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Membership.project_id == project_id, Membership.user_id == user_id


def _members() -> Select[Membership, User]:
    return select(Membership, User).join(User, User.id == Membership.user_id)


def _member(membership: Membership, user: User) -> MemberView:
    return MemberView(
        user_id=user.id,
        name=user.name,
        display_name=user.display_name,
        role=Role(membership.role),
        disabled=user.disabled_at is not None,
        since=membership.created_at,
    )


def _projects(actor: Actor) -> Select[Any]:
    mine = and_(Membership.project_id == Project.id, Membership.user_id == actor.user_id)
    each = aliased(Membership)
    members = select(func.count()).where(each.project_id == Project.id).correlate(Project).scalar_subquery()
    return select(Project, members, Membership.role).outerjoin(Membership, mine).where(may_reach(actor))


def _project(row: Project, members: int, role: str | None) -> ProjectView:
    return ProjectView(
        id=row.id,
        name=row.name,
        weight=row.weight,
        members=members,
        role=Role(role) if role else None,
        max_in_flight=row.max_in_flight,
        max_stored_bytes=row.max_stored_bytes,
        created_at=row.created_at,
    )


def _user(row: User, projects: list[ProjectRole]) -> UserView:
    return UserView(
        id=row.id,
        name=row.name,
        display_name=row.display_name,
        admin=row.admin,
        disabled=row.disabled_at is not None,
        has_password=row.password is not None,
        projects=projects,
        created_at=row.created_at,
    )


def _roles(session: Session, users: list[UUID]) -> dict[UUID, list[ProjectRole]]:
    found: dict[UUID, list[ProjectRole]] = {}
    statement = select(Membership.user_id, Project.name, Project.id, Membership.role).join(
        Project, Project.id == Membership.project_id
    )
    for user, name, id, role in session.execute(statement.where(Membership.user_id.in_(users)).order_by(Project.name)):
        found.setdefault(user, []).append(ProjectRole(project=name, project_id=id, role=Role(role)))
    return found
