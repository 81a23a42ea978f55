"""What came of an analysis of circuits, on a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from clew_client.display import clean, number, table
from clew_spec.results import FaithfulnessResult, SteerResult
from clew_spec.steering import Agreement, Movement


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


def _agreement(found: Agreement) -> str:
    return (
        f"{found.targets} targets, Pearson {number(found.pearson)}, Spearman {number(found.spearman)},"
        f" same sign {number(found.same_sign)}"
    )


def _node(each: Movement) -> str:
    if each.feature is None:
        return f"{each.type} {each.token_id if each.token_id is not None else each.node}"
    return f"L{each.layer}/F{each.feature}@{each.position}"
