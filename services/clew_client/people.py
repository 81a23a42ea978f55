"""Who works in the lab: people, projects, their members, and keys."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack
from uuid import UUID

from pydantic import TypeAdapter

from clew_client.transport import Transport, parse
from clew_spec.api import AuditView, KeyView, MemberView, NewKeyView, Page, ProjectView, SessionView, UserView
from clew_spec.errors import NotFound
from clew_spec.people import Permission, Role

OUR_OWN = {"Sec-Fetch-Site": "same-origin"}
"""Said with a cookie: no page of another origin asks."""


class ProjectChanges(TypedDict, total=False):
    """See `clew_spec.people.ProjectChange`."""

    weight: float
    max_in_flight: int | None
    max_stored_bytes: int | None


class People:
    """Part of a `Lab`. What may be done depends on whose key it is; see `Lab.session`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    # People, to admins of the lab

    def users(self, *, name: str | None = None, limit: int | None = None) -> Iterator[UserView]:
        return self._transport.pages(TypeAdapter(Page[UserView]), "users", {"name": name}, limit)

    def user(self, name: str) -> UserView:
        """By name. Raises NotFound."""
        for found in self.users(name=name, limit=1):
            return found
        raise NotFound(f"there is no user {name}", hint="`clew users list` lists them")

    def create_user(
        self, name: str, *, display_name: str | None = None, password: str | None = None, admin: bool = False
    ) -> UserView:
        body = {"name": name, "display_name": display_name, "password": password, "admin": admin}
        user: UserView = self._send(UserView, "POST", "users", body)
        return user

    def change_user(
        self,
        user_id: UUID,
        *,
        display_name: str | None = None,
        password: str | None = None,
        admin: bool | None = None,
        disabled: bool | None = None,
    ) -> UserView:
        """What is None stays as it is."""
        body = {"display_name": display_name, "password": password, "admin": admin, "disabled": disabled}
        user: UserView = self._send(UserView, "PATCH", f"users/{user_id}", body)
        return user

    # Projects and their members

    def projects(self, limit: int | None = None) -> Iterator[ProjectView]:
        """The key's own; all of them, to admins of the lab."""
        return self._transport.pages(TypeAdapter(Page[ProjectView]), "projects", {}, limit)

    def project(self, name: str | None = None) -> ProjectView:
        """By name; the key's own, if none is given. Raises NotFound."""
        name = name or self._transport.get(SessionView, "session").project
        for found in self.projects():
            if found.name == name:
                return found
        raise NotFound(f"you reach no project {name}", hint="`clew projects list` lists them")

    def create_project(
        self,
        name: str,
        *,
        weight: float = 1.0,
        admin: str | None = None,
        max_in_flight: int | None = None,
        max_stored_bytes: int | None = None,
    ) -> ProjectView:
        """A quota that is None is none."""
        quotas = {"max_in_flight": max_in_flight, "max_stored_bytes": max_stored_bytes}
        body = {"name": name, "weight": weight, "admin": admin, **quotas}
        project: ProjectView = self._send(ProjectView, "POST", "projects", body)
        return project

    def change_project(self, project_id: UUID, **changes: Unpack[ProjectChanges]) -> ProjectView:
        """What is left out stays as it is; a quota that is None is lifted."""
        answer = self._transport.request("PATCH", f"projects/{project_id}", content=json.dumps(changes))
        project: ProjectView = parse(ProjectView, answer)
        return project

    def members(self, project_id: UUID) -> list[MemberView]:
        found: list[MemberView] = self._transport.get(TypeAdapter(list[MemberView]), f"projects/{project_id}/members")
        return found

    def member(self, project_id: UUID, name: str) -> MemberView:
        """By name. Raises NotFound."""
        for found in self.members(project_id):
            if found.name == name:
                return found
        raise NotFound(f"{name} is no member", hint="`clew members list` lists them")

    def add_member(self, project_id: UUID, user: str, role: Role) -> MemberView:
        body = {"user": user, "role": role}
        member: MemberView = self._send(MemberView, "POST", f"projects/{project_id}/members", body)
        return member

    def change_member(self, project_id: UUID, user_id: UUID, role: Role) -> MemberView:
        path = f"projects/{project_id}/members/{user_id}"
        member: MemberView = self._send(MemberView, "PATCH", path, {"role": role})
        return member

    def remove_member(self, project_id: UUID, user_id: UUID) -> None:
        self._transport.request("DELETE", f"projects/{project_id}/members/{user_id}")

    # Keys of the project

    def api_keys(self, limit: int | None = None) -> Iterator[KeyView]:
        """Yours, newest first; all of the project's, to who manages them."""
        return self._transport.pages(TypeAdapter(Page[KeyView]), "keys", {}, limit)

    def create_key(
        self,
        name: str,
        *,
        scopes: Sequence[Permission] | None = None,
        expires_at: datetime | None = None,
        service: bool = False,
    ) -> NewKeyView:
        """Its `key` is shown this once."""
        expiry = expires_at and expires_at.isoformat()
        body = {"name": name, "scopes": scopes and list(scopes), "expires_at": expiry, "service": service}
        key: NewKeyView = self._send(NewKeyView, "POST", "keys", body)
        return key

    def rotate_key(self, key_id: UUID) -> NewKeyView:
        """A new secret in place of the old one, which is refused at once."""
        key: NewKeyView = self._send(NewKeyView, "POST", f"keys/{key_id}/rotate")
        return key

    def revoke_key(self, key_id: UUID) -> None:
        self._transport.request("DELETE", f"keys/{key_id}")

    # What happened

    def audit(self, limit: int | None = None) -> Iterator[AuditView]:
        """Newest first."""
        return self._transport.pages(TypeAdapter(Page[AuditView]), "audit", {}, limit)

    # By password: a session that lives as long as this client

    def sign_in(self, name: str, password: str, project: str | None = None) -> SessionView:
        """From here on this client acts for the person, in the project that is named or in their first."""
        self._transport.http.headers.pop("Authorization", None)
        self._send(SessionView, "POST", "session", {"name": name, "password": password})
        self._transport.http.headers.update(OUR_OWN)
        if project is not None:
            self._send(SessionView, "PATCH", "session", {"project": project})
        session: SessionView = self._transport.get(SessionView, "session")
        return session

    def sign_out(self) -> None:
        self._transport.request("DELETE", "session")

    def _send(self, answer: type[Any], method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = None if body is None else json.dumps({k: v for k, v in body.items() if v is not None})
        return parse(answer, self._transport.request(method, path, content=content))
