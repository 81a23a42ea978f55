"""Attribution graphs against circuit-tracer: SmolLM2-135M in float32, 30 timing coders of 4,608 features.

Both sides are processes with two threads, model and coders in memory, given the same token ids; a step is one whole
graph, from token ids to the finished graph in memory. Nothing is drawn, scored or stored in it. The peer is run at each
of three batch sizes, in turns with ours, and the best of them is held against ours.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.bench import WARM_UP, Bench
from benchmarks.child import Child
from benchmarks.labs import GRAPH, known_graph, lab_of
from benchmarks.our_circuits import load_coders
from benchmarks.prompts import CircuitSubject, prepare_circuits
from benchmarks.rows import Row
from clew.circuits import Graph, NodeKind, attribute, explained_share, node_influence
from clew.models import load_model
from clew.reporting import Silent
from clew_spec.errors import Unavailable
from clew_spec.graph import Position0

CIRCUIT_TRACER = "circuit-tracer 0.5.0"
MAX_NODES = 2000
ALL_NODES = 100_000
BATCH_SIZES = (64, 128, 256)
REPETITIONS = 3
REQUESTS = 200
LENGTHS = (8, 16, 32, 64, 128, 256)
SMALL_EDGE = 1e-4
"""Edges below this share of their row's sum of |edges| are not compared one by one."""


@dataclass(frozen=True)
class Side:
    """What the steps of one process told."""

    seconds: list[float]
    added_bytes: int
    """The most that steps added to what model and coders take."""
    told: dict[str, Any]


@dataclass(frozen=True)
class Turns:
    ours: list[float]
    """Of all turns."""
    our_bytes: int
    peer: Side
    """At its best batch size."""
    batch_size: int


def capped(bench: Bench) -> Row:
    """2,000 nodes, chosen by each side's own rule."""
    turns = _turns(bench)
    return Row.of(
        "circuits/2000-nodes",
        turns.ours,
        turns.peer.seconds,
        peer_name=CIRCUIT_TRACER,
        op="<=",
        target=1 / 12,
        unit="s",
        note=f"peer: batch size {turns.batch_size}, the best of {', '.join(map(str, BATCH_SIZES))}",
    )


def uncapped(bench: Bench) -> Row:
    """All active features, against the peer's 2,000."""
    turns = _turns(bench)
    bench.watch.expect(1 + bench.repetitions(REPETITIONS))
    with _ours(bench) as child:
        ours = _steps(bench, child, _setup(prepare_circuits(bench.cache), max_nodes=ALL_NODES))
    return Row.of(
        "circuits/uncapped",
        ours.seconds,
        turns.peer.seconds,
        peer_name=f"{CIRCUIT_TRACER}, {MAX_NODES:,} nodes",
        op="<=",
        target=1 / 4,
        unit="s",
        note=f"all {ours.told['n_selected']:,} active features, {ours.told['n_edges']:,} edges",
    )


def memory(bench: Bench) -> Row:
    """The most that a graph of 2,000 nodes adds to model and coders."""
    turns = _turns(bench)
    return Row.of(
        "circuits/memory",
        turns.our_bytes / 2**20,
        turns.peer.added_bytes / 2**20,
        peer_name=f"{CIRCUIT_TRACER}, batch size {turns.batch_size}",
        op="<=",
        target=1 / 4,
        unit="MiB",
        note="VmHWM after the steps minus VmRSS with model and coders in memory",
    )


def edges(bench: Bench) -> Row:
    """The peer's rows, edge by edge, against ours, with position 0 left out as the peer does."""
    ours, theirs = _graph(bench, ALL_NODES, position_0="left-out"), _peer_graph(bench)
    compared = compare_edges(ours, theirs)
    return Row.of(
        "circuits/edges",
        compared.largest,
        op="<=",
        target=1e-3,
        unit=f"relative difference, {CIRCUIT_TRACER}",
        compare="ours",
        note=f"{compared.edges:,} edges above {SMALL_EDGE:g} of their row, median difference {compared.median:.2g}; "
        f"{compared.missing} of the peer's nodes are not active here",
    )


def kept_influence(bench: Bench) -> Row:
    """Influence on the logits that flows through each side's 2,000, on our uncapped graph."""
    whole, ours, theirs = _graph(bench, ALL_NODES), _graph(bench, MAX_NODES), _peer_graph(bench)
    features, flow = whole.nodes.where(NodeKind.FEATURE), node_influence(whole)

    def share(selected: Tensor) -> float:
        return explained_share(flow, features, selected)

    with_row = torch.zeros(len(whole.nodes), dtype=torch.bool)
    with_row[ours.edges.targets] = True  # the same prompt has the same nodes, whatever is selected
    peers = torch.zeros(len(whole.nodes), dtype=torch.bool)
    found = _places(whole)
    peers[[found[place] for place in theirs.selected if place in found]] = True
    return Row.of(
        "circuits/kept-influence",
        share(with_row & features),
        share(peers),
        peer_name=CIRCUIT_TRACER,
        op=">=",
        target=-0.01,
        compare="difference",
        unit="share",
    )


def conservation(bench: Bench) -> Row:
    """|x . w_enc - sum edges| / sum |edges|, the largest over all nodes."""
    found = _graph(bench, ALL_NODES).conservation
    return Row.of(
        "circuits/conservation",
        found.max_relative_to_edges,
        op="<=",
        target=5e-6,
        compare="ours",
        unit="of sum |edges|",
        note=f"{found.nodes:,} nodes, {found.dtype}; p99 relative to the value {found.p99_relative_to_value:.2g}",
    )


def growth(bench: Bench) -> Row:
    """Time and memory by length of the prompt, each in a fresh process."""
    circuit = prepare_circuits(bench.cache)
    lengths = LENGTHS[:2] if bench.tiny else LENGTHS
    bench.watch.expect(len(lengths))
    seconds, sizes = [], []
    for length in lengths:
        with _ours(bench) as child:
            child.ask("setup", **_setup(circuit, max_nodes=MAX_NODES) | {"tokens": circuit.text(length)})
            (step,) = bench.steps_of(child, 1)
        seconds.append(step["seconds"])
        sizes.append(_bytes(step["peak_bytes"]) / 2**30)
    told = ", ".join(f"{n} tokens {s:.1f} s {g:.1f} GiB" for n, s, g in zip(lengths, seconds, sizes, strict=True))
    return Row.of(
        "circuits/growth",
        sizes[-1],
        op="<=",
        target=20,
        compare="ours",
        unit=f"GiB at {lengths[-1]} tokens",
        note=f"{told}; seconds grow as tokens to the power of {_exponent(lengths, seconds):.2f}",
    )


def cached(bench: Bench) -> Row:
    """From a request for a graph that the project has made to the answer, over REST, by the Python client."""
    subject = prepare_circuits(bench.cache).subject
    requests = bench.repetitions(REQUESTS)
    bench.watch.expect(requests)
    with lab_of(bench.cache / "lab", subject.model.parent) as lab:
        known, seconds = known_graph(lab, subject), list[float]()
        for _ in range(WARM_UP + requests):
            began = time.perf_counter()
            found = lab.submit(GRAPH)
            seconds.append(time.perf_counter() - began)
            assert found.id == known.id
            bench.watch.stepped()
    milliseconds = sorted(1000 * each for each in seconds[WARM_UP:])
    return Row.of(
        "circuits/cached",
        milliseconds,
        op="<=",
        target=100,
        compare="ours",
        unit="ms",
        note=f"p95 {milliseconds[int(0.95 * len(milliseconds))]:.1f} ms",
    )


MEASURES: Mapping[str, Callable[[Bench], Row]] = {
    "2000-nodes": capped,
    "uncapped": uncapped,
    "edges": edges,
    "kept-influence": kept_influence,
    "memory": memory,
    "growth": growth,
    "conservation": conservation,
    "cached": cached,
}


@cache
def _turns(bench: Bench) -> Turns:
    circuit = prepare_circuits(bench.cache)
    batch_sizes = BATCH_SIZES[:1] if bench.tiny else BATCH_SIZES
    repetitions = 1 + bench.repetitions(REPETITIONS)
    bench.watch.expect(2 * repetitions * len(batch_sizes))
    ours: list[float] = []
    our_bytes = 0
    peers: dict[int, Side] = {}
    for batch_size in batch_sizes:
        out = _peer_file(bench, batch_size)
        with _ours(bench) as our_child, bench.peer("circuit_tracer") as peer_child:
            loaded = our_child.ask("setup", **_setup(circuit, max_nodes=MAX_NODES))["rss_bytes"]
            peer_loaded = peer_child.ask(
                "setup",
                model=str(circuit.peer_model),
                coders=str(circuit.peer_coders),
                tokens=circuit.prompt(),
                max_nodes=MAX_NODES,
                batch_size=batch_size,
                out=str(out),
            )["rss_bytes"]
            turns = [(*bench.steps_of(our_child, 1), *bench.steps_of(peer_child, 1)) for _ in range(repetitions)]
            ours += [mine["seconds"] for mine, _ in turns[1:]]
            our_bytes = max(our_bytes, _bytes(turns[-1][0]["peak_bytes"]) - _bytes(loaded))
            peers[batch_size] = Side(
                [its["seconds"] for _, its in turns[1:]],
                _bytes(turns[-1][1]["peak_bytes"]) - _bytes(peer_loaded),
                peer_child.ask("finish"),
            )
    best = min(peers, key=lambda batch_size: median(peers[batch_size].seconds))
    return Turns(ours, our_bytes, peers[best], best)


@cache
def _graph(bench: Bench, max_nodes: int, position_0: Position0 = "error") -> Graph:
    """Ours, made here."""
    circuit = prepare_circuits(bench.cache)
    return attribute(
        load_model(circuit.subject.model, tokenizer=False),
        load_coders(circuit.coders),
        torch.tensor(circuit.prompt()),
        max_logits=10,
        desired_logit_prob=0.95,
        max_nodes=max_nodes,
        targets_per_sweep=512,
        dtype=torch.float32,
        report=Silent(),
        position_0=position_0,
    )


Place = tuple[int, int, int]
"""Layer, position, feature."""


@dataclass(frozen=True)
class PeerGraph:
    """circuit-tracer's nodes in its order: features, errors layer by layer, tokens, logits."""

    adjacency: Tensor
    """[nodes, nodes], rows are targets."""
    selected: list[Place]
    tokens: list[int]
    logit_tokens: list[int]
    n_layers: int


def _peer_graph(bench: Bench) -> PeerGraph:
    turns = _turns(bench)
    found = load_file(turns.peer.told["graph"])
    tokens = found["tokens"].tolist()
    if tokens != prepare_circuits(bench.cache).prompt():
        raise Unavailable("the peer attributed other tokens than it was given")
    selected = [(layer, position, feature) for layer, position, feature in found["active"][found["selected"]].tolist()]
    n_errors = len(found["adjacency"]) - len(selected) - len(tokens) - len(found["logit_tokens"])
    return PeerGraph(
        found["adjacency"], selected, tokens, found["logit_tokens"].tolist(), n_layers=n_errors // len(tokens)
    )


@dataclass(frozen=True)
class Compared:
    largest: float
    median: float
    edges: int
    missing: int


def compare_edges(ours: Graph, theirs: PeerGraph) -> Compared:
    """Relative differences of the edges between the peer's nodes, of those that carry a part of their row."""
    places, nodes, n = _places(ours), ours.nodes, len(ours.nodes)
    features = torch.tensor([places.get(place, n) for place in theirs.selected])
    T = len(theirs.tokens)
    errors = torch.full((theirs.n_layers, T), n)
    error = nodes.where(NodeKind.ERROR).nonzero()[:, 0]
    errors[nodes.layer[error].long(), nodes.position[error].long()] = error
    tokens = torch.full((T,), n)
    token = nodes.where(NodeKind.TOKEN).nonzero()[:, 0]
    tokens[nodes.position[token].long()] = token
    by_token = {target.token_id: k for k, target in enumerate(ours.targets)}
    logit = nodes.where(NodeKind.LOGIT).nonzero()[:, 0].tolist()
    logits = torch.tensor([logit[by_token[token]] if token in by_token else n for token in theirs.logit_tokens])
    columns = torch.cat([features, errors.flatten(), tokens])
    differences = []
    for row in [*range(len(features)), *range(len(theirs.adjacency) - len(logits), len(theirs.adjacency))]:
        target = int(features[row] if row < len(features) else logits[row - len(theirs.adjacency)])
        if target == n:
            continue
        sources, weights = ours.edges.row(target)
        dense = weights.new_zeros(n + 1)
        dense[sources.long()] = weights
        mine, its = dense[columns], theirs.adjacency[row, : len(columns)]
        counted = (its.abs() > SMALL_EDGE * its.abs().sum()) & (columns < n)
        differences.append(((mine - its).abs() / its.abs())[counted])
    relative = torch.cat(differences)
    missing = int((features == n).sum() + (logits == n).sum())
    return Compared(float(relative.max()), float(relative.median()), len(relative), missing)


def _places(graph: Graph) -> dict[Place, int]:
    nodes = graph.nodes
    which = nodes.where(NodeKind.FEATURE).nonzero()[:, 0]
    columns = (nodes.layer[which], nodes.position[which], nodes.feature[which])
    return dict(zip(zip(*(column.tolist() for column in columns), strict=True), which.tolist(), strict=True))


def _ours(bench: Bench) -> Child:
    return bench.ours("benchmarks.our_circuits", "our-circuits")


def _setup(circuit: CircuitSubject, *, max_nodes: int) -> dict[str, Any]:
    return {
        "model": str(circuit.subject.model),
        "coders": str(circuit.coders),
        "tokens": circuit.prompt(),
        "max_nodes": max_nodes,
    }


def _steps(bench: Bench, child: Child, setup: Mapping[str, Any]) -> Side:
    """A step that is not counted, and those that are."""
    loaded = child.ask("setup", **setup)["rss_bytes"]
    steps = bench.steps_of(child, 1 + bench.repetitions(REPETITIONS))
    added = _bytes(steps[-1]["peak_bytes"]) - _bytes(loaded)
    return Side([step["seconds"] for step in steps[1:]], added, child.ask("finish"))


def _peer_file(bench: Bench, batch_size: int) -> Path:
    folder = bench.cache / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"circuit-tracer-{batch_size}.safetensors"


def _bytes(size: int | None) -> int:
    if size is None:
        raise Unavailable("memory is read from /proc, which this system does not have", hint="run it on Linux")
    return size


def _exponent(lengths: tuple[int, ...], seconds: list[float]) -> float:
    """The slope of log seconds over log tokens, by least squares."""
    x, y = [math.log(n) for n in lengths], [math.log(s) for s in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)
