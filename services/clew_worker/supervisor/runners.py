"""Which runner does the next job: a fresh one for training, a warm one for circuits where it may."""

from collections.abc import Mapping
from pathlib import Path

from clew_lab.settings import Settings
from clew_spec.jobs import Pool
from clew_worker.supervisor.process import Runner, clean_environment


class Runners:
    """At most one runner lives. It serves one project alone, so that nothing of another's stays in its memory."""

    def __init__(self, settings: Settings, pool: Pool, device: str, folder: Path) -> None:
        self._settings = settings
        self._max_jobs = settings.runner_max_jobs if pool == "circuits" else 1
        self._device = device
        self._folder = folder
        self._warm: Runner | None = None

    def take(self, project_id: str, secrets: Mapping[str, str] | None = None) -> Runner:
        """A living runner that may work for this project. One that is given secrets, by the names of variables, is
        fresh, and does this one job."""
        warm, self._warm = self._warm, None
        if warm is not None:
            if not secrets and warm.alive and warm.project_id == project_id and warm.served < self._max_jobs:
                warm.served += 1
                return warm
            warm.close(self._settings.kill_grace_s)
        self._folder.mkdir(parents=True, exist_ok=True)
        runner = Runner(
            [*self._settings.runner_command, "--max-jobs", str(self._max_jobs)],
            environ={**clean_environment(self._device, offline=self._settings.hf_offline), **(secrets or {})},
            cwd=self._folder,
            log=self._folder / "runner.log",
        )
        runner.project_id = project_id
        runner.served = self._max_jobs if secrets else 1
        runner.confidential = bool(secrets)
        return runner

    def give_back(self, runner: Runner, *, orderly: bool) -> None:
        """Keep it warm if it ended its job in good order and may do another; else end it."""
        if orderly and runner.alive and runner.served < self._max_jobs:
            self._warm = runner
        elif orderly:
            runner.close(self._settings.kill_grace_s)
        else:
            runner.end(self._settings.kill_grace_s)
        if runner.confidential:
            runner.discard_words()

    def close(self) -> None:
        if self._warm is not None:
            self._warm.close(self._settings.kill_grace_s)
            self._warm = None
