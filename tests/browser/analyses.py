"""What each kind of job that finds something out has found, with numbers that a page can be held to."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from clew_spec.connections import ConnectionsSummary, FeatureWeight, HeadWeight, Tokens, TokenWeight
from clew_spec.edges import EdgeLayer, EdgePart, EdgeSplit
from clew_spec.faithfulness import (
    FRACTIONS,
    CurvePoint,
    Curves,
    EdgeChecks,
    Faithfulness,
    InfluenceCheck,
    Stability,
    Steering,
)
from clew_spec.formats import Calibration
from clew_spec.graph import GraphDocument, Node
from clew_spec.mean_edges import MeanEdges, MeanPart, MeanSource, MeanToken
from clew_spec.patching import PatchEffect, PatchSummary
from clew_spec.paths import PathsSummary
from clew_spec.qk import QKNode, QKPair, QKPart, QKScore
from clew_spec.results import (
    ConnectionsResult,
    EdgeResult,
    ExportResult,
    FaithfulnessResult,
    MeanEdgesResult,
    PatchResult,
    PathsResult,
    QKResult,
    Result,
    SteerResult,
)
from clew_spec.steering import Agreement, EditedActivation, NextToken, Prediction
from tests.browser.scene import LINEAGE, Scene, digest

N_HEADS = 9


class Analysis(NamedTuple):
    spec: Mapping[str, Any]
    result: Result
    files: tuple[str, ...] = ()


def analyse(scene: Scene, analysis: Analysis) -> str:
    """The id of a job that found this."""
    job = scene.start(analysis.spec)
    job.succeed(analysis.result, dict.fromkeys(analysis.files, b"{}"))
    return str(job.id)


def analyses(document: GraphDocument) -> dict[str, Analysis]:
    """By kind."""
    feature = next(node for node in document.nodes if node.type == "feature" and node.layer > 2)
    logit = next(node for node in document.nodes if node.type == "logit")
    return {
        "paths": _paths(document, logit),
        "edge": _edge(document, feature, logit),
        "qk": _qk(document, feature),
        "mean-edges": _mean_edges(),
        "connections": _connections(),
        "faithfulness": _faithfulness(document),
        "steer": _steer(document, feature),
        "patch": _patch(document),
        "export-coders": _export(),
    }


def _paths(document: GraphDocument, logit: Node) -> Analysis:
    on = {step.node for path in document.paths for step in path.steps}
    summary = PathsSummary(
        root=logit,
        paths=document.paths,
        nodes=[node for node in document.nodes if node.id in on],
        coverage=0.3125,
        matching=0.4375,
    )
    result = PathsResult(
        name=document.name,
        graph_digest=digest(document.name),
        n_paths=50,
        paths=summary,
        files=["paths.json"],
        lineage=LINEAGE,
    )
    return Analysis({"kind": "paths", "graph": document.name}, result, ("paths.json",))


def _edge(document: GraphDocument, feature: Node, logit: Node) -> Analysis:
    tokens = document.summary.tokens
    parts = [
        EdgePart(layer=9, head=2, position=feature.position, weight=1.25),
        EdgePart(layer=10, head=0, position=feature.position, weight=-0.5),
    ]
    positions = [0.0] * len(tokens)
    positions[feature.position] = 0.75
    heads = [0.0, 0.0, 1.25, *[0.0] * (N_HEADS - 3)]
    split = EdgeSplit(
        source=feature,
        target=logit,
        edge=1.0,
        stored=1.0,
        share=0.0625,
        capped=None,
        direct=0.25,
        parts=parts,
        rest=0.0,
        positions=positions,
        layers=[
            EdgeLayer(layer=9, around=-0.25, heads=heads),
            EdgeLayer(layer=10, around=1.5, heads=[-0.5, *[0.0] * (N_HEADS - 1)]),
        ],
    )
    result = EdgeResult(
        name=document.name, graph_digest=digest(document.name), tokens=tokens, split=split, lineage=LINEAGE
    )
    return Analysis({"kind": "edge", "graph": document.name, "source": str(feature.id), "target": "logit"}, result)


def _qk(document: GraphDocument, feature: Node) -> Analysis:
    tokens = document.summary.tokens
    key = next(node for node in document.nodes if node.type == "token" and node.position == 1)
    score = QKScore(
        layer=9,
        head=2,
        query=feature.position,
        key=1,
        against=0,
        score=0.5,
        cap_at=50.0,
        attention=0.75,
        attention_against=0.125,
        residual=1e-7,
        pairs=[QKPair(query=feature, key=key, weight=1.25), QKPair(query=None, key=key, weight=-0.5)],
        rest=-0.25,
        queries=[QKNode(node=feature, weight=1.0), QKNode(node=None, weight=-0.5)],
        keys=[QKNode(node=key, weight=0.5)],
        parts=[
            QKPart(query="feature", key="token", weight=1.0),
            QKPart(query="head", key="token", weight=-0.5),
        ],
    )
    result = QKResult(
        name=document.name,
        graph_digest=digest(document.name),
        tokens=tokens,
        qk=score,
        files=["qk.json"],
        lineage=LINEAGE,
    )
    spec = {"kind": "qk", "graph": document.name, "head": "L9H2", "query": feature.position, "key": 1, "against": 0}
    return Analysis(spec, result, ("qk.json",))


def _mean_edges() -> Analysis:
    found = MeanEdges(
        layer=8,
        feature=123,
        tokens=8160,
        firings=256,
        mean_activation=3.5,
        mean_value=3.75,
        capped=False,
        sources=[
            MeanSource(layer=4, feature=7, mean=1.5, direct=1.25, share=0.875),
            MeanSource(layer=2, feature=9, mean=-0.75, direct=-0.5, share=0.25),
        ],
        token_sources=[MeanToken(token=" John", token_id=103, mean=0.625)],
        parts=[MeanPart(type="feature", layer=4, mean=2.5), MeanPart(type="token", layer=-1, mean=1.25)],
    )
    spec = {"kind": "mean-edges", "coders": "first", "layer": 8, "feature": 123}
    return Analysis(spec, MeanEdgesResult(mean_edges=found, lineage=LINEAGE))


def _connections() -> Analysis:
    def tokens(*texts: str) -> Tokens:
        first, second = (
            TokenWeight(token_id=300 + number, token=text, weight=weight)
            for number, (text, weight) in enumerate(zip(texts, (0.5, -0.25), strict=True))
        )
        return Tokens(highest=[first], lowest=[second])

    found = ConnectionsSummary(
        layer=8,
        feature=123,
        upstream=[FeatureWeight(layer=7, feature=31, weight=0.875), FeatureWeight(layer=3, feature=5, weight=-0.125)],
        downstream=[FeatureWeight(layer=9, feature=77, weight=0.75)],
        heads=[HeadWeight(layer=5, head=3, side="upstream", norm=2.5, share=0.375)],
        reads=tokens(" thread", " wool"),
        promotes=tokens(" maze", " exit"),
    )
    result = ConnectionsResult(name="first", connections=found, files=["connections.json"], lineage=LINEAGE)
    spec = {"kind": "connections", "coders": "first", "layer": 8, "feature": 123}
    return Analysis(spec, result, ("connections.json",))


def _agreement(spearman: float) -> Agreement:
    return Agreement(targets=240, pearson=0.96875, spearman=spearman, same_sign=0.875)


def _faithfulness(document: GraphDocument) -> Analysis:
    last = len(FRACTIONS) - 1
    points = [
        CurvePoint(fraction=fraction, features=round(900 * fraction), keep=8 + 6 * i / last, ablate=14 - 5 * i / last)
        for i, fraction in enumerate(FRACTIONS)
    ]
    found = Faithfulness(
        conservation=document.summary.conservation,
        checks=EdgeChecks(edges=50, median=0.015625, largest=0.25),
        steering=Steering(
            features=30,
            logits=_agreement(0.75),
            nodes=_agreement(0.625),
            control_logits=_agreement(0.125),
            control_nodes=_agreement(0.0625),
        ),
        influence=InfluenceCheck(features=30, spearman=0.8125),
        curves=Curves(ablation="zero", whole=14.0, empty=8.0, points=points, cpr=0.4375, cmd=0.5625),
        stability=Stability(
            prompts=[document.summary.prompt, "After Mary met John, John gave it to", "Mary saw John; John spoke to"],
            next_tokens=[" Mary"] * 3,
            features=50,
            jaccard=[0.375, 0.3125],
            mean_jaccard=0.34375,
        ),
        seed=0,
    )
    result = FaithfulnessResult(
        name=document.name,
        graph_digest=digest(document.name),
        faithfulness=found,
        files=["faithfulness.json"],
        lineage=LINEAGE,
    )
    return Analysis({"kind": "faithfulness", "graph": document.name}, result, ("faithfulness.json",))


def _steer(document: GraphDocument, feature: Node) -> Analysis:
    edited = {"layer": feature.layer, "feature": feature.feature}
    result = SteerResult(
        prompt=document.summary.prompt,
        tokens=document.summary.tokens,
        bos="none",
        frozen=False,
        next_tokens=[
            NextToken(token=" Mary", token_id=200, before=0.9, after=0.125),
            NextToken(token=" the", token_id=201, before=0.05, after=0.5),
        ],
        kl=1.5,
        activations=[EditedActivation.model_validate(edited | {"position": feature.position, "before": 4, "after": 0})],
        text_before=" the store together",
        text_after=" a place far away",
        prediction=Prediction(agreement=_agreement(0.75), logits=_agreement(0.5), movements=[]),
        lineage=LINEAGE,
    )
    edit = edited | {"operation": "ablate"}
    return Analysis({"kind": "steer", "graph": document.name, "edits": [edit]}, result)


def _patch(document: GraphDocument) -> Analysis:
    tokens = document.summary.tokens
    summary = PatchSummary(
        clean=document.summary.prompt,
        corrupt=document.summary.prompt.replace("Mary", "Anna"),
        clean_tokens=tokens,
        corrupt_tokens=[token.replace("Mary", "Anna") for token in tokens],
        bos="none",
        answer=" Mary",
        answer_id=200,
        wrong=" Anna",
        wrong_id=202,
        metric="logit-difference",
        direction="denoising",
        clean_value=3.5,
        corrupt_value=-2.5,
        first_difference=1,
    )
    strongest = [
        PatchEffect(place="resid", layer=3, head=None, position=1, value=3.25, score=0.958),
        PatchEffect(place="head.out", layer=9, head=2, position=None, value=-1.0, score=0.25),
        PatchEffect(place="mlp.out", layer=10, head=None, position=5, value=-3.25, score=-0.125),
    ]
    files = ("patch.json", "patch.svg")
    result = PatchResult(summary=summary, strongest=strongest, files=[*files], lineage=LINEAGE)
    spec = {"kind": "patch", "model": "smollm2", "clean": summary.clean, "corrupt": summary.corrupt}
    return Analysis(spec, result, files)


def _export() -> Analysis:
    calibration = Calibration(
        layer=3, tokens=8192, tokens_measured=8160, l0_before=32, l0_after=30.5, fvu_before=0.3125, fvu_after=0.34375
    )
    files = ("export/config.json", "report.json")
    result = ExportResult(
        name="first", format="circuit-tracer", calibration=[calibration], files=[*files], lineage=LINEAGE
    )
    return Analysis({"kind": "export-coders", "coders": "first", "format": "circuit-tracer"}, result, files)
