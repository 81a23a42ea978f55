"""As much of the Hugging Face hub's API as streaming a dataset and fetching a model ask for, served from memory."""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
Files = dict[str, bytes]


@dataclass
class Hub:
    url: str = ""
    repos: dict[str, Files] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    """Their files are refused without the token; that they exist is no secret."""
    token: str = "hf_let-me-in"
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Files, as `owner/name/file`, that lie at another address."""
    broken: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    """The line is cut before an answer."""
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            if any(f"/{repo}" in path for repo in hub.silent):
                self.close_connection = True
                return
            knows = self.headers.get("Authorization") == f"Bearer {hub.token}"
            status, headers, content = _answer(hub, path, body, knows)
            if status == 200 and (wanted := self.headers.get("Range")):
                first, last = wanted.removeprefix("bytes=").split("-")
                end = min(int(last or len(content)) + 1, len(content))
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
                status, content = 206, content[int(first) : end]
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(hub: Hub, path: str, body: bytes, knows: bool) -> tuple[int, dict[str, str], bytes]:
    is_api = path.startswith("/api/")
    inner = path.removeprefix("/api/").lstrip("/").removeprefix("datasets/").removeprefix("models/")
    if "/" not in inner:
        return _refusal(404, "")
    owner, name, *rest = inner.split("/")
    repo = f"{owner}/{name}"
    if repo in hub.broken:
        return _refusal(503, "")
    if repo not in hub.repos:
        return _refusal(401, "RepoNotFound")  # what is private and what is not there look alike
    what, revision, *parts = rest or ["revision", "main"]
    if revision not in ("main", COMMIT):
        return _refusal(404, "RevisionNotFound")
    files = hub.repos[repo]
    entries = [*_entries(files)]
    match what:
        case "revision" if is_api:
            siblings = [
                {"rfilename": name, "size": len(content), "blobId": "0" * 40} for name, content in files.items()
            ]
            return _json(
                {"id": repo, "sha": COMMIT, "private": False, "siblings": siblings, "tags": [], "downloads": 0}
            )
        case "tree" if is_api:
            return _json([entry for entry in entries if entry["path"].split("/")[:-1] == parts])
        case "paths-info" if is_api:
            wanted = json.loads(body)["paths"]
            return _json([entry for entry in entries if entry["path"] in wanted])
        case "resolve":
            if repo in hub.gated and not knows:
                return _refusal(403, "GatedRepo")
            if (file := "/".join(parts)) not in files:
                return _refusal(404, "EntryNotFound")
            told = {"ETag": f'"{zlib.crc32(files[file]):040x}"', "X-Repo-Commit": COMMIT}
            if f"{repo}/{file}" in hub.elsewhere:
                size = {"X-Linked-Size": str(len(files[file])), "X-Linked-Etag": told["ETag"]}
                return 302, told | size | {"Location": hub.elsewhere[f"{repo}/{file}"]}, b""
            return 200, told, files[file]
    return _refusal(404, "")


def _entries(files: Files) -> Iterator[dict[str, Any]]:
    folders = {str(folder) for name in files for folder in PurePosixPath(name).parents} - {"."}
    for folder in sorted(folders):
        yield {"type": "directory", "path": folder, "oid": "0" * 40}
    for name in sorted(files):
        yield {"type": "file", "path": name, "size": len(files[name]), "oid": "0" * 40}


def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _refusal(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"X-Error-Code": code, "X-Error-Message": code}, b""
