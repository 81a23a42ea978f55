"""The admin key: kept for its owner alone, and never in place of another lab's."""

import stat
from pathlib import Path

import pytest

from clew_local import credentials
from clew_local.files import Secrets, read_json


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CLEW_CONFIG", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".config" / "clew" / "credentials.json"


def test_a_key_is_kept_twice_and_read_by_its_owner_alone(tmp_path: Path, client: Path) -> None:
    credentials.keep(tmp_path / "lab", "http://127.0.0.1:1", "clew_one")
    for path in (client, credentials.own_path(tmp_path / "lab")):
        assert read_json(path) == {"url": "http://127.0.0.1:1", "key": "clew_one"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    credentials.keep(tmp_path / "lab", "http://127.0.0.1:2", "clew_one")
    assert (read_json(client) or {})["url"] == "http://127.0.0.1:2", "the lab moved, and the client follows"


def test_the_key_of_another_lab_is_left_alone(tmp_path: Path, client: Path) -> None:
    credentials.keep(tmp_path / "one", "http://127.0.0.1:1", "clew_one")
    credentials.keep(tmp_path / "two", "http://127.0.0.1:2", "clew_two")
    assert (read_json(client) or {})["key"] == "clew_one"
    assert credentials.stored_key(tmp_path / "two") == "clew_two"
    assert credentials.belongs_to_another("clew_two")


def test_two_starts_of_one_lab_agree_on_its_passwords(tmp_path: Path) -> None:
    first, second = Secrets(tmp_path / "secrets.json"), Secrets(tmp_path / "secrets.json")
    assert first.get("a") == second.get("a")
    assert second.get("b") == first.get("b") != first.get("a")
    assert Secrets(tmp_path / "secrets.json").get("b") == first.get("b")
