"""Where the lab is and which key opens it."""

import json
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from clew_spec.errors import InvalidSpec, NotAuthenticated

_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Credentials:
    url: str
    """Scheme, host and port, without `/api/v1`."""
    key: str | None

    def __repr__(self) -> str:
        return f"Credentials(url={self.url!r}, key={'***' if self.key else None})"


def credentials_path() -> Path:
    """$CLEW_CONFIG, else `clew/credentials.json` in the user's configuration folder."""
    if named := os.environ.get("CLEW_CONFIG"):
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "clew" / "credentials.json"


def find_credentials(url: str | None = None, key: str | None = None) -> Credentials:
    """What is given, else the environment, else the credentials file.

    The stored key is used for the stored URL alone: no key goes to a server it was not made for.
    Raises NotAuthenticated where no URL is found, or where others can read the file.
    """
    url = url or os.environ.get("CLEW_URL") or None
    key = key or os.environ.get("CLEW_KEY") or None
    if url is None or key is None:
        stored = load()
        if stored and (url is None or clean_url(url) == stored.url):
            url, key = stored.url, key or stored.key
    if url is None:
        raise NotAuthenticated(
            "there is no lab to talk to",
            expected=f"$CLEW_URL and $CLEW_KEY, or {credentials_path()}",
            hint="`clew login URL` stores both; `clew up` starts a lab on this machine",
        )
    return Credentials(clean_url(url), clean_key(key) if key else None)


def clean_url(url: str) -> str:
    """`url` without a trailing slash or `/api/v1`. Raises InvalidSpec unless it is http or https."""
    if not re.match(r"https?://[^/\s]+", url):
        raise InvalidSpec(f"{url!r} is not the URL of a lab", expected="http://HOST:PORT or https://HOST")
    return url.rstrip("/").removesuffix("/api/v1").rstrip("/")


def clean_key(key: str) -> str:
    if not _KEY.fullmatch(key := key.strip()):
        raise NotAuthenticated("the API key is empty or has spaces in it", expected="a key that begins with `clew_`")
    return key


def load() -> Credentials | None:
    """The credentials file, or None if there is none."""
    path = credentials_path()
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except FileNotFoundError:
        return None
    if os.name == "posix" and mode & 0o077:
        raise NotAuthenticated(
            f"other users of this machine can read your key: the mode of {path} is {mode:04o}",
            expected="mode 0600",
            hint=f"chmod 600 {path}, and ask for a new key if others may have read it",
        )
    try:
        stored = json.loads(text)
        return Credentials(clean_url(stored["url"]), clean_key(stored["key"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAuthenticated(
            f"{path} cannot be read: {error!r}",
            expected='{"url": "http://...", "key": "clew_..."}',
            hint="`clew login URL` writes it anew",
        ) from error


def store(credentials: Credentials) -> Path:
    """Write the credentials file, mode 0600, whole or not at all."""
    path = credentials_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({"url": credentials.url, "key": credentials.key}, file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
