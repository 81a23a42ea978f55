"""A side runs while it is asked for something, and at no other time."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from benchmarks.bench import ROOT, WARM_UP, Bench, Watch
from benchmarks.child import Child, ChildError
from rich.console import Console
from tests.clew.toys import toy_hf
from tests.clew.training.conftest import make_dataset
from tests.support.waiting import until

from clew.coders import load_coder
from clew.models import load_model
from clew.training import train
from clew_spec.coders import CoderSpec, TopK
from clew_spec.results import Lineage
from clew_spec.training import TrainSpec

pytestmark = pytest.mark.science


def side(tmp_path: Path, module: str = "tests.benchmarks.side") -> Child:
    return Child([sys.executable, "-m", module], cwd=ROOT, log=tmp_path / "side.log", threads=1)


def is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def test_steps_are_timed_from_request_to_answer_whatever_is_printed(tmp_path: Path) -> None:
    with side(tmp_path) as child:
        loaded = child.ask("setup", steps=3, counts=20)["rss_bytes"]
        for _ in range(3):
            answer = child.ask("step")
            assert answer["seconds"] >= 0.02, "20 counts of a millisecond each"
            assert loaded is None or answer["peak_bytes"] >= loaded
        assert child.ask("finish")["counted"] >= 60
    assert "the library greets everyone" in (tmp_path / "side.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_between_steps_no_thread_of_a_side_runs(tmp_path: Path) -> None:
    with side(tmp_path) as child:
        child.ask("setup", steps=2, counts=5)
        child.step()
        until(lambda: is_stopped(child.pid), "the side is stopped")
        ours = psutil.Process(os.getpid()).cpu_times().user
        used = psutil.Process(child.pid).cpu_times()
        while psutil.Process(os.getpid()).cpu_times().user < ours + 0.2:
            pass
        assert psutil.Process(child.pid).cpu_times() == used
        child.step()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphaned groups that are stopped")
def test_a_stopped_side_does_not_outlive_whoever_asked(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks.child import Child;"
        "child = Child([sys.executable, '-m', 'tests.benchmarks.side'], cwd=Path.cwd(), log=Path(sys.argv[1]));"
        "child.ask('setup', steps=1, counts=1); print(child.pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "side.log")]
    asker = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert asker.stdout is not None
    pid = int(asker.stdout.readline())
    until(lambda: is_stopped(pid), "the side is stopped")
    asker.send_signal(signal.SIGKILL)
    asker.communicate()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "it has ended")


def test_a_side_that_fails_is_quoted(tmp_path: Path) -> None:
    with side(tmp_path) as child:
        child.ask("setup", steps=2, counts=1, fails_at=1)
        child.step()
        with pytest.raises(ChildError, match="this step was made to fail"):
            child.step()
        with pytest.raises(ChildError, match="ended with code 1"):
            child.step()


def test_a_side_takes_no_step_past_the_end(tmp_path: Path) -> None:
    with side(tmp_path) as child:
        child.ask("setup", steps=2, counts=1)
        child.step()
        with pytest.raises(ChildError, match="after the last one that was asked for"):
            child.ask("finish")


def test_sides_take_turns_and_the_first_steps_do_not_count(tmp_path: Path) -> None:
    taken: list[str] = []

    class Counting:
        def __init__(self, name: str) -> None:
            self._name, self._steps = name, 0

        def step(self) -> float:
            taken.append(self._name)
            self._steps += 1
            return float(self._steps)

    watch = Watch(Console(quiet=True))
    bench = Bench(tmp_path, watch)
    ours: Any = Counting("ours")
    peer: Any = Counting("peer")
    with watch.over("g/m"):
        found = bench.interleave(ours, peer, repetitions=3)
    assert taken == ["ours", "peer"] * (WARM_UP + 3)
    assert found == ([2.0, 3.0, 4.0], [2.0, 3.0, 4.0])


def test_our_side_trains_what_train_does(tmp_path: Path) -> None:
    """Being stopped between steps changes no bit of the weights."""
    toy_hf(dtype=torch.float32).save_pretrained(tmp_path / "model")
    (tmp_path / "dataset").mkdir()
    dataset = make_dataset(tmp_path / "dataset", train=10, heldout=5)
    spec = TrainSpec(
        name="toy",
        model="toy",
        dataset="toy",
        layers=[1],
        coder=CoderSpec(n_features=40, activation=TopK(k=4)),
        steps=4,
        tokens_per_step=48,
    )
    digests: dict[str, Any] = {"model_digest": "m" * 64, "tokenizer_digest": dataset.manifest.tokenizer_digest}
    model = load_model(tmp_path / "model", tokenizer=False)
    train(model, dataset, spec, **digests, lineage=Lineage(code_version="test"), out=tmp_path / "plain")
    with side(tmp_path, "benchmarks.our_training") as child:
        child.ask(
            "setup",
            model=str(tmp_path / "model"),
            dataset=str(tmp_path / "dataset"),
            out=str(tmp_path / "ours"),
            spec=spec.model_dump(),
            **digests,
        )
        for _ in range(spec.steps):
            child.step()
        stepped = load_coder(Path(child.ask("finish")["coder"]))
    plain = load_coder(tmp_path / "plain" / "coders" / "L01")
    for name, weight in plain.parameters().items():
        assert torch.equal(stepped.parameters()[name], weight), name
