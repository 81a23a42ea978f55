"""The admin key of a lab on this machine: kept beside its data, and where the client looks for one."""

import os
from pathlib import Path

from clew_local.files import read_json, write_json


def client_path() -> Path:
    """$CLEW_CONFIG, else `clew/credentials.json` in the user's configuration folder."""
    if named := os.environ.get("CLEW_CONFIG"):
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "clew" / "credentials.json"


def own_path(data: Path) -> Path:
    return data / "credentials"


def stored_key(data: Path) -> str | None:
    key = (read_json(own_path(data)) or {}).get("key")
    return key if isinstance(key, str) else None


def keep(data: Path, url: str, key: str) -> None:
    """Write both files, mode 0600; the client's only where it does not hold the key of another lab."""
    write_json(own_path(data), {"url": url, "key": key})
    if not belongs_to_another(key):
        write_json(client_path(), {"url": url, "key": key})


def belongs_to_another(key: str) -> bool:
    """Whether the client's file holds some other key."""
    present = read_json(client_path())
    return present is not None and present.get("key") != key
