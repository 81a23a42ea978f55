"""L0 against cross-entropy, SAE against transcoder: the shape of the paper's Figure 3, at one layer of SmolLM2-135M.

`make study` trains, at each of several k, a TopK transcoder of a layer's MLP and a TopK SAE of the same MLP's output,
from one stream of activations, with several seeds; splices each into the model on held-out text; and writes a table and
a plot to `docs/`. What is finished is kept, so a run that was interrupted goes on. About an hour on two cores
that do nothing else.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from demo.model import fetch_model
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import Progress

from clew.coders import load_coder
from clew.data import Dataset, build_dataset
from clew.evaluation import evaluate
from clew.files import file_sha256
from clew.models import Model, import_model, load_model
from clew.models.importing import tokenizer_digest
from clew.models.model import load_tokenizer
from clew.reporting import Silent
from clew.training import train
from clew_spec.coders import CoderSpec, TopK
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.results import Lineage
from clew_spec.training import CoderVariant, TrainSpec

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "sae-against-transcoder.md"
PLOT = ROOT / "docs" / "pictures" / "sae-against-transcoder.svg"

LAYER, N_FEATURES = 9, 2304
KS = (8, 16, 32, 64, 128)
SEEDS = (0, 1, 2)
STEPS, TOKENS_PER_STEP = 300, 1024
EVALUATION_TOKENS = 4096
CONTEXT, MAX_TOKENS = 256, 500_000

Kind = Literal["transcoder", "sae"]
KINDS: tuple[Kind, ...] = ("transcoder", "sae")
COLOURS = {"transcoder": "#1c7ed6", "sae": "#e8590c"}

console = Console()


@dataclass(frozen=True)
class Point:
    """One trained coder, measured alone in the model on held-out text."""

    kind: Kind
    k: int
    seed: int
    l0: float
    fvu: float
    ce_spliced: float
    ce_original: float
    ce_zero: float
    kl: float
    dead: int


class Steps(Silent):
    """Progress of training, on the terminal."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self._task = progress, progress.add_task(title, total=None)

    def progress(self, phase: str, done: float, total: float, unit: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=f"{phase}, {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make study", description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "studies", help="where what is made is kept")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer write no page")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    given = parser.parse_args()
    model_folder, dataset = prepare(given.cache)
    model = load_model(model_folder, tokenizer=False)
    points: list[Point] = []
    for seed in SEEDS[: given.seeds]:
        points += seed_points(
            model, model_folder, dataset, given.cache / f"seed-{seed}-{given.steps}", seed, given.steps
        )
    console.print(table(points))
    if given.steps == STEPS and given.seeds == len(SEEDS):
        write(points, dataset)


def prepare(cache: Path) -> tuple[Path, Dataset]:
    """SmolLM2-135M and docstrings below `cache`; some minutes the first time."""
    model, folder = prepare_model(cache), cache / "dataset"
    if not folder.exists():
        spec = BuildDatasetSpec(name="pydoc", model="smollm2-135m", context=CONTEXT, max_tokens=MAX_TOKENS)
        build_dataset(spec, load_tokenizer(model), tokenizer_digest=tokenizer_digest(model), out=folder)
    return model, Dataset.open(folder)


def prepare_model(cache: Path) -> Path:
    """The folder of SmolLM2-135M below `cache`."""
    model = cache / "model"
    if not model.exists():
        file = fetch_model(cache / "download")
        import_model(file, model, roots=[file.parent], report=Silent())
    return model


def variants() -> list[CoderVariant]:
    places: dict[Kind, dict[str, Any]] = {
        "transcoder": {"kind": "transcoder"},
        "sae": {"kind": "sae", "hook_in": "mlp.out"},
    }
    return [
        CoderVariant(name=f"{kind}.k{k}", n_features=N_FEATURES, activation=TopK(k=k), **places[kind])
        for kind in KINDS
        for k in KS
    ]


def seed_points(model: Model, model_folder: Path, dataset: Dataset, out: Path, seed: int, steps: int) -> list[Point]:
    """Train the grid with one seed and measure it, unless that was done before."""
    kept = out / "points.json"
    if kept.exists():
        return [Point(**each) for each in json.loads(kept.read_text())]
    spec = TrainSpec(
        name="grid",
        model="smollm2-135m",
        dataset="pydoc",
        layers=[LAYER],
        coder=CoderSpec(),
        coders=variants(),
        steps=steps,
        tokens_per_step=TOKENS_PER_STEP,
        evaluate_every=steps,
        checkpoint_every=steps,
        seed=seed,
    )
    with Progress(console=console) as progress:
        train(
            model,
            dataset,
            spec,
            model_digest=file_sha256(model_folder / "model.safetensors"),
            tokenizer_digest=tokenizer_digest(model_folder),
            lineage=Lineage(code_version="study", seed=seed),
            out=out,
            report=Steps(progress, f"seed {seed}"),
        )
    points = [measure(model, dataset, out / "coders", kind, k, seed) for kind in KINDS for k in KS]
    fresh = kept.with_suffix(".new")
    fresh.write_text(json.dumps([point.__dict__ for point in points], indent=1))
    fresh.replace(kept)
    return points


def measure(model: Model, dataset: Dataset, folder: Path, kind: Kind, k: int, seed: int) -> Point:
    coder = load_coder(folder / f"L{LAYER:02d}.{kind}.k{k}")
    found = evaluate(model, {LAYER: coder}, dataset.heldout, tokens=EVALUATION_TOKENS, mean_ablation=False).coders[0]
    console.print(f"seed {seed}, {kind}, k = {k}: FVU {found.fvu:.3f}, CE {found.ce_spliced:.4f}")
    return Point(
        kind=kind,
        k=k,
        seed=seed,
        l0=found.l0,
        fvu=found.fvu,
        ce_spliced=found.ce_spliced,
        ce_original=found.ce_original,
        ce_zero=found.ce_zero,
        kl=found.kl or 0.0,
        dead=found.dead,
    )


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def table(points: Sequence[Point]) -> str:
    """Markdown: a row for each k and kind, mean and standard deviation over seeds."""
    lines = [
        "| k | coder | L0 | CE spliced, nats | CE above the model's | KL, nats | FVU of what it writes | dead |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for k in KS:
        for kind in KINDS:
            these = [point for point in points if (point.kind, point.k) == (kind, k)]
            columns = [
                spread([point.l0 for point in these], 1),
                spread([point.ce_spliced for point in these], 4),
                spread([point.ce_spliced - point.ce_original for point in these], 4),
                spread([point.kl for point in these], 4),
                spread([point.fvu for point in these], 3),
                spread([float(point.dead) for point in these], 0),
            ]
            lines.append(f"| {k} | {'SAE' if kind == 'sae' else kind} | {' | '.join(columns)} |")
    return "\n".join(lines)


def plot(points: Sequence[Point], path: Path) -> None:
    """L0 against CE: every seed a dot, the mean over seeds a line."""
    mpl.rcParams["svg.hashsalt"] = "clew"  # the same numbers draw the same bytes
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for kind in KINDS:
        these = [point for point in points if point.kind == kind]
        axes.scatter([p.l0 for p in these], [p.ce_spliced for p in these], color=COLOURS[kind], s=14, alpha=0.6)
        means = [
            (
                statistics.mean(p.l0 for p in these if p.k == k),
                statistics.mean(p.ce_spliced for p in these if p.k == k),
            )
            for k in KS
        ]
        label = "transcoder (MLP input to output)" if kind == "transcoder" else "SAE (MLP output)"
        axes.plot(*zip(*means, strict=True), color=COLOURS[kind], label=label)
    axes.axhline(points[0].ce_original, color="grey", linestyle="--", linewidth=1, label="the model itself")
    axes.set_xscale("log", base=2)
    axes.set_xticks(KS, [str(k) for k in KS])
    axes.set_xlabel("L0: features active per token")
    axes.set_ylabel("held-out cross-entropy, nats per token")
    axes.set_title(f"SmolLM2-135M, layer {LAYER}, F = {N_FEATURES:,}")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def gaps_at(points: Sequence[Point], k: int, field: str) -> list[float]:
    """Transcoder minus SAE, seed by seed."""
    found = {(point.kind, point.seed): getattr(point, field) for point in points if point.k == k}
    return [found["transcoder", seed] - found["sae", seed] for seed in sorted({point.seed for point in points})]


def verdict(points: Sequence[Point]) -> str:
    """What the numbers say, k by k: by the sign that the difference of every pair of one seed has."""
    said = []
    for k in KS:
        gaps = gaps_at(points, k, "ce_spliced")
        lower = sum(gap < 0 for gap in gaps)
        said.append(f"| {k} | {spread(gaps, 4)} | {lower} of {len(gaps)} |")
    return "\n".join(["| k | CE of transcoder minus SAE | seeds in which it is lower |", "|---|---|---|", *said])


def always_lower(points: Sequence[Point]) -> str:
    """By each measure, at which k one kind is lower in every seed."""
    measures = {"cross-entropy": "ce_spliced", "KL": "kl", "FVU": "fvu"}
    said = []
    for name, field in measures.items():
        where: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
        for k in KS:
            gaps = gaps_at(points, k, field)
            if max(gaps) < 0:
                where["transcoder"].append(str(k))
            elif min(gaps) > 0:
                where["sae"].append(str(k))
        told = [f"the {'SAE' if kind == 'sae' else kind} at {', '.join(ks) or 'no k'}" for kind, ks in where.items()]
        said.append(f"by {name} {' and '.join(told)}")
    return "; ".join(said)


def write(points: Sequence[Point], dataset: Dataset) -> None:
    plot(points, PLOT)
    first = points[0]
    PAGE.write_text(
        f"""# SAE against transcoder at one layer of SmolLM2-135M

`make study` makes this page. It asks what Figure 3 of [Dunefsky et al. (2024)](https://arxiv.org/abs/2406.11944) asks:
at the same number of active features, which costs the model more when it is spliced in, a transcoder, which computes an
MLP's output from its input, or an SAE, which rebuilds the output from itself?

![L0 against cross-entropy](pictures/{PLOT.name})

{table(points)}

Mean ± standard deviation over {len({point.seed for point in points})} seeds. A seed decides the order of the text and
the features that training begins with. The model's own cross-entropy on this text is {first.ce_original:.4f} nats a
token, with the layer's MLP output zeroed {first.ce_zero:.4f}.

{verdict(points)}

## How it was made

Layer {LAYER}, {N_FEATURES:,} features (4 times the width of the residual stream), TopK at k of
{", ".join(map(str, KS))}, both kinds and every k in one job from one stream: the same
{STEPS * TOKENS_PER_STEP:,} tokens of docstrings in the same order, the same optimiser, loss (FVU) and start.
Each coder is spliced in alone on {EVALUATION_TOKENS:,} held-out tokens that share no passage with the training text
(dataset {dataset.manifest.digest[:12]}). Documents do not attend to each other; what a document begins with is an
attention sink, keeps its true activation and is not counted.

## What this shows, and what it does not

- It compares the two kinds where they can be compared: the same place is replaced, with the same number of features.
- Lower in every seed: {always_lower(points)}. Where it is neither, the difference is within what seeds differ.
- The SAE has the easier task: it sees the output that it is to rebuild. That a transcoder comes near, or below, is what
  the paper found at larger scale.
- It is one layer of a small model, {STEPS * TOKENS_PER_STEP / 1e6:.1f} million tokens where the paper has 60 million, a
  dictionary of 4 times the width where the paper has 32 times, and TopK where the paper has ReLU and an L1 term. The
  coders are far from converged.
- It says nothing about how interpretable the features of either are.
"""
    )
    console.print(f"wrote {PAGE.relative_to(ROOT)} and {PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
