"""Short jobs under random faults, and the account of them: `make chaos`, ARGS="--jobs 40 --seed 7".

Jobs are asked for over HTTP, each again and again until it is answered. The faults follow from the seed; what they hit,
and in the middle of what, does not. The last line is the account.
"""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count, takewhile
from random import Random, SystemRandom
from typing import Any
from uuid import UUID

import httpx2
from tests.chaos.faults import Faults
from tests.chaos.house import House, house
from tests.chaos.ledger import Asked, Ledger, account

AGAIN_S = 0.2
PAUSE_S = 0.6
"""Between two jobs on average, so that there are some for every fault."""
CANCELLED, ASKED_TWICE = 0.05, 0.1
"""Shares of the jobs."""
PRIORITIES = ("low", "normal", "normal", "high")
"""A low job gives way to a high one by its checkpoint."""
SAY_S = 10.0
LONGER_S = 120.0
"""How much longer there are faults where one of them has yet to happen."""
QUIET_S = 120.0
"""How long what is left may take once nothing goes wrong any more."""


class Users(threading.Thread):
    """Ask for every job until it is answered; of some twice; and take some back. For so many, and as long as `more`."""

    def __init__(self, house: House, jobs: int, seed: int, *, ms: tuple[int, int], more: Callable[[], bool]) -> None:
        super().__init__(name="users", daemon=True)
        self._house = house
        self._jobs = jobs
        self._random = Random(seed)  # noqa: S311  # to be the same again, not to be secret
        self._ms = ms
        self._more = more
        self.asked: list[Asked] = []
        self.unexpected: list[str] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        with httpx2.Client(base_url=self._house.url, headers=self._house.tenant.auth, timeout=5) as client:
            for number in takewhile(lambda number: number < self._jobs or self._more(), count()):
                steps = self._random.randint(3, 8)
                body = request(f"steps_{steps}", f"ms_{self._random.randint(*self._ms)}", "every_2")
                body["priority"] = self._random.choice(PRIORITIES)
                asked = Asked(steps, cancel=self._random.random() < CANCELLED)
                for _ in range(1 + (self._random.random() < ASKED_TWICE)):
                    answer = self._insist(client, "/jobs", key=f"job-{number}", body=body)
                    if answer is not None:
                        asked.ids.add(UUID(answer["id"]))
                if asked.ids:
                    self.asked.append(asked)
                if asked.ids and asked.cancel:
                    self._insist(client, f"/jobs/{min(asked.ids)}/cancel")
                self.stopped.wait(self._random.uniform(0, 2 * PAUSE_S))

    def _insist(
        self, client: httpx2.Client, path: str, *, key: str = "", body: dict[str, Any] | None = None
    ) -> dict[str, str] | None:
        """The answer, once there is one; None where it is over before that, or is a refusal."""
        headers = {"Idempotency-Key": key} if key else None
        while not self.stopped.is_set():
            with suppress(httpx2.HTTPError):
                answer = client.post(path, json=body, headers=headers)
                if answer.status_code in (200, 202):
                    return dict(answer.json())
                if answer.status_code == 409 and body is None:
                    return None  # it had ended
                if answer.status_code != 503:
                    self.unexpected.append(f"POST {path} was answered {answer.status_code}: {answer.text[:500]}")
                    return None
            self.stopped.wait(AGAIN_S)
        return None


def request(*words: str) -> dict[str, Any]:
    """Of a job that does what `tests.support.fake_runner` reads in these words."""
    spec = {"kind": "build-dataset", "name": "chaos", "model": "m", "context": 8, "source": {"packages": words}}
    return {"spec": spec}


def run(
    *,
    jobs: int,
    seed: int,
    seconds: float,
    only: tuple[str, ...] = (),
    changes: str = "",
    ms: tuple[int, int] = (20, 150),
) -> tuple[Ledger, dict[str, int]]:
    """The account, and how often each fault happened.

    jobs: how many, or as many as come until each fault has happened. seconds: how long there are faults, likewise.
    only: which faults; all if not given. changes: of the workers, as `tests.support.mutant` names them. ms: the length
    of a step, from and to.
    """
    print(f"{jobs} jobs, seed {seed}", flush=True)
    with house(changes=changes) as built:
        faults = Faults(built, seed, only=only)
        users = Users(built, jobs, seed, ms=ms, more=lambda: faults.wanting)
        users.start()
        began = time.monotonic()
        _until(built, users, began + seconds, faults.step)
        _until(built, users, began + seconds + LONGER_S, faults.step, or_when=lambda: not faults.wanting)
        faults.heal()
        _until(built, users, time.monotonic() + QUIET_S, built.revive)
        users.stopped.set()
        users.join(30)
        ledger = account(built.fleet.sessions, built.fleet.store, users.asked, built.tenant.project.id)
        ledger.findings += users.unexpected
        if not ledger.clean or users.unexpected:
            print(built.fleet.logs())
    return ledger, faults.done


def _until(
    house: House,
    users: Users,
    deadline: float,
    step: Callable[[], None],
    or_when: Callable[[], bool] = lambda: False,
) -> None:
    """Go on until every job was accepted and has ended, or until the deadline; say now and then how far it is."""
    said_at = time.monotonic()
    while time.monotonic() < deadline and not or_when():
        step()
        if time.monotonic() > said_at + SAY_S:
            said_at = time.monotonic()
            print(f"          {len(users.asked)} accepted, {house.ended()} ended", flush=True)
        if not users.is_alive() and house.ended() >= len(users.asked):
            return
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=240, help="how long things go wrong, or until all has")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in good order: servers and folders go
    ledger, done = run(jobs=arguments.jobs, seed=arguments.seed, seconds=arguments.seconds)
    print("faults: " + ", ".join(f"{name} {count}" for name, count in done.items()))
    print(*ledger.findings, sep="\n", end="\n" if ledger.findings else "")
    print(ledger, flush=True)
    return 0 if ledger.clean and not ledger.findings and ledger.accepted >= arguments.jobs else 1


if __name__ == "__main__":
    sys.exit(main())
