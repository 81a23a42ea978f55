"""Commands against the real API and object store, in a lab where work was done."""

import io
import json
import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.browser.scene import Scene
from tests.clew_api.seeds import graph_document
from tests.clew_client.test_end_to_end import Clew, serving, url_of
from tests.support.jobs import OOPS
from tests.support.servers import Lab

from clew_client.cli import main
from clew_lab.catalogue import secrets
from clew_lab.catalogue.engine import make_engine, session_factory
from clew_lab.catalogue.tables import Project
from clew_spec.secrets import SecretName


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    engine = make_engine(lab.settings.database_url.get_secret_value())
    yield Scene(session_factory(engine), lab.settings, tmp_path)
    engine.dispose()


@pytest.fixture
def clew(
    lab: Lab, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Clew]:
    """Runs one command in this process; returns what it said, on stdout if it succeeded as expected, else on stderr."""
    monkeypatch.setenv("CLEW_CONFIG", str(tmp_path / "credentials.json"))
    monkeypatch.setenv("CLEW_URL", url_of(lab))
    monkeypatch.setenv("CLEW_KEY", scene.key)

    def clew(*words: str, code: int = 0, stdin: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        out, err = capsys.readouterr()
        assert ended.value.code == code, out + err
        return err if code else out

    with serving(lab):
        yield clew


def test_a_jobs_files_come_below_a_folder_and_over_none_that_is_there(clew: Clew, scene: Scene, tmp_path: Path) -> None:
    model = scene.model()
    waiting = scene.training(model, scene.dataset(model), layers=2)
    job, to = str(waiting.id), tmp_path / "out"
    assert json.loads(clew("artifacts", job, "--json")) == []
    assert "the job has no files" in clew("download", job, "--to", str(to), code=1)
    scene.trained(waiting, layers=2)
    weights = [to / "coders" / layer / "weights.safetensors" for layer in ("L00", "L01")]
    content = [bytes([layer]) * 5000 for layer in range(2)]

    listed = json.loads(clew("artifacts", job, "--json"))
    assert {one["name"]: one["sha256"] for one in listed} == {
        str(path.relative_to(to)): sha256(data).hexdigest() for path, data in zip(weights, content, strict=True)
    }
    for one in listed:
        row = rf"{one['name']} +4\.9 KiB +{one['sha256'][:12]} +application/octet-stream"
        assert re.search(row, clew("artifacts", job[:13]))

    assert clew("download", job[:13], "--to", str(to)).splitlines() == list(map(str, weights))
    assert [path.read_bytes() for path in weights] == content
    assert sorted(path for path in to.rglob("*") if path.is_file()) == weights, "nothing else is left"
    kept = weights[0].stat()
    weights[1].unlink()
    clew("download", job, "--to", str(to))
    assert weights[1].read_bytes() == content[1]
    assert (weights[0].stat().st_ino, weights[0].stat().st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)

    weights[1].unlink()
    weights[0].write_bytes(content[1])  # of the same size
    assert f"{weights[0]} is there and is another file" in clew("download", job, "--to", str(to), code=1)
    assert weights[0].read_bytes() == content[1]
    assert not weights[1].exists(), "nothing is fetched where one is in the way"
    clew("download", job, "coders/L01/", "--to", str(to))
    assert weights[1].read_bytes() == content[1]
    assert "no file coders/L0" in clew("download", job, "coders/L0", "--to", str(tmp_path / "other"), code=1)
    assert not (tmp_path / "other").exists()


def test_a_job_that_failed_is_tried_again(clew: Clew, scene: Scene) -> None:
    running = scene.start({"kind": "import-model", "name": "smol", "path": "/models/smol"})
    job = str(running.id)
    assert "has not ended: it is running" in clew("retry", job, code=1)
    running.fail(OOPS)
    said = clew("retry", job[:13])
    again = said.split()[-1]
    assert said == f"import-model smol is queued: {again}\n"
    shown = json.loads(clew("show", again, "--json"))
    assert (shown["retry_of"]["id"], shown["spec"]["path"]) == (job, "/models/smol")


def test_a_job_is_shown_to_the_lab_with_what_it_was_made_of(clew: Clew, scene: Scene) -> None:
    scene.dataset(scene.model())
    job, made_of = (json.loads(clew(of, "--json"))[0]["job_id"] for of in ("datasets", "models"))

    def seen(id: str) -> str:
        return str(json.loads(clew("show", id, "--json"))["visibility"])

    assert clew("share", job[:13]).endswith("is seen by the lab\n")
    assert (seen(job), seen(made_of)) == ("lab", "project")
    assert "project" not in clew("models")
    assert re.search("pydoc .* main *\n", clew("datasets"))
    assert json.loads(clew("share", job, "--with-inputs", "--json"))["visibility"] == "lab"
    assert seen(made_of) == "lab"
    assert clew("share", job, "--to", "project").endswith("is seen by the project\n")
    assert (seen(job), seen(made_of)) == ("project", "lab")


def test_a_pipeline_is_shown_cancelled_and_tried_again_as_a_whole(
    lab: Lab, clew: Clew, scene: Scene, tmp_path: Path
) -> None:
    model = {"kind": "import-model", "name": "smol", "path": str(lab.settings.import_roots[0] / "model")}
    text = {"kind": "build-dataset", "name": "text", "model": "jobs/model"}
    (tmp_path / "both.json").write_text(json.dumps({"name": "both", "jobs": {"model": model, "text": text}}))
    batch = json.loads(clew("submit", str(tmp_path / "both.json"), "--json"))["id"]

    def states() -> dict[str, Any]:
        found = json.loads(clew("jobs", "--pipeline", batch, "--json"))
        return {job["name"]: job["state"] for job in reversed(found)}

    first = next(job["id"] for job in json.loads(clew("jobs", "--json")) if job["name"] == "smol")
    assert re.search(rf"{batch} +pipeline +both +2 ", clew("batches", "list"))
    shown = clew("batches", "show", batch)
    assert states() == {"smol": "queued", "text": "blocked"}, shown
    assert "import-model" in shown
    assert "is cancelled" in clew("cancel", first, "--with-dependents")
    assert states() == {"smol": "cancelled", "text": "cancelled"}
    assert "so has all behind it" in clew("cancel", first, "--with-dependents", code=1)
    said = clew("batches", "retry", batch).splitlines()[0]
    assert states() == {"smol": "queued", "text": "blocked"}
    assert said == "pipeline both: 1 blocked, 1 queued", "what was tried again counts once"
    assert clew("batches", "cancel", batch).startswith("pipeline both: 2 cancelled\n")
    assert json.loads(clew("batches", "show", batch, "--json"))["states"] == {"cancelled": 2}
    assert states() == {"smol": "cancelled", "text": "cancelled"}
    again = json.loads(clew("retry", first, "--with-dependents", "--json"))
    assert again["retry_of"]["id"] == first
    assert states() == {"smol": "queued", "text": "blocked"}


def test_what_the_lab_has_made_is_listed(clew: Clew, scene: Scene) -> None:
    assert clew("coders") == "None yet.\n"
    model = scene.model()
    dataset = scene.dataset(model)
    first, second = (scene.training(model, dataset, name, layers=2) for name in ("first", "second"))
    coders = scene.trained(first, layers=2)
    others = scene.trained(second, layers=2, name="second")
    _, graph = scene.graph(coders, graph_document())

    def ids(*words: str) -> list[str]:
        return [one["id"] for one in json.loads(clew(*words, "--json"))]

    assert ids("datasets") == ids("datasets", "--name", "pydoc") == [str(dataset)]
    assert re.search(rf"{dataset} +pydoc +2,411,008 +126,976 +256 +none", clew("datasets"))
    assert ids("datasets", "--name", "other") == []
    assert set(ids("coders")) == set(map(str, coders + others))
    assert set(ids("coders", "--job", str(first.id)[:13])) == set(map(str, coders))
    assert ids("coders", "--model", str(dataset)) == []
    assert ids("coders", "--limit", "3") == ids("coders")[:3]
    scene.evaluate(coders)
    measured = clew("coders", "--name", "first")
    assert re.search(rf"{coders[1]} +first +1 +2,304 +topk 32 +0\.335 +31\.4 +0\.87", measured)
    assert ids("graphs") == [str(graph)]
    assert re.search(rf"{graph} +g +when mary +3 +2 +0\.25", clew("graphs"))


def test_a_secret_is_set_named_and_deleted_and_never_shown(lab: Lab, clew: Clew, scene: Scene) -> None:
    value = "hf_of-the-labyrinth"

    def kept() -> dict[str, str]:
        with scene.sessions() as session:
            project = session.query(Project).one()
            return secrets.opened(session, project.id, SecretName, secret_key=lab.settings.secret_key)

    said = clew("secret", "set", "HF_TOKEN", stdin=f"{value}\n")
    assert kept() == {"HF_TOKEN": value}
    clew("secret", "set", "HF_TOKEN", stdin=f"{value}2\n")
    assert kept() == {"HF_TOKEN": f"{value}2"}
    said += clew("secret", "list") + clew("secret", "list", "--json") + clew("audit")
    assert re.search(r"^HF_TOKEN +admin ", said, re.MULTILINE)
    assert value not in said
    assert "not one of" in clew("secret", "set", "PATH", stdin="x\n", code=2)
    assert "HF_TOKEN is deleted" in clew("secret", "delete", "HF_TOKEN")
    assert kept() == {}
    assert json.loads(clew("secret", "list", "--json")) == []
    clew("secret", "delete", "HF_TOKEN", code=1)
