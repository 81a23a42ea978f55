"""An upload made by hand, call by call, for tests that must stop in between."""

import hashlib
from typing import Any

import httpx2
from fastapi.testclient import TestClient

UPLOADS = "/api/v1/uploads"


def announcement(name: str, **files: bytes) -> dict[str, Any]:
    """The body that announces these files; `__` in a name is `/`, `_` is `.`."""
    return {
        "name": name,
        "files": [described(file.replace("__", "/").replace("_", "."), files[file]) for file in files],
    }


def described(name: str, content: bytes, **lies: Any) -> dict[str, Any]:
    return {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), **lies}


def missing(api: TestClient, id: str, **params: Any) -> list[dict[str, Any]]:
    answer = api.post(f"{UPLOADS}/{id}/parts", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def put(part: dict[str, Any], content: bytes) -> int:
    begin = part["offset"]
    return httpx2.put(part["url"], content=content[begin : begin + part["size"]]).status_code


def uploaded(api: TestClient, name: str, contents: dict[str, bytes], *, lies: dict[str, Any] | None = None) -> str:
    """A complete upload; returns its id."""
    body = {"name": name, "files": [described(file, content, **(lies or {})) for file, content in contents.items()]}
    id: str = api.post(UPLOADS, json=body).json()["id"]
    for part in missing(api, id):
        assert put(part, contents[part["file"]]) == 200
    answer = api.post(f"{UPLOADS}/{id}/complete")
    assert answer.status_code == 200, answer.text
    return id
