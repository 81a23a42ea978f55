"""What a GPU must do before a lab relies on it: `make gpu-check`.

Trains small coders on a random model, so nothing is fetched: the same on the CPU and on the device, in bfloat16,
through an interruption, with too little memory, in two processes at once; and says how fast. Prints what passed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from clew.data import Dataset, DatasetManifest
from clew.data.packing import Packer
from clew.files import file_sha256
from clew.models import Model, prepare_model
from clew.reporting import Level, Silent, StopRequested
from clew.training import train
from clew.training.gradients import JointLoss
from clew_spec.coders import CoderSpec, TopK
from clew_spec.results import Lineage, TrainedCoder
from clew_spec.training import OptimizerSpec, TrainSpec

CONTEXT, VOCAB, STEPS = 64, 128, 30
NEAR = 2e-2
"""By how much held-out FVU may differ between devices, relatively: sums are taken in other orders."""


class Failed(Exception):
    """A check did not hold."""


def require(condition: bool, said: str) -> None:
    if not condition:
        raise Failed(said)


class Report(Silent):
    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.steps = stop_after, 0
        self.speeds: list[float] = []
        self.warnings: list[str] = []
        self.checkpoint = Path()

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        self.steps = max(self.steps, step)
        if "tokens_per_s" in values:
            self.speeds.append(values["tokens_per_s"])

    def log(self, message: str, level: Level = "info") -> None:
        if level == "warning":
            self.warnings.append(message)

    def stop_requested(self) -> bool:
        return self.stop_after is not None and self.steps >= self.stop_after

    def on_checkpoint(self, step: int, folder: Path) -> None:
        del step
        self.checkpoint = folder


def random_model(device: str, dtype: torch.dtype = torch.float32, *, d_model: int = 128, n_layers: int = 4) -> Model:
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=d_model,
        intermediate_size=3 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    hf: Any = LlamaForCausalLM(config)
    return prepare_model(hf.to(device=device, dtype=dtype))


def random_dataset(folder: Path) -> Dataset:
    files: list[str] = []
    for seed, (split, n_rows) in enumerate({"train": 200, "heldout": 16}.items()):
        packer = Packer(folder, split, context=CONTEXT, bos_id=None)  # type: ignore[arg-type]  # the two splits
        tokens = torch.randint(3, VOCAB, (n_rows * CONTEXT,), generator=torch.Generator().manual_seed(seed))
        packer.add(tokens.tolist())
        packer.close()
        files += packer.files
    manifest = DatasetManifest(
        tokenizer_digest="0" * 64,
        context=CONTEXT,
        bos="none",
        bos_id=None,
        separator_id=2,
        train_tokens=200 * CONTEXT,
        heldout_tokens=16 * CONTEXT,
        n_documents=2,
        n_heldout_documents=1,
        largest_id=VOCAB - 1,
        seed=0,
        heldout_fraction=0.1,
        source={"kind": "random tokens"},
        files={name: file_sha256(folder / name) for name in files},
    ).signed()
    (folder / "dataset.json").write_text(manifest.model_dump_json())
    return Dataset.open(folder)


class Bench:
    """A model on a device, a dataset, and a folder to train in."""

    def __init__(self, device: str, folder: Path) -> None:
        self.device, self.folder = device, folder
        (folder / "dataset").mkdir(exist_ok=True)
        self.dataset = random_dataset(folder / "dataset")
        self._runs = 0

    def train(
        self, model: Model, report: Report | None = None, *, resume: Path | None = None, **changes: Any
    ) -> tuple[list[TrainedCoder], Path]:
        report = report or Report()
        self._runs += 1
        out = self.folder / f"run-{self._runs}"
        values: dict[str, Any] = {
            "layers": [0, 1],
            "steps": STEPS,
            "tokens_per_step": 8 * CONTEXT,
            "coder": CoderSpec(n_features=512, activation=TopK(k=16)),
            "optimizer": OptimizerSpec(warmup_steps=4),
            "log_every": 1,
            "evaluate_every": STEPS,
            "evaluate_tokens": 16 * CONTEXT,
            "checkpoint_every": 10_000,
        }
        trained = train(
            model,
            self.dataset,
            TrainSpec(name="check", model="random", dataset="random", **(values | changes)),
            model_digest="0" * 64,
            tokenizer_digest="0" * 64,
            lineage=Lineage(code_version="gpu-check"),
            out=out,
            on_checkpoint=report.on_checkpoint,
            resume=resume,
            report=report,
        )
        return trained, out


def fvus(trained: list[TrainedCoder]) -> str:
    return ", ".join("{:.3f} to {:.4f}".format(*each.trained_fvu) for each in trained)


def require_near(found: list[TrainedCoder], expected: list[TrainedCoder], what: str, near: float = NEAR) -> float:
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        (first, last), (_, expected_last) = one.trained_fvu, other.trained_fvu
        worst = max(worst, abs(last / expected_last - 1))
        require(last < 0.95 * first, f"{what}: FVU went {fvus(found)}, it should fall")
    require(worst <= near, f"{what}: held-out FVU differs by {worst:.2%}, expected at most {near:.2%}")
    return worst


def parity(bench: Bench) -> str:
    """The CPU and the device train the same coders from the same seed."""
    expected, _ = bench.train(random_model("cpu"))
    found, _ = bench.train(random_model(bench.device))
    return f"held-out FVU {fvus(found)}, off the CPU's by at most {require_near(found, expected, 'parity'):.1e}"


def bfloat16(bench: Bench) -> str:
    """A bfloat16 model trains float32 coders about as well."""
    expected, _ = bench.train(random_model(bench.device))
    found, _ = bench.train(random_model(bench.device, torch.bfloat16), dtype="bfloat16")
    return f"held-out FVU {fvus(found)}, off float32's by {require_near(found, expected, 'bfloat16', 0.1):.1e}"


def resume(bench: Bench) -> str:
    """A run that was stopped and taken up ends where one that was not stopped does."""
    model = random_model(bench.device)
    expected, whole = bench.train(model)
    report = Report(stop_after=STEPS // 2)
    try:
        bench.train(model, report)
    except StopRequested as stopped:
        require(stopped.step == STEPS // 2, f"it stopped at step {stopped.step}")
    found, rest = bench.train(model, resume=report.checkpoint)
    worst = 0.0
    for each in found:
        for file in (name for name in each.files if name.endswith(".safetensors")):
            weights, others = load_file(rest / file), load_file(whole / file)
            worst = max(worst, *(float((weights[n] - others[n]).norm() / others[n].norm()) for n in weights))
    same = [each.digest for each in found] == [each.digest for each in expected]
    require(same or worst <= 1e-3, f"weights differ by {worst:.2e} of their norm")
    return "bit for bit the same" if same else f"weights differ by at most {worst:.1e} of their norm"


def out_of_memory(bench: Bench) -> str:
    """Where a step does not fit into memory, it goes on in smaller parts, and says so."""
    model = random_model(bench.device)
    expected, _ = bench.train(model)
    report = Report()
    with too_little_memory(bench.device):
        found, _ = bench.train(model, report)
    require(bool(report.warnings), "memory was to run out, and did not")
    require_near(found, expected, "out of memory")
    return report.warnings[-1]


@contextmanager
def too_little_memory(device: str) -> Iterator[None]:
    """Learning fails as it does where CUDA has no more to give, until a batch is taken in four times as many parts."""
    of_joint = JointLoss.at

    def at(self: JointLoss, layer: int, x_ND: torch.Tensor, y_ND: torch.Tensor) -> None:
        if self._shrink < 4:
            if device.startswith("cuda"):  # the allocator's own error, from its own hands
                torch.empty(2**62, dtype=torch.uint8, device=device)
            raise torch.OutOfMemoryError("as CUDA says it")
        of_joint(self, layer, x_ND, y_ND)

    JointLoss.at = at  # type: ignore[method-assign]  # for the time of this check
    try:
        yield
    finally:
        JointLoss.at = of_joint  # type: ignore[method-assign]  # as it was


def two_processes(bench: Bench) -> str:
    """Two processes, on two devices where there are two, train at the same time and do not disturb each other."""
    n_devices = torch.cuda.device_count() if bench.device.startswith("cuda") else 0
    devices = [f"cuda:{i}" for i in range(2)] if n_devices > 1 else [bench.device] * 2
    command = [sys.executable, "-m", "deploy.gpu_check", "--worker"]
    children = [
        subprocess.Popen([*command, "--device", device], stdout=subprocess.PIPE, text=True) for device in devices
    ]
    ends = [(child.communicate()[0], child.returncode) for child in children]
    require(all(code == 0 for _, code in ends), f"the processes ended with {[code for _, code in ends]}")
    one, other = (json.loads(said.splitlines()[-1]) for said, _ in ends)
    worst = max(abs(a / b - 1) for a, b in zip(one, other, strict=True))
    require(worst <= NEAR, f"their held-out FVU differs by {worst:.2%}")
    return f"on {' and '.join(devices)}, held-out FVU {', '.join(f'{fvu:.4f}' for fvu in one)}"


def speed(bench: Bench) -> str:
    """Tokens a second of a wider run, the median of its steps."""
    large = bench.device.startswith("cuda")
    model = random_model(bench.device, d_model=512 if large else 128, n_layers=8 if large else 4)
    report = Report()
    features = 16_384 if large else 1024
    coder = CoderSpec(n_features=features, activation=TopK(k=32))
    bench.train(model, report, coder=coder, layers=[2], tokens_per_step=(64 if large else 8) * CONTEXT)
    median = float(torch.tensor(report.speeds[2:]).median())
    return f"{median:,.0f} tokens/s, d = {model.d_model}, F = {features:,}, layer 2"


CHECKS: dict[str, Callable[[Bench], str]] = {
    "the CPU and the device agree": parity,
    "bfloat16": bfloat16,
    "resume": resume,
    "out of memory": out_of_memory,
    "two processes": two_processes,
    "speed": speed,
}


def main(arguments: list[str] | None = None) -> int:
    """Run every check; 1 where one failed, 2 where there is no such device."""
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="such as cuda, cuda:1 or cpu")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    console = Console()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        console.print("PyTorch finds no CUDA device here; `--device cpu` runs the same checks on the CPU.")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.device, Path(folder))
        if given.worker:
            trained, _ = bench.train(random_model(given.device))
            print(json.dumps([each.fvu_last for each in trained]))
            return 0
        return report_on(bench, console)


def report_on(bench: Bench, console: Console) -> int:
    name = torch.cuda.get_device_name(bench.device) if bench.device.startswith("cuda") else "CPU"
    table = Table("check", "", "what was seen", "seconds", title=f"{bench.device}: {name}, PyTorch {torch.__version__}")
    failed = 0
    for title, check in CHECKS.items():
        console.print(f"{title} ...")
        began = time.monotonic()
        try:
            seen, passed = check(bench), True
        except Exception as error:
            seen, passed = f"{type(error).__name__}: {error}", False
        failed += not passed
        mark = "[green]passed[/green]" if passed else "[red]FAILED[/red]"
        table.add_row(title, mark, seen, f"{time.monotonic() - began:.1f}")
    console.print(table)
    console.print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
