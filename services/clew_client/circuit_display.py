"""What came of an analysis of circuits, on a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from clew_client.display import clean, number, table
from clew_spec.patching import PatchSummary
from clew_spec.results import EdgeResult, FaithfulnessResult, MeanEdgesResult, PatchResult, SteerResult
from clew_spec.steering import Agreement, Movement

PARTS = 20
"""Rows of a table that could be endless."""


def steering(result: SteerResult) -> Iterator[RenderableType]:
    how = "frozen" if result.frozen else "free"
    yield Text(clean(f"{result.prompt!r}, {how}, KL {number(result.kl)} nats"))
    chances = [(repr(each.token), f"{each.before:.3f}", f"{each.after:.3f}") for each in result.next_tokens]
    yield table(["next token", "before>", "after>"], chances)
    yield table(
        ["edited", "position>", "before>", "after>"],
        [
            (f"L{each.layer}/F{each.feature}", str(each.position), number(each.before), number(each.after))
            for each in result.activations
        ],
    )
    if result.text_before is not None and result.text_after is not None:
        yield table(["", ""], [("before", repr(result.text_before)), ("after", repr(result.text_after))])
    if (found := result.prediction) is not None:
        yield Text(f"Predicted against measured: {_agreement(found.agreement)}")
        yield Text(f"Of the logits alone: {_agreement(found.logits)}")
        yield table(
            ["moves", "predicted>", "measured>"],
            [(_node(each), f"{each.predicted:+.4g}", f"{each.measured:+.4g}") for each in found.movements],
        )


def faithfulness(result: FaithfulnessResult) -> Iterator[RenderableType]:
    found, curves = result.faithfulness, result.faithfulness.curves
    checks, steered = found.checks, found.steering
    facts = [
        ("conservation", f"{found.conservation.max_relative_to_edges:.1e} of sum |edges|"),
        ("edges, frozen", f"{checks.edges}: median {checks.median:.1e}, largest {checks.largest:.1e} off"),
        (f"{steered.features} ablations, logits", _agreement(steered.logits)),
        ("  random direction", _agreement(steered.control_logits)),
        ("  logits and features", _agreement(steered.nodes)),
        ("  random direction", _agreement(steered.control_nodes)),
        ("influence and effect", f"Spearman {number(found.influence.spearman)}"),
        (f"curves, {curves.ablation} ablation", f"CPR {number(curves.cpr)}, CMD {number(curves.cmd)}"),
    ]
    if (stable := found.stability) is not None:
        each = ", ".join(f"{value:.2f}" for value in stable.jaccard)
        facts.append(
            (f"{len(stable.jaccard)} paraphrases", f"Jaccard {each}; {stable.mean_jaccard:.2f} over all pairs")
        )
    yield table(["", ""], facts)
    yield table(
        ["features>", "kept alone>", "ablated>"],
        [(number(point.features), number(point.keep), number(point.ablate)) for point in curves.points],
    )


def patching(result: PatchResult) -> Iterator[RenderableType]:
    """A table for each kind of place."""
    said = result.summary
    less = f", {said.answer!r} less {said.wrong!r}" if said.metric == "logit-difference" else f" of {said.answer!r}"
    what = said.metric if said.metric == "kl" else said.metric + less
    yield Text(
        clean(f"{said.direction}, {what}: clean {number(said.clean_value)}, corrupt {number(said.corrupt_value)}")
    )
    for place in dict.fromkeys(each.place for each in result.strongest):
        rows = [
            (
                "embedding" if each.layer < 0 else f"L{each.layer}",
                "" if each.head is None else str(each.head),
                "all" if each.position is None else _both(said, each.position),
                number(each.value),
                f"{each.score:+.3f}",
            )
            for each in result.strongest
            if each.place == place
        ]
        yield table([place, "head>", "position", "value>", "score>"], rows)


def edge(result: EdgeResult) -> Iterator[RenderableType]:
    """What the edge is, then its parts by the last head, then by head of each layer where any carries much."""
    split = result.split
    facts = [
        ("edge", f"{split.source.label} to {split.target.label}: {split.edge:+.4g}"),
        ("of all into it", "-" if split.share is None else f"{split.share:.1%}"),
        ("capped", number(split.capped)),
        ("direct", f"{split.direct:+.4g}"),
        ("other parts", f"{split.rest:+.2g}"),
    ]
    yield table(["", ""], facts)
    yield table(
        ["last head", "reads from", "part>"],
        [
            (f"L{part.layer}H{part.head}", f"{part.position} {result.tokens[part.position]!r}", f"{part.weight:+.4g}")
            for part in split.parts[:PARTS]
        ],
    )
    through = [(each.layer, head, weight) for each in split.layers for head, weight in enumerate(each.heads) if weight]
    through.sort(key=lambda each: -abs(each[2]))
    yield table(
        ["passes head", "part>"], [(f"L{layer}H{head}", f"{weight:+.4g}") for layer, head, weight in through[:PARTS]]
    )


def mean_edges(result: MeanEdgesResult) -> Iterator[RenderableType]:
    found = result.mean_edges
    yield Text(
        f"L{found.layer}/F{found.feature}: {number(found.firings)} firings on {number(found.tokens)} tokens, activation"
        f" {number(found.mean_activation)}, edges {number(found.mean_value)}{', capped' if found.capped else ''}"
    )
    yield table(
        ["source", "mean edge>", "direct>", "of firings>"],
        [
            (f"L{each.layer}/F{each.feature}", f"{each.mean:+.4g}", f"{each.direct:+.4g}", f"{each.share:.1%}")
            for each in found.sources
        ],
    )
    yield table(
        ["token", "mean edge>"], [(repr(each.token), f"{each.mean:+.4g}") for each in found.token_sources[:PARTS]]
    )
    yield table(
        ["all of", "layer>", "mean edge>"], [(each.type, str(each.layer), f"{each.mean:+.4g}") for each in found.parts]
    )


def _both(said: PatchSummary, position: int) -> str:
    """The tokens at a position, once where they are the same."""
    clean_token, corrupt_token = said.clean_tokens[position], said.corrupt_tokens[position]
    other = "" if clean_token == corrupt_token else f" | {corrupt_token!r}"
    return f"{position} {clean_token!r}{other}"


def _agreement(found: Agreement) -> str:
    return (
        f"{found.targets} targets, Pearson {number(found.pearson)}, Spearman {number(found.spearman)},"
        f" same sign {number(found.same_sign)}"
    )


def _node(each: Movement) -> str:
    if each.feature is None:
        return f"{each.type} {each.token_id if each.token_id is not None else each.node}"
    return f"L{each.layer}/F{each.feature}@{each.position}"
