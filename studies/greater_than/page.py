"""The page: what was measured, in words and tables."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from clew.data import DatasetManifest
from studies.greater_than.circuit import FOUND, SHIFTS
from studies.greater_than.figures import behaviour_figure, features_figure, trials_figure
from studies.greater_than.prompts import Context
from studies.greater_than.results import Behaviour, Circuit, Outcome, Results, Trial
from studies.greater_than.text import HELD_OUT_NOUNS, HELD_OUT_ONES, SENTENCES
from studies.greater_than.training import LAYERS, N_FEATURES, STEPS, TOKENS_PER_STEP, K
from studies.sae_against_transcoder import spread as spread_of

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "greater-than.md"
PICTURES = ROOT / "docs" / "pictures"
SHOWN = 8


def write(results: Results, text: DatasetManifest) -> None:
    """The page and its pictures."""
    behaviour_figure(results.model, PICTURES / "greater-than-behaviour.svg")
    features_figure(results.circuits[0].features[:SHOWN], PICTURES / "greater-than-features.svg")
    trials_figure(results.model, results.circuits, PICTURES / "greater-than-trials.svg")
    PAGE.write_text(page(results, text))


def page(results: Results, text: DatasetManifest) -> str:
    model, circuits = results.model, results.circuits
    confirming, head = model.confirming, model.head
    return f"""# Greater-than at the tens digit in SmolLM2-135M

`make finding` makes this page. It asks how the model continues "{Context("war", 17, 3).text(4)}" with a digit that is
not below 4, as [Hanna et al. (2023)](https://arxiv.org/abs/2305.00586) and
[Dunefsky et al. (2024)](https://arxiv.org/abs/2406.11944) ask of GPT-2 small, whose years are pairs of digits. Here
each digit is a token, so the tens digit is decided alone.

{summary(results)}

## What the model does

![Behaviour, and the layers behind it](pictures/greater-than-behaviour.svg)

{behaviour_table(results)}

The *probability difference* is the probability of all digits above the start's tens digit less that of all below it.
The start's own digit may be right or wrong and is on neither side. The *logit difference* is the mean logit of the
digits above less that of those below. Much of it does not depend on the start at all (late digits are likelier than
early ones whatever the start), so what counts here is the *decade effect*: the logit difference less what it is with
the logits averaged over the ten start decades of the same noun, century and last digit. A model that does not read the
start's tens digit has a decade effect of 0. Means are over the start decades 1 to 8, which have digits on both sides.

## Where it does so

A component is *levelled* at the last position: what it writes is given its mean over the ten start decades, and
everything above answers freely. Direct effects are what a component itself writes on the decade effect; those of all
heads and MLPs add up to it.

{places_table(results)}

Head {head.layer}.{head.head} was found on the finding prompts. Levelled on the confirming prompts, it leaves a decade
effect of {head.outcome.decade_effect:.2f} of {confirming.decade_effect:.2f} nats; {len(head.controls)} other heads of
the upper half of the model, levelled one at a time, leave {outcomes(head.controls)}.

## The coders

Transcoders of the MLPs {", ".join(map(str, LAYERS))}, those with most direct effect, {N_FEATURES:,} features, TopK with
k = {K}, {len(circuits)} seeds.

{quality_table(results)}

At the last position of the confirming prompts, of what depends on the start decade:

{coded_table(circuits)}

## The features

The {FOUND} features of a set with the largest direct effect on the finding prompts are called *found*. The first
{SHOWN} of seed 0:

![Features](pictures/greater-than-features.svg)

{feature_table(circuits[0])}

"Brings the decade" is the share of what a feature's pre-activation knows of the start decade that a head or MLP wrote:
shares of all heads and MLPs below add up to 1. Of the {FOUND} found with seed 0,
{" and ".join(map(str, results.agreement))} have one with a decoder of cosine 0.7 or more among those found with the
other seeds.

## The intervention

On the confirming prompts the found features are levelled: each is given its mean activation over the ten start decades.
Controls are as many other features of the same layers, drawn from those active on more than 5 % of the prompts and
levelled too, or a random direction; what they add is stretched to the norm of what the found features add, prompt by
prompt and layer by layer.

![Decade effect left](pictures/greater-than-trials.svg)

{trials_table(results)}

The other way round, the {FOUND} features are given what they are with the start {SHIFTS[0]} decades further on:

{transplant_table(circuits)}

## The error share

Attribution graphs of the logit difference, {circuits[0].graphs.prompts} confirming prompts a seed, all active features
selected. The edges into a node add up to its value within {max(each.graphs.conservation for each in circuits):.0e} of
the sum of their sizes.

{graph_table(circuits)}

## How it was made

- Prompts: "{Context("NOUN", 17, 3).text(4)}", and so on. *Finding prompts* ({model.finding.prompts}) choose layers,
  heads and features. *Confirming prompts* ({confirming.prompts}) try them out: their nouns
  ({", ".join(HELD_OUT_NOUNS)}) and years that end in {" or ".join(map(str, HELD_OUT_ONES))} are in no sentence that
  coders learnt from.
- Text: docstrings, and sentences from {len(SENTENCES)} templates with two years, the second after the first; no public
  text with years was in reach. {text.train_tokens:,} tokens (dataset {text.digest[:12]}), of which each seed learns
  from {STEPS * TOKENS_PER_STEP:,}, in an order of its own.
- Time: {results.seconds / 60:.0f} minutes of measuring and training in all, on two cores.

## What this shows, and what it does not

{limits(results)}
"""


def spread(values: Sequence[float], digits: int = 2) -> str:
    return spread_of(values, digits)


def outcomes(controls: list[Outcome]) -> str:
    return spread([each.decade_effect for each in controls])


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def summary(results: Results) -> str:
    model, circuits = results.model, results.circuits
    whole, head = model.confirming.decade_effect, model.head
    left = [found_trial(each).found.decade_effect for each in circuits]
    control = [o.decade_effect for each in circuits for o in found_trial(each).other_features]
    below = sum(
        found_trial(each).found.decade_effect < min(o.decade_effect for o in found_trial(each).other_features)
        for each in circuits
    )
    graphs = [each.graphs for each in circuits]
    return f"""- Digits below the start's get {percent(model.confirming.below)} of the probability.
- Head {head.layer}.{head.head} looks at the start's tens digit ({percent(head_attention(results))} of its attention);
  without what it says of the decade, {percent(head.outcome.decade_effect / whole)} of the decade effect is left.
- Without what {FOUND} found features of {len(LAYERS)} layers say of it, {spread([x / whole for x in left])} of the
  decade effect is left (mean ± standard deviation over {len(circuits)} seeds); with other active features and changes
  of the same norm, {spread([x / whole for x in control])}. In {below} of {len(circuits)} seeds less is left than with
  any of the {len(found_trial(circuits[0]).other_features)} controls.
- Error nodes have {spread([each.error_share for each in graphs])} of the influence in attribution graphs of the logit
  difference, of which {spread([each.coder_error for each in graphs])} are errors of the coders and
  {spread([each.no_coder for each in graphs])} MLPs of the {model_layers(results) - len(LAYERS)} layers without one."""


def found_trial(circuit: Circuit) -> Trial:
    return next(trial for trial in circuit.trials if trial.n == FOUND)


def model_layers(results: Results) -> int:
    return len(results.model.places.direct_mlp)


def head_attention(results: Results) -> float:
    return results.model.places.heads[0][3]


def behaviour_table(results: Results) -> str:
    def row(name: str, of: Behaviour) -> str:
        difference, logits = of.probability_difference, of.logit_difference
        return (
            f"| {name} | {of.prompts} | {of.below:.3f} | {of.own:.3f} | {of.digits:.3f} "
            f"| {difference.mean:.2f} ± {difference.deviation:.2f} | {logits.mean:.2f} ± {logits.deviation:.2f} "
            f"| {of.decade_effect:.2f} |"
        )

    head = (
        "| prompts | number | p(below) | p(own digit) | p(a digit) | probability difference | logit difference, nats "
    )
    return "\n".join(
        [
            head + "| decade effect, nats |",
            "|---|---|---|---|---|---|---|---|",
            row("finding", results.model.finding),
            row("confirming", results.model.confirming),
            "",
            "± is the standard deviation over nouns, centuries and last digits.",
        ]
    )


def places_table(results: Results) -> str:
    places, whole = results.model.places, results.model.finding.decade_effect
    mlps = sorted(range(model_layers(results)), key=lambda i: -places.direct_mlp[i])[:6]
    lines = [
        "| component | decade effect lost, nats | direct effect, nats | attention to the tens digit |",
        "|---|---|---|---|",
    ]
    lines += [f"| MLP {i} | {whole - places.without_mlp[i]:.2f} | {places.direct_mlp[i]:.2f} | |" for i in mlps]
    lines += [f"| head {i}.{h} | {whole - left:.2f} | | {percent(looks)} |" for i, h, left, looks in places.heads[:4]]
    return "\n".join([*lines, f"| all | {whole:.2f} | {whole:.2f} | |"])


def quality_table(results: Results) -> str:
    lines = [
        "| text | layer | FVU | L0 | CE spliced less the model's, nats | CE of its mean instead, less the model's |",
        "|---|---|---|---|---|---|",
    ]
    for of in zip(*(each.quality for each in results.sets), strict=True):
        first = of[0]
        fvu = "" if first.fvu is None else spread([each.fvu or 0.0 for each in of], 3)
        l0 = "" if first.l0 is None else spread([each.l0 or 0.0 for each in of], 1)
        spliced = spread([each.ce_spliced - each.ce_original for each in of], 3)
        mean_ = spread([each.ce_mean - each.ce_original for each in of], 3)
        name = "all at once" if first.layer is None else str(first.layer)
        lines.append(f"| held-out {first.text} | {name} | {fvu} | {l0} | {spliced} | {mean_} |")
    return "\n".join(lines)


def coded_table(circuits: list[Circuit]) -> str:
    lines = [
        "| layer | FVU | direct effect of the MLP, nats | of its features | of the found ones |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {of[0].layer} | {spread([x.fvu for x in of])} | {of[0].of_mlp:.2f} "
        f"| {spread([x.of_features for x in of])} | {spread([x.of_found for x in of])} |"
        for of in zip(*(each.coded for each in circuits), strict=True)
    ]
    return "\n".join(lines)


def feature_table(circuit: Circuit) -> str:
    lines = [
        "| feature | direct effect, nats | most active after | promotes / suppresses | on text | brings the decade |",
        "|---|---|---|---|---|---|",
    ]
    for each in circuit.features[:SHOWN]:
        decades = sorted(range(10), key=lambda y: -each.activations[y])[:3]
        high, low = (sorted(range(10), key=lambda y: sign * each.logits[y])[:3] for sign in (-1, 1))
        brought = ", ".join(f"{name} {percent(share)}" for name, share in list(each.brought.items())[:3])
        lines.append(
            f"| L{each.layer} / {each.feature} | {each.effect:.3f} | {digits(decades)} "
            f"| {digits(high)} / {digits(low)} | {100 * each.frequency:.1f} % | {brought} |"
        )
    return "\n".join(lines)


def digits(of: list[int]) -> str:
    return ", ".join(map(str, of))


def trials_table(results: Results) -> str:
    circuits, model = results.circuits, results.model
    lines = [
        "| levelled | decade effect left | probability difference | with other features | with random directions |",
        "|---|---|---|---|---|",
    ]
    for of in zip(*(each.trials for each in circuits), strict=True):
        others = [o.decade_effect for trial in of for o in trial.other_features]
        directions = [o.decade_effect for trial in of for o in trial.directions]
        lines.append(
            f"| {of[0].n} features | {spread([t.found.decade_effect for t in of])} "
            f"| {spread([t.found.probability_difference for t in of])} | {spread(others)} "
            f"| {spread(directions) if directions else ''} |"
        )
    everything = [each.all_features for each in circuits]
    lines.append(
        f"| all features of the {len(LAYERS)} coders | {spread([o.decade_effect for o in everything])} "
        f"| {spread([o.probability_difference for o in everything])} | | |"
    )
    whole, own = model.without_coded_mlps, model.confirming
    lines.append(
        f"| the {len(LAYERS)} MLPs whole | {whole.decade_effect:.2f} | {whole.probability_difference:.2f} | | |"
    )
    lines.append(f"| nothing | {own.decade_effect:.2f} | {own.probability_difference.mean:.2f} | | |")
    return "\n".join([*lines, "", f"± is over {len(circuits)} seeds, of controls over seeds and draws."])


def transplant_table(circuits: list[Circuit]) -> str:
    lines = ["| seed | share of the way to the other start's probabilities | controls |", "|---|---|---|"]
    for each in circuits:
        given = each.transplant
        lines.append(f"| {each.seed} | {given.found:.3f} | {spread(given.other_features, 3)} |")
    return "\n".join(lines)


def graph_table(circuits: list[Circuit]) -> str:
    graphs = [each.graphs for each in circuits]
    rows = {
        "influence of all error nodes": [each.error_share for each in graphs],
        "of it: MLPs without a coder": [each.no_coder for each in graphs],
        "of it: errors of the coders": [each.coder_error for each in graphs],
        "of it: position 0": [each.position_0 for each in graphs],
    }
    lines = ["| share of the influence on the logit difference | |", "|---|---|"]
    lines += [f"| {name} | {spread(values)} |" for name, values in rows.items()]
    lines += ["", "| edges into the logit difference, summed by where they come from | nats |", "|---|---|"]
    lines += [f"| {name} | {spread([each.direct[name] for each in graphs])} |" for name in graphs[0].direct]
    return "\n".join(lines)


def limits(results: Results) -> str:
    whole, coded = results.model.confirming.decade_effect, results.model.without_coded_mlps.decade_effect
    all_left = mean(each.all_features.decade_effect for each in results.circuits)
    errors = (all_left - coded) / whole
    head = f"{results.model.head.layer}.{results.model.head.head}"
    return f"""- The route is the one known of GPT-2 small: one head reads the start's tens digit, MLPs above it raise
  the digits from there on. Here it ends in a comparison of single digits, not of pairs.
- The found features carry a part of it. With the {len(LAYERS)} MLPs levelled whole, {percent(coded / whole)} of the
  decade effect is left, with all features of their coders {percent(all_left / whole)}. The difference,
  {percent(errors)} of the effect, is what the coders' errors say; below 0, it is the contrary of what
  the features do. The rest is in MLPs without a coder, and in heads.
- Levelling takes out what depends on the start decade, and nothing else; it is a smaller cut than an ablation to zero,
  and no feature is punished for what it does whatever the start.
- The coders learnt from {STEPS * TOKENS_PER_STEP:,} tokens, mostly of sentences like the prompts: they are far from
  converged, and on other text they are poor. Features of coders trained on more text may be cut otherwise.
- Only the last position is changed. How the tens digit gets into what head {head} reads, and why the head looks
  there, is not explained.
- It is one model, one template and single-token nouns. Seeds decide the order of the text and the features that
  training begins with; they do not change the text."""
