"""Passwords: stored as Argon2id, and tried only so often."""

from functools import cache

from pwdlib import PasswordHash
from pydantic import SecretStr
from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.orm import Session

from clew_lab.catalogue.tables import SignInAttempt
from clew_spec.errors import TooManyRequests

WINDOW = "15 minutes"
PER_PAIR, PER_ADDRESS, PER_NAME = 10, 50, 100
"""Passwords that may be wrong within the window: for one name from one address, from one address, for one name. The
last is so high that nobody keeps another out by guessing; it bounds a guess that comes from many addresses."""
AT_ONCE = 2
"""Hashes that the API computes at the same time: each takes 64 MiB."""
_LOCK = 0x7369676E
"""Key of the advisory lock under which attempts are counted, so that many at once count as many."""


def hashed(password: SecretStr) -> str:
    return _hasher().hash(password.get_secret_value())


def right(password: SecretStr, stored: str | None) -> bool:
    """Takes as long where there is no such person, or one without a password."""
    same = _hasher().verify(password.get_secret_value(), stored or _of_nobody())
    return same and stored is not None


def begin_attempt(session: Session, name: str, address: str) -> int:
    """Counts an attempt before it is made; the caller commits, then tries. Raises `TooManyRequests`."""
    session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    session.execute(delete(SignInAttempt).where(SignInAttempt.at < func.now() - text(f"interval '{WINDOW}'")))
    of_name, of_address = SignInAttempt.name == name, SignInAttempt.address == address
    limits: tuple[tuple[int, tuple[ColumnElement[bool], ...]], ...] = (
        (PER_PAIR, (of_name, of_address)),
        (PER_ADDRESS, (of_address,)),
        (PER_NAME, (of_name,)),
    )
    for most, those in limits:
        if (session.scalar(select(func.count()).select_from(SignInAttempt).where(*those)) or 0) >= most:
            raise TooManyRequests(
                "too many passwords were wrong",
                expected=f"at most {PER_PAIR} for one name from one address in {WINDOW}",
                hint="try again later; an API key opens the lab all the while",
            )
    attempt = SignInAttempt(name=name, address=address)
    session.add(attempt)
    session.flush()
    return attempt.id


def forgive_attempts(session: Session, name: str, address: str) -> None:
    """The password was right: those before it, for this name from this address, are forgotten."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.name == name, SignInAttempt.address == address))


@cache
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()


@cache
def _of_nobody() -> str:
    return _hasher().hash("nobody's password")
