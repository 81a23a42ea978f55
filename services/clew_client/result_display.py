"""What came of a job, on a terminal."""

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import RenderableType
from rich.text import Text

from clew_client.circuit_display import connections, edge, faithfulness, mean_edges, patching, paths, qk, steering
from clew_client.display import clean, number, table
from clew_spec.evaluation import CoderMetrics, SpliceMetrics
from clew_spec.formats import Calibration
from clew_spec.graph import GraphSummary, LogitTarget
from clew_spec.results import (
    CodersResult,
    ConnectionsResult,
    DatasetResult,
    EdgeResult,
    EvaluationResult,
    ExportResult,
    FaithfulnessResult,
    GraphResult,
    MeanEdgesResult,
    ModelResult,
    PatchResult,
    PathsResult,
    QKResult,
    Result,
    SteerResult,
)

_RESULT: TypeAdapter[Result] = TypeAdapter(Result)

Facts = list[tuple[str, str]]


def result_parts(result: dict[str, Any] | None) -> Iterator[RenderableType]:
    """A heading and the result below it; nothing for a job without one."""
    if result is None:
        return
    yield Text("\nResult", style="bold")
    try:
        known = _RESULT.validate_python(result, strict=False)
    except ValidationError:
        # A newer lab may know results that this client does not.
        yield Text(clean(yaml.safe_dump(result, sort_keys=False, allow_unicode=True).rstrip()))
        return
    match known:
        case CodersResult():
            rows = [
                (".".join(filter(None, (str(c.layer), c.variant))), number(c.fvu_first), number(c.fvu_last))
                for c in known.coders
            ]
            if known.steps is None:
                yield Text(f"{len(rows)} coders")
                return
            yield Text(f"{len(rows)} coders, {number(known.steps)} steps, {number(known.tokens_seen)} tokens")
            yield table(["layer>", "FVU first>", "FVU last>"], rows)
        case EvaluationResult():
            yield from _evaluation(known)
        case ExportResult():
            yield Text(f"{len(known.files)} files for {known.format}")
            if known.calibration:
                yield table(_CALIBRATION, [_calibration(each) for each in known.calibration])
        case GraphResult():
            yield graph_table(known.summary)
        case FaithfulnessResult():
            yield from faithfulness(known)
        case SteerResult():
            yield from steering(known)
        case PatchResult():
            yield from patching(known)
        case EdgeResult():
            yield from edge(known)
        case QKResult():
            yield from qk(known)
        case MeanEdgesResult():
            yield from mean_edges(known)
        case ConnectionsResult():
            yield from connections(known.connections)
        case PathsResult():
            yield from paths(known.paths)
            if known.n_paths > len(known.paths.paths):
                yield Text(f"and {number(known.n_paths - len(known.paths.paths))} more in {known.files[0]}")
        case ModelResult():
            yield table(["", ""], _model(known))
        case DatasetResult():
            yield table(["", ""], _dataset(known))


_METRICS = ["layer>", "FVU>", "L0>", "CE>", "recovered (zero)>", "KL>", "agreement>", "dead>", "dense>"]


def _evaluation(result: EvaluationResult) -> Iterator[RenderableType]:
    """A row per coder, alone in the model, and a line for all of them at once."""
    if result.coders:
        first = result.coders[0]
        yield Text(f"{number(first.tokens)} held-out tokens, CE {number(first.ce_original)} nats without coders")
    yield table(_METRICS, [_metrics(metrics) for metrics in result.coders])
    if (at_once := result.all_replaced) is not None:
        yield Text(
            f"All {len(at_once.layers)} layers replaced: CE {_with_interval(at_once, 'ce_spliced')}"
            f" (zeros {number(at_once.ce_zero)}, means {number(at_once.ce_mean)}),"
            f" recovered {number(at_once.loss_recovered_zero)} of zeros' loss, KL {_with_interval(at_once, 'kl')},"
            f" agreement {_with_interval(at_once, 'agreement')}"
        )


def _metrics(m: CoderMetrics) -> list[str]:
    values = (m.fvu, m.l0, m.ce_spliced, m.loss_recovered_zero, m.kl, m.agreement, m.dead, m.dense)
    return [str(m.layer), *map(number, values)]


def _with_interval(metrics: SpliceMetrics, name: str) -> str:
    """A metric and half the width of its 95 % interval."""
    value = number(getattr(metrics, name))
    interval = metrics.intervals.get(name)
    return value if interval is None else f"{value} ± {(interval.high - interval.low) / 2:.2g}"


_CALIBRATION = ["layer>", "tokens>", "L0 before>", "L0 after>", "FVU before>", "FVU after>"]


def _calibration(c: Calibration) -> list[str]:
    return [str(c.layer), *map(number, (c.tokens, c.l0_before, c.l0_after, c.fvu_before, c.fvu_after))]


def _target(target: LogitTarget) -> str:
    less = "" if target.minus is None else f" less {target.minus!r}"
    return f"{target.token!r}{less}, probability {target.probability:.3f}"


def graph_table(summary: GraphSummary) -> RenderableType:
    targets = [("target", _target(target)) for target in summary.targets]
    facts: Facts = [
        ("prompt", summary.prompt),
        *targets,
        ("nodes, edges", f"{number(summary.n_nodes)}, {number(summary.n_edges)}"),
        ("features", f"{summary.selection.selected} of {summary.selection.active} active ones"),
        ("error share", number(summary.scores.error_share)),
        ("replacement", number(summary.scores.replacement)),
        ("completeness", number(summary.scores.completeness)),
        ("conservation", _conservation(summary)),
    ]
    return table(["", ""], facts)


def _conservation(summary: GraphSummary) -> str:
    found = summary.conservation
    return f"{found.max_relative_to_edges:.1e} of sum |edges|" if found.nodes else "not known: the graph was imported"


def _model(result: ModelResult) -> Facts:
    config, proof = result.config, result.proof
    return [
        ("architecture", f"{config.architecture}, {config.n_layers} layers, d_model {config.d_model}"),
        ("parameters", number(config.n_parameters)),
        ("anatomy", f"within {proof.max_abs_logit_difference:.1e} of logits up to {number(proof.logit_scale)}"),
        ("digest", result.digest),
    ]


def _dataset(result: DatasetResult) -> Facts:
    return [
        ("tokens", f"{number(result.train_tokens)} to train on, {number(result.heldout_tokens)} held out"),
        ("rows", f"{result.context} tokens, bos {result.bos}"),
        ("documents", number(result.n_documents)),
        ("digest", result.digest),
    ]
