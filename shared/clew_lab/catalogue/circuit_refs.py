"""What the analyses of circuits refer to: coders and a prompt, or a stored graph with those it was made from."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session
from tokenizers import Tokenizer

from clew_lab.catalogue.finding import Resolved, coders_and_model, find, used
from clew_lab.catalogue.queries import file_of
from clew_lab.catalogue.scope import Actor, readable
from clew_lab.catalogue.tables import Coder, Dataset, Graph, Model
from clew_spec.connections import ConnectionsSpec, named_heads
from clew_spec.edges import EdgeSpec, require_node
from clew_spec.errors import InvalidSpec
from clew_spec.faithfulness import FaithfulnessSpec
from clew_spec.graph import GraphSummary
from clew_spec.mean_edges import MeanEdgesSpec
from clew_spec.patching import PatchSpec, answer_ids, require_layers, require_same_length
from clew_spec.paths import PathsSpec, check_root
from clew_spec.qk import QKSpec, require_positions
from clew_spec.steering import SteerSpec

CheckCoders = Callable[[Sequence[Coder]], None]
FindHeldout = Callable[[Session, Actor, Sequence[Coder], Model, str | None], Dataset]


def steer(session: Session, actor: Actor, spec: SteerSpec, check_coders: CheckCoders) -> Resolved:
    if spec.graph is not None:
        graph, coders, model = graph_and_makers(session, actor, spec.graph)
        first = 0 if graph.summary.get("position_0") == "features" else 1
        check_positions(spec, len(graph.summary["token_ids"]), model.config["max_context"], first)
    else:
        assert spec.coders is not None
        coders, model = coders_and_model(session, actor, spec.coders)
        graph = None
        check_coders(coders)
    _check_features(spec, coders)
    return Resolved(
        name=coders[0].name if graph is None else graph.name,
        inputs=_inputs(model, coders) | ({"graph": str(graph.id)} if graph else {}),
        tokenizer=file_of(session, model, "tokenizer.json") if graph is None else None,
        max_context=model.config["max_context"],
        bos=coders[0].config["bos"],
    )


def faithfulness(session: Session, actor: Actor, spec: FaithfulnessSpec) -> Resolved:
    graph, coders, model = graph_and_makers(session, actor, spec.graph)
    return Resolved(
        name=graph.name,
        inputs=_inputs(model, coders) | {"graph": str(graph.id)},
        tokenizer=file_of(session, model, "tokenizer.json") if spec.paraphrases else None,
        max_context=model.config["max_context"],
        bos=graph.summary["bos"],
    )


def edge(session: Session, actor: Actor, spec: EdgeSpec) -> Resolved:
    graph, coders, model = graph_and_makers(session, actor, spec.graph)
    summary = GraphSummary.model_validate(graph.summary)
    require_node(spec.source, summary, "/spec/source")
    require_node(spec.target, summary, "/spec/target")
    return Resolved(name=graph.name, inputs=_inputs(model, coders) | {"graph": str(graph.id)})


def qk(session: Session, actor: Actor, spec: QKSpec) -> Resolved:
    graph, coders, model = graph_and_makers(session, actor, spec.graph)
    require_positions(spec, GraphSummary.model_validate(graph.summary), model.config["n_heads"])
    return Resolved(name=graph.name, inputs=_inputs(model, coders) | {"graph": str(graph.id)})


def mean_edges(
    session: Session, actor: Actor, spec: MeanEdgesSpec, check_coders: CheckCoders, heldout: FindHeldout
) -> Resolved:
    coders, model = coders_and_model(session, actor, spec.coders)
    check_coders(coders)
    _check_feature(spec.layer, spec.feature, coders, "/spec")
    dataset = heldout(session, actor, coders, model, spec.dataset)
    return Resolved(name=coders[0].name, inputs=_inputs(model, coders) | {"dataset": str(dataset.id)})


def patch(session: Session, actor: Actor, spec: PatchSpec) -> Resolved:
    model = find(session, actor, Model, spec.model, "/spec/model")
    require_layers(spec.layers, model.config["n_layers"])
    return Resolved(
        name=model.name,
        inputs={"model": str(model.id)},
        tokenizer=file_of(session, model, "tokenizer.json"),
        max_context=model.config["max_context"],
        bos=spec.bos,
    )


def check_patch(spec: PatchSpec, tokenizer: Tokenizer, length: Callable[[str, str], int]) -> int:
    """The length of both prompts. Raises InvalidSpec where they differ in it, or where an answer is not one token."""
    clean = length(spec.clean, "/spec/clean")
    require_same_length(clean, length(spec.corrupt, "/spec/corrupt"))
    answer_ids(spec, *coding(tokenizer))
    return clean


def coding(tokenizer: Tokenizer) -> tuple[Callable[[str], list[int]], Callable[[list[int]], str]]:
    """From a text to token ids, and back."""
    return (
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
    )


def connections(session: Session, actor: Actor, spec: ConnectionsSpec, check_coders: CheckCoders) -> Resolved:
    coders, model = coders_and_model(session, actor, spec.coders)
    check_coders(coders)
    _check_feature(spec.layer, spec.feature, coders, "/spec")
    named_heads(spec.heads, model.config["n_layers"], model.config["n_heads"])
    return Resolved(name=coders[0].name, inputs=_inputs(model, coders))


def paths(session: Session, actor: Actor, spec: PathsSpec) -> Resolved:
    """The graph alone: whether it was attributed here, and who may see its coders, does not matter."""
    graph = find(session, actor, Graph, spec.graph, "/spec/graph")
    check_root(spec.root, GraphSummary.model_validate(graph.summary))
    return Resolved(name=graph.name, inputs={"graph": str(graph.id)})


def graph_and_makers(session: Session, actor: Actor, ref: str) -> tuple[Graph, list[Coder], Model]:
    """A graph, the coders of its nodes by layer, and its model. Raises InvalidSpec where one is not to be seen."""
    graph = find(session, actor, Graph, ref, "/spec/graph")
    parents = [UUID(id) for id in graph.lineage["parents"]]
    coders = list(session.scalars(readable(actor, Coder).where(Coder.id.in_(parents)).order_by(Coder.layer)))
    if [coder.layer for coder in coders] != graph.summary["coder_layers"]:
        raise InvalidSpec(
            f"the coders of graph {graph.name} are not all visible to you",
            where="/spec/graph",
            expected="a graph that was attributed here, with coders that you may see",
        )
    return graph, coders, used(session, actor, Model, graph.model_id, "ask its owners to show it to the lab")


def check_positions(spec: SteerSpec, n_tokens: int, max_context: int, first: int = 1) -> None:
    """Raises InvalidSpec for an edit that reaches nothing of the prompt, nor of what is generated after it; or that
    begins before `first`, the first position that has features; and for more generated tokens than the model can read.
    """
    if spec.tokens > (room := max_context - n_tokens + 1):  # the last one is not read
        raise InvalidSpec(
            f"the model reads {max_context} tokens, of which the prompt has {n_tokens}",
            where="/spec/tokens",
            expected=f"at most {room}",
        )
    for index, edit in enumerate(spec.edits):
        if edit.start < first:
            raise InvalidSpec(
                "position 0 has no features",
                where=f"/spec/edits/{index}/start",
                expected=f"positions 1 to {n_tokens - 1}",
                hint="a graph that was attributed with position_0 = features has them there",
            )
        last = n_tokens - 1 + (spec.tokens if edit.stop is None else 0)
        if edit.start > last or (edit.stop or 0) > n_tokens:
            raise InvalidSpec(
                f"positions {edit.start} to {'the end' if edit.stop is None else edit.stop - 1} are not all there: "
                f"the prompt has {n_tokens} tokens",
                where=f"/spec/edits/{index}/{'start' if edit.start > last else 'stop'}",
                expected=f"positions {first} to {n_tokens - 1}",
            )


def _check_features(spec: SteerSpec, coders: list[Coder]) -> None:
    for index, edit in enumerate(spec.edits):
        _check_feature(edit.layer, edit.feature, coders, f"/spec/edits/{index}")


def _check_feature(layer: int, feature: int, coders: Sequence[Coder], where: str) -> None:
    """Raises InvalidSpec for a feature that does not exist."""
    by_layer = {coder.layer: coder for coder in coders}
    coder = by_layer.get(layer)
    if coder is None:
        raise InvalidSpec(
            f"layer {layer} has no coder among those of {coders[0].name}",
            where=f"{where}/layer",
            expected=f"one of the layers {', '.join(map(str, sorted(by_layer)))}",
        )
    if feature >= coder.config["n_features"]:
        raise InvalidSpec(
            f"the coder of layer {layer} has no feature {feature}",
            where=f"{where}/feature",
            expected=f"0 to {coder.config['n_features'] - 1}",
        )


def _inputs(model: Model, coders: list[Coder]) -> dict[str, Any]:
    return {"model": str(model.id), "coders": [str(coder.id) for coder in coders]}
