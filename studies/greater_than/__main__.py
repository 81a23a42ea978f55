"""Which features make a year's digit greater than the one before: writes docs/greater-than.md.

Measures the behaviour, finds where it is computed, trains transcoders there with several seeds, attributes, and tries
out what it found. What is finished is kept below `--cache`, so a run that was interrupted goes on.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase

from clew.models import Model, load_model
from studies.greater_than.circuit import Trained, agreeing, study_circuit
from studies.greater_than.finding import behaviour, find_places, level_mlps, try_head
from studies.greater_than.last_position import LastPosition
from studies.greater_than.page import write
from studies.greater_than.prompts import Context, Prompts, build_prompts
from studies.greater_than.results import Circuit, OfModel, Results, kept
from studies.greater_than.text import confirming_contexts, finding_contexts, prepare_dataset
from studies.greater_than.training import LAYERS, SEEDS, STEPS, trained_set
from studies.sae_against_transcoder import Steps, prepare_model

ROOT = Path(__file__).resolve().parent.parent.parent

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make finding", description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "studies", help="where what is made is kept")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer write no page")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="fewer write no page")
    given = parser.parse_args()
    made = given.cache / "greater-than"
    model_folder = prepare_model(given.cache)
    dataset = prepare_dataset(model_folder, made / "text")
    model = load_model(model_folder)
    finding, confirming = at_last(model, finding_contexts()), at_last(model, confirming_contexts())

    of_model = kept(made / "model.json", OfModel, lambda: study_model(finding, confirming))
    console.print(f"the model: decade effect {of_model.confirming.decade_effect:.2f} nats on the confirming prompts")
    sets, circuits, first, agreement = [], list[Circuit](), None, list[int]()
    for seed in SEEDS[: given.seeds]:
        out = made / f"seed-{seed}-{given.steps}"
        with Progress(console=console) as progress:
            coders, trained = trained_set(
                model,
                model_folder,
                dataset,
                confirming[0],
                seed=seed,
                steps=given.steps,
                out=out,
                report=Steps(progress, f"seed {seed}"),
            )
        sets.append(trained)
        of_set = Trained(coders, finding, confirming)
        circuits.append(kept(out / "circuit.json", Circuit, partial(study_circuit, of_set, dataset.heldout, seed)))
        if first is None:
            first = of_set
        else:
            agreement.append(agreeing(first, of_set))
        left = circuits[-1].trials[-2].found.decade_effect
        console.print(f"seed {seed}: without the found features a decade effect of {left:.2f} nats is left")
    results = Results(model=of_model, sets=sets, circuits=circuits, agreement=agreement)
    if given.steps == STEPS and given.seeds == len(SEEDS):
        write(results, dataset.manifest)
        console.print("wrote docs/greater-than.md and its pictures")
    console.print(f"measured and trained in {results.seconds / 60:.0f} minutes")


def at_last(model: Model, contexts: list[Context]) -> tuple[Prompts, LastPosition]:
    prompts = build_prompts(cast(PreTrainedTokenizerBase, model.tokenizer), contexts)
    return prompts, LastPosition(model, prompts.tokens_BT)


def study_model(
    finding: tuple[Prompts, LastPosition], confirming: tuple[Prompts, LastPosition], layers: Sequence[int] = LAYERS
) -> OfModel:
    start = time.monotonic()
    places = find_places(*finding)
    return OfModel(
        finding=behaviour(*finding),
        confirming=behaviour(*confirming),
        places=places,
        head=try_head(*confirming, places),
        without_coded_mlps=level_mlps(*confirming, layers),
        seconds=time.monotonic() - start,
    )


if __name__ == "__main__":
    main()
