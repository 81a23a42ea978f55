"""Who works in a lab: roles, what each may do, and what is asked for when people, projects and keys are made."""

import unicodedata
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, model_validator

from clew_spec.base import Name, Spec

MAX_TEXT = 100
MIN_PASSWORD, MAX_PASSWORD = 12, 1024
MAX_IN_FLIGHT, MAX_STORED_BYTES = 10**6, 2**50
MIN_DISTINCT = 5
"""Different characters that a password has at least."""
_JOINERS = frozenset("\u200c\u200d")
"""Invisible, and part of how some scripts are written."""


class Permission(StrEnum):
    """What a route asks for: `resource:action`. Whoever was not given it is refused."""

    LAB_READ = "lab:read"
    PROJECT_READ = "project:read"
    MEMBER_READ = "member:read"
    RECORD_READ = "record:read"
    JOB_READ = "job:read"
    KEY_CREATE = "key:create"
    """Make keys of one's own; see, rotate and revoke them."""
    JOB_SUBMIT = "job:submit"
    """And say who sees one's own."""
    JOB_CANCEL = "job:cancel"
    """Of one's own jobs."""
    JOB_MANAGE = "job:manage"
    """Cancel and share any job of the project."""
    MEMBER_MANAGE = "member:manage"
    KEY_MANAGE = "key:manage"
    """See and revoke all keys of the project; make and rotate those that belong to no person."""
    SECRET_MANAGE = "secret:manage"  # noqa: S105  # its name
    """Set and delete secrets of the project, such as a token of the hub."""
    AUDIT_READ = "audit:read"
    """What was done in the project."""

    USER_MANAGE = "user:manage"
    PROJECT_MANAGE = "project:manage"
    """Make projects, set their weight and quotas, and say who is a member."""
    LAB_MANAGE = "lab:manage"
    LAB_AUDIT = "lab:audit"
    """What was done to the lab itself: its people and projects."""


class Role(StrEnum):
    """Of a person in a project. Each may do what those before it may."""

    VIEWER = "viewer"
    MEMBER = "member"
    MAINTAINER = "maintainer"
    ADMIN = "admin"


_VIEWER = frozenset(
    {
        Permission.LAB_READ,
        Permission.PROJECT_READ,
        Permission.MEMBER_READ,
        Permission.RECORD_READ,
        Permission.JOB_READ,
        Permission.KEY_CREATE,
    }
)
_MEMBER = _VIEWER | {Permission.JOB_SUBMIT, Permission.JOB_CANCEL}
_MAINTAINER = _MEMBER | {Permission.JOB_MANAGE, Permission.SECRET_MANAGE}
_ADMIN = _MAINTAINER | {Permission.MEMBER_MANAGE, Permission.KEY_MANAGE, Permission.AUDIT_READ}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.MEMBER: _MEMBER,
    Role.MAINTAINER: _MAINTAINER,
    Role.ADMIN: _ADMIN,
}
PLATFORM: frozenset[Permission] = frozenset(
    {
        Permission.LAB_READ,
        Permission.PROJECT_READ,
        Permission.USER_MANAGE,
        Permission.PROJECT_MANAGE,
        Permission.LAB_MANAGE,
        Permission.LAB_AUDIT,
    }
)
"""Of a platform admin, who sees no project's data by that alone."""


def _storable(text: str) -> str:
    """NFC, without spaces around it. Raises ValueError for what cannot be seen, or changes how the rest looks."""
    text = unicodedata.normalize("NFC", text).strip()
    for character in text:
        kind = unicodedata.category(character)
        unseen = kind in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp") or (kind == "Cf" and character not in _JOINERS)
        if unseen:
            raise ValueError(f"the text has the character U+{ord(character):04X}, which is not one to be read")
    if not 1 <= len(text) <= MAX_TEXT:
        raise ValueError(f"the text has {len(text)} characters, and 1 to {MAX_TEXT} are possible")
    if all(unicodedata.category(character)[0] in "MZ" or character in _JOINERS for character in text):
        raise ValueError("the text has no letter, digit or sign in it")
    return text


def _hard_to_guess(password: SecretStr) -> SecretStr:
    """By length alone, and not one key held down. The text itself must not come back in an error."""
    text = password.get_secret_value()
    if not MIN_PASSWORD <= len(text) <= MAX_PASSWORD:
        raise ValueError(f"the password has {len(text)} characters; {MIN_PASSWORD} to {MAX_PASSWORD} are possible")
    if len(set(text)) < MIN_DISTINCT:
        raise ValueError(f"the password has fewer than {MIN_DISTINCT} different characters")
    return password


Text = Annotated[
    str,
    AfterValidator(_storable),
    Field(description=f"1 to {MAX_TEXT} characters that can be seen; stored in Unicode's form NFC"),
]
"""A name that people read, of a person or a key."""
Password = Annotated[
    SecretStr,
    AfterValidator(_hard_to_guess),
    Field(description=f"{MIN_PASSWORD} to {MAX_PASSWORD} characters, {MIN_DISTINCT} of them different"),
]


InFlight = Annotated[
    int | None,
    Field(ge=0, le=MAX_IN_FLIGHT, description="jobs that workers may have of it at once; null is no quota"),
]
StoredBytes = Annotated[
    int | None,
    Field(ge=0, le=MAX_STORED_BYTES, description="bytes of its results and uploads; null is no quota"),
]


class SessionRequest(Spec):
    """Sign in: with a key, or with a name and its password."""

    key: str | None = None
    name: str | None = Field(default=None, max_length=200)
    password: SecretStr | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.key is not None) == (self.name is not None) or (self.name is None) != (self.password is None):
            raise ValueError("either a key, or a name and a password")
        return self


class SessionChange(Spec):
    project: Name
    """One of yours, to act in from now on."""


class PasswordChange(Spec):
    password: SecretStr
    """The present one."""
    new_password: Password


class UserRequest(Spec):
    """A person new to the lab."""

    name: Name
    """To sign in with; never changes."""
    display_name: Text | None = None
    """The name itself, if not given."""
    password: Password | None = None
    """Without one, only keys open the lab."""
    admin: bool = False
    """Of the platform: its people, projects and workers; no project's data."""


class UserChange(Spec):
    """What is not given stays as it is."""

    display_name: Text | None = None
    admin: bool | None = None
    disabled: bool | None = None
    """Ends every session and every key of theirs at once; their keys are good again if they come back."""
    password: Password | None = None
    """Ends their sessions."""


class ProjectRequest(Spec):
    name: Name
    weight: float = Field(default=1, gt=0, le=1e6)
    """Its share of the workers against that of other projects."""
    admin: Name | None = None
    """The name of the person who is its first admin."""
    max_in_flight: InFlight = None
    max_stored_bytes: StoredBytes = None


class ProjectChange(Spec):
    """What is not given stays as it is; a quota that is null is lifted. Nothing that the project has is taken away."""

    weight: float | None = Field(default=None, gt=0, le=1e6)
    max_in_flight: InFlight = None
    max_stored_bytes: StoredBytes = None

    @property
    def changes(self) -> dict[str, Any]:
        """What was given, by field."""
        given = self.model_dump(exclude_unset=True)
        return {name: value for name, value in given.items() if name != "weight" or value is not None}


class MemberRequest(Spec):
    user: Name
    """The person's name."""
    role: Role


class MemberChange(Spec):
    role: Role


class KeyRequest(Spec):
    """A key for the project at hand."""

    name: Text
    scopes: list[Permission] | None = Field(default=None, max_length=len(Permission))
    """What it may do: at most what you may at this moment, and never more than you may later. Null: all that you may,
    also as that changes; a key that belongs to no person needs a list."""
    expires_at: AwareDatetime | None = None
    """Null: never, or with the key that asks."""
    service: bool = False
    """Belongs to the project and to no person: it outlives whoever made it."""
