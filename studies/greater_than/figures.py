"""The plots of the page. The same numbers draw the same bytes."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from studies.greater_than.prompts import DECADES
from studies.greater_than.results import Circuit, Feature, OfModel

BLUE, ORANGE, GREY, GREEN = "#1c7ed6", "#e8590c", "#868e96", "#2f9e44"


def behaviour_figure(of_model: OfModel, path: Path) -> None:
    """What comes next by start decade, and what each layer has to do with it."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=(1, 1.5))
    image = left.imshow(of_model.confirming.probabilities, cmap="Blues", vmin=0, vmax=1, origin="lower")
    left.set_xticks(range(DECADES))
    left.set_yticks(range(DECADES))
    left.set_xlabel("next digit")
    left.set_ylabel("tens digit of the start")
    left.set_title("probability")
    figure.colorbar(image, ax=left, shrink=0.8)
    places, whole = of_model.places, of_model.finding.decade_effect
    layers = range(len(places.direct_mlp))
    right.bar(
        [i - 0.3 for i in layers], [whole - x for x in places.without_attention], 0.3, color=ORANGE, label="attention"
    )
    right.bar(layers, [whole - x for x in places.without_mlp], 0.3, color=BLUE, label="MLP")
    right.bar([i + 0.3 for i in layers], places.direct_mlp, 0.3, color=GREEN, label="MLP, direct effect")
    right.axhline(0, color=GREY, linewidth=0.8)
    right.set_xlabel("layer")
    right.set_ylabel(f"nats of the decade effect of {whole:.2f}")
    right.set_title("lost when levelled at the last position")
    right.legend()
    save(figure, path)


def features_figure(features: Sequence[Feature], path: Path) -> None:
    """Activation by start decade, and direct effect on each digit."""
    figure, grid = plt.subplots(2, 4, figsize=(12, 5), layout="constrained", sharex=True)
    for axes, feature in zip(grid.flat, features, strict=False):
        axes.bar(range(DECADES), feature.activations, color=BLUE, alpha=0.6)
        axes.set_title(f"L{feature.layer} / {feature.feature}", fontsize=10)
        axes.tick_params(axis="y", colors=BLUE)
        axes.set_xticks(range(DECADES))
        other = axes.twinx()
        other.plot(range(DECADES), feature.logits, color=ORANGE, marker="o", markersize=3)
        other.axhline(0, color=ORANGE, linewidth=0.5)
        other.tick_params(axis="y", colors=ORANGE)
    figure.supxlabel("bars: activation by tens digit of the start; line: effect on the logit of each next digit, nats")
    save(figure, path)


def trials_figure(of_model: OfModel, circuits: Sequence[Circuit], path: Path) -> None:
    """Decade effect left with more and more features levelled, against controls."""
    figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for number, circuit in enumerate(circuits):
        counts = [trial.n for trial in circuit.trials]
        found = [trial.found.decade_effect for trial in circuit.trials]
        axes.plot(counts, found, color=BLUE, marker="o", label="" if number else "found features, by seed")
        others = [(t.n, o.decade_effect) for t in circuit.trials for o in t.other_features]
        directions = [(t.n, o.decade_effect) for t in circuit.trials for o in t.directions]
        for points, side, colour, label in (
            (others, 1.05 + 0.05 * number, GREY, "other active features, same norm"),
            (directions, 0.95 - 0.05 * number, ORANGE, "random directions, same norm"),
        ):
            places = [n * side for n, _ in points]
            effects = [effect for _, effect in points]
            axes.scatter(places, effects, s=9, color=colour, alpha=0.5, label="" if number else label)
    axes.axhline(of_model.confirming.decade_effect, color="black", linewidth=1, linestyle="--", label="the model")
    axes.axhline(
        of_model.without_coded_mlps.decade_effect,
        color=GREEN,
        linewidth=1,
        linestyle="--",
        label="the MLPs levelled whole",
    )
    axes.set_xscale("log", base=2)
    counts = [trial.n for trial in circuits[0].trials]
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("features levelled")
    axes.set_ylabel("decade effect left, nats")
    axes.legend(fontsize=8)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    mpl.rcParams["svg.hashsalt"] = "clew"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
