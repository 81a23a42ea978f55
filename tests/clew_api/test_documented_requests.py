"""What the README shows of curl and Python, run as it stands there."""

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.clew_api.conftest import Running
from tests.clew_api.seeds import Tenant, World

from clew_lab.catalogue.tables import Job
from clew_spec.api import JobView

README = (Path(__file__).parents[2] / "README.md").read_text()


def examples(language: str, word: str) -> Iterator[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return (example for example in found if word in example)


def test_the_requests_of_the_readme_do_what_it_says(
    running: Running, world: World, alice: Tenant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = world.model(alice)
    world.coders(alice, model, world.dataset(alice), "first")
    world.graph(alice, model, name="paris")
    monkeypatch.setenv("CLEW_URL", running.url.removesuffix("/api/v1"))
    monkeypatch.setenv("CLEW_KEY", alice.key)

    (curl,) = examples("sh", "curl")
    twice = [subprocess.run(["sh", "-c", curl], capture_output=True, check=True).stdout for _ in range(2)]
    first, again = map(JobView.model_validate_json, twice)
    assert (first.kind, first.state) == ("evaluate", "queued")
    assert again.id == first.id, "the same key, the same job"

    def work() -> None:
        """As a worker leaves the job that Python asks for."""
        found = None
        while found is None:
            time.sleep(0.05)
            with world.sessions() as session:
                found = session.scalar(select(Job).where(Job.kind == "evaluate", Job.id != first.id))
        world.append(found.id, 1, type="state")
        world.touch(found, state="succeeded", finished_at=func.now(), result={"found": "much"})

    (python,) = examples("python", "clew_client")
    said: dict[str, Any] = {}
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    exec(compile(python, "README.md", "exec"), said)  # noqa: S102
    worker.join()
    assert "{'found': 'much'}\n" in capsys.readouterr().out
    said["lab"].close()


def test_the_imports_of_the_readme_are_there() -> None:
    (imports,) = examples("python", "from clew.")
    exec(compile(imports, "README.md", "exec"), {})  # noqa: S102
