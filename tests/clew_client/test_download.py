"""An artifact is on disk whole and right, or not at all."""

from pathlib import Path

import pytest
from fastapi.responses import JSONResponse, Response
from tests.clew_client.contract import Contract
from tests.clew_client.specs import EVALUATE

from clew_client import CorruptDownload, Lab
from clew_client.errors import UnexpectedAnswer
from clew_client.files import fetch_files
from clew_spec.api import ArtifactView
from clew_spec.errors import Forbidden, NotFound, Unavailable

CONTENT = bytes(range(256)) * 40_000  # several chunks


@pytest.fixture
def artifact(contract: Contract) -> ArtifactView:
    return contract.artifact(contract.add(EVALUATE), "coders/L03/weights.safetensors", CONTENT)


def test_into_a_file_and_into_a_folder(client: Lab, artifact: ArtifactView, tmp_path: Path) -> None:
    assert client.download(artifact, tmp_path / "w").read_bytes() == CONTENT
    inside = tmp_path / "folder"
    inside.mkdir()
    assert client.download(artifact, inside) == inside / "weights.safetensors"
    assert [path.name for path in inside.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"x", b""])
def test_other_bytes_leave_what_was_there(
    contract: Contract, client: Lab, artifact: ArtifactView, tmp_path: Path, content: bytes
) -> None:
    contract.objects[artifact.name] = content
    (tmp_path / "w").write_text("before")
    before = set(tmp_path.iterdir())
    with pytest.raises(CorruptDownload):
        client.download(artifact, tmp_path / "w")
    assert (tmp_path / "w").read_text() == "before"
    assert set(tmp_path.iterdir()) == before


def test_a_broken_connection_is_tried_again(
    contract: Contract, client: Lab, artifact: ArtifactView, tmp_path: Path
) -> None:
    short = Response(CONTENT[:5000])
    short.headers["content-length"] = str(len(CONTENT))  # the server closes before it has sent as much
    contract.answers.extend([short, Response(status_code=503)])
    assert client.download(artifact, tmp_path / "w").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (404, NotFound), (503, Unavailable)])
def test_refusals(
    contract: Contract, client: Lab, artifact: ArtifactView, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    contract.answers.extend(Response(status_code=status) for _ in range(9))
    with pytest.raises(error):
        client.download(artifact, tmp_path / "w")
    assert not list(tmp_path.iterdir())


def test_files_come_though_their_links_expire_meanwhile(
    contract: Contract, client: Lab, artifact: ArtifactView, tmp_path: Path
) -> None:
    listed = [artifact, contract.artifact(contract.jobs[artifact.job_id], "coders/L03/cfg.json", b"{}")]
    anew = JSONResponse([each.model_dump(mode="json") for each in listed])
    contract.answers.extend([Response(status_code=403), anew])
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "coders").symlink_to(tmp_path)  # where the user wants them
    told: list[tuple[str, int, int, int]] = []
    found = fetch_files(client, listed, tmp_path / "there", on_progress=lambda *tell: told.append(tell))
    assert [path.read_bytes() for path in found] == [CONTENT, b"{}"]
    size = len(CONTENT) + 2
    assert told[-1] == ("fetch", size, size, size)
    assert told == sorted(told)
    found[0].unlink()
    fetch_files(client, listed, tmp_path / "there", on_progress=lambda *tell: told.append(tell))
    assert told[-1] == ("fetch", size, size, size - 2), "what is there is done, and was not fetched"


@pytest.mark.parametrize("name", ["../w", "/w", "a/../../w", "a//w", "..", "a\\..\\..\\w", "C:/w", "a\0w"])
def test_no_name_leads_out_of_the_folder(contract: Contract, client: Lab, tmp_path: Path, name: str) -> None:
    job = contract.add(EVALUATE)
    files = [contract.artifact(job, "good", b"good"), contract.artifact(job, name, b"bad")]
    with pytest.raises(UnexpectedAnswer):
        fetch_files(client, files, tmp_path / "in")
    assert [path.name for path in tmp_path.rglob("*")] == []
