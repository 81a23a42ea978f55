"""What came of an analysis of circuits, on a terminal."""

from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest

from rich.console import RenderableType
from rich.text import Text

from clew_client.display import clean, number, table
from clew_client.documents import Document
from clew_spec.connections import ConnectionsDocument, ConnectionsSummary, FeatureWeight, Tokens, head_name
from clew_spec.exchange.difference import GraphDifference
from clew_spec.exchange.supernodes import Supernode
from clew_spec.graph import GraphDocument, Node, Path
from clew_spec.patching import PatchSummary
from clew_spec.paths import PathsDocument, PathsSummary
from clew_spec.results import EdgeResult, FaithfulnessResult, MeanEdgesResult, PatchResult, QKResult, SteerResult
from clew_spec.steering import Agreement, Movement

PARTS = 20
"""Rows of a table that could be endless."""
SHOWN_HEADS = 10
"""Of each side."""


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
            (
                head_name(part.layer, part.head),
                f"{part.position} {result.tokens[part.position]!r}",
                f"{part.weight:+.4g}",
            )
            for part in split.parts[:PARTS]
        ],
    )
    through = [(each.layer, head, weight) for each in split.layers for head, weight in enumerate(each.heads) if weight]
    through.sort(key=lambda each: -abs(each[2]))
    yield table(
        ["passes head", "part>"],
        [(head_name(layer, head), f"{weight:+.4g}") for layer, head, weight in through[:PARTS]],
    )


def qk(result: QKResult) -> Iterator[RenderableType]:
    """The score, then by types, then the strongest pairs and marginals; below 0 is what holds it back."""
    found, tokens = result.qk, result.tokens
    less = "" if found.against is None else f" less {found.against} {tokens[found.against]!r}"
    facts = [
        ("head", head_name(found.layer, found.head)),
        ("query", f"{found.query} {tokens[found.query]!r}"),
        ("key", f"{found.key} {tokens[found.key]!r}{less}"),
        ("score", f"{found.score:+.4g}" + ("" if found.cap_at is None else f", before the cap at {found.cap_at:g}")),
        ("attention", f"{found.attention:.1%}"),
        ("other pairs", f"{found.rest:+.3g}"),
    ]
    yield table(["", ""], facts)
    yield table(
        ["all queries of", "all keys of", "part>"],
        [(part.query, part.key, f"{part.weight:+.4g}") for part in found.parts[:PARTS]],
    )
    yield table(
        ["query", "key", "part>"],
        [(_source(pair.query), _source(pair.key), f"{pair.weight:+.4g}") for pair in found.pairs[:PARTS]],
    )
    for what, nodes in (("query", found.queries), ("key", found.keys)):
        rows = [(_source(each.node), f"{each.weight:+.4g}") for each in nodes[:PARTS]]
        yield table([f"{what}, with all of the other side", "part>"], rows)


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


def document_parts(found: Document) -> Iterator[RenderableType]:
    """All of an analysis that is longer than its result."""
    match found:
        case ConnectionsDocument():
            yield from connections(found)
            for head in found.through:
                title = f"Through {head_name(head.layer, head.head)}, {head.side}"
                yield Text(f"\n{title}, norm {number(head.norm)}", style="bold")
                yield _by_layer("reads" if head.side == "upstream" else "is read by", head.features)
                yield _tokens({"reads": head.tokens} if head.side == "upstream" else {"promotes": head.tokens})
        case PathsDocument():
            yield from paths(found)
            names = {node.id: node_text(node) for node in [*found.nodes, found.root]}
            yield table(
                ["node", "value>", "on paths>", "pruned>", "error>", "bias>", "rest>"],
                [
                    (
                        names[each.node],
                        *(
                            f"{value:+.4g}"
                            for value in (each.value, each.kept, each.pruned, each.error, each.bias, each.rest)
                        ),
                    )
                    for each in reversed(found.balances)
                ],
            )


def connections(found: ConnectionsSummary) -> Iterator[RenderableType]:
    yield Text(f"L{found.layer}/F{found.feature}, by its weights alone")
    yield _by_layer("reads", found.upstream)
    yield _by_layer("is read by", found.downstream)
    yield _tokens({"reads": found.reads, "promotes": found.promotes})
    rows = []
    for side in ("upstream", "downstream"):
        of_side = [head for head in found.heads if head.side == side][:SHOWN_HEADS]
        rows += [(head_name(h.layer, h.head), side, number(h.norm), f"{h.share:.1%}") for h in of_side]
    yield table(["head", "side", "norm>", "of its most>"], rows)


def paths(found: PathsSummary) -> Iterator[RenderableType]:
    names = {node.id: node_text(node) for node in [*found.nodes, found.root]}
    yield Text(
        clean(
            f"To {node_text(found.root)}: {found.coverage:.1%} of all that flows into it was found,"
            f" {found.matching:.1%} takes such paths"
        )
    )
    yield table(["score>", "path"], [(f"{path.score:.3%}", _path(path, names)) for path in found.paths])


def supernode_table(document: GraphDocument, groups: Iterable[Supernode]) -> RenderableType:
    names = {node.id: node_text(node) for node in document.nodes}
    return table(
        ["influence>", "features"],
        [(f"{group.influence:.3f}", ", ".join(names[node] for node in group.nodes)) for group in groups],
    )


def difference_parts(found: GraphDifference, top: int) -> Iterator[RenderableType]:
    """Nodes, then edges; a dash where one of the pictures has none."""
    yield table(
        ["node", "influence before>", "after>"],
        [(each.name, number(each.before), number(each.after)) for each in found.nodes[:top]],
    )
    yield table(
        ["edge", "before>", "after>"],
        [(f"{each.source} → {each.target}", number(each.before), number(each.after)) for each in found.edges[:top]],
    )
    left = len(found.nodes) + len(found.edges) - len(found.nodes[:top]) - len(found.edges[:top])
    if left:
        yield Text(f"and {number(left)} smaller changes")


def node_text(node: Node) -> str:
    match node.type:
        case "feature":
            return f"L{node.layer}/F{node.feature}@{node.position}"
        case "logit":
            return node.label
        case "token":
            return f"{node.label!r}@{node.position}"
        case _:
            return node.label if node.position < 0 or node.type == "position" else f"{node.label}@{node.position}"


def _source(node: Node | None) -> str:
    return "the head's own bias" if node is None else node_text(node)


def _path(path: Path, names: dict[int, str]) -> str:
    """`a → b ⊣ c`: what pushes on, and what holds back."""
    arrows = ["" if step.edge is None else " → " if step.edge > 0 else " ⊣ " for step in path.steps]
    return "".join(names[step.node] + arrow for step, arrow in zip(path.steps, arrows, strict=True))


def _by_layer(what: str, features: Iterable[FeatureWeight]) -> RenderableType:
    """A row a layer."""
    ordered = sorted(features, key=lambda each: (each.layer, -abs(each.weight)))
    rows = [
        (str(layer), ", ".join(f"F{each.feature} {each.weight:+.3g}" for each in of_layer))
        for layer, of_layer in groupby(ordered, key=lambda each: each.layer)
    ]
    return table(["layer>", what], rows)


def _tokens(ends: dict[str, Tokens]) -> RenderableType:
    """Both ends side by side, a pair of columns each."""
    columns = [side for tokens in ends.values() for side in (tokens.highest, tokens.lowest)]
    heads = [head for what in ends for head in (f"{what} most", ">", f"{what} least", ">")]
    rows = [
        [cell for each in row for cell in ((repr(each.token), f"{each.weight:+.3g}") if each else ("", ""))]
        for row in zip_longest(*columns)
    ]
    return table(heads, rows)


def _agreement(found: Agreement) -> str:
    return (
        f"{found.targets} targets, Pearson {number(found.pearson)}, Spearman {number(found.spearman)},"
        f" same sign {number(found.same_sign)}"
    )


def _node(each: Movement) -> str:
    if each.feature is None:
        return f"{each.type} {each.token_id if each.token_id is not None else each.node}"
    return f"L{each.layer}/F{each.feature}@{each.position}"
