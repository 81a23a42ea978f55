"""Attribute a prompt's logits to features through the frozen network."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from clew.circuits.frozen import FrozenNetwork
from clew.circuits.graph import Edges, Graph, NodeKind, Nodes
from clew.circuits.influence import explained_share, influence
from clew.circuits.replacement import Coder
from clew.circuits.sweep import Rows, merge, sweep, tiles
from clew.circuits.targets import Direction, Token
from clew.models import Model
from clew.reporting import Report, StopRequested
from clew_spec.errors import InvalidSpec
from clew_spec.graph import Conservation, LogitTarget, Position0

MAX_EDGES = 2**30
"""Bound on a graph in memory: 8 bytes an edge to hold, 16 while rows are put together."""


@torch.inference_mode()
def attribute(
    model: Model,
    coders: Mapping[int, Coder],
    tokens_T: Tensor,
    *,
    max_logits: int,
    desired_logit_prob: float,
    max_nodes: int,
    targets_per_sweep: int,
    dtype: torch.dtype,
    report: Report,
    prompt: str | None = None,
    bos: str = "none",
    position_0: Position0 = "error",
    targets: Sequence[Token | Direction] | None = None,
) -> Graph:
    """The graph of what made the model's next token likely, all edges exact under the freeze.

    `tokens_T` int64, one prompt as the model sees it; `prompt` and `bos` are recorded. `targets` are what is explained
    in place of the most likely tokens; `position_0` says what stands there. Logits come first; then, until
    `max_nodes` features have rows, those with most influence on the logits through the rows known so far, at most
    `targets_per_sweep` between rankings. Raises InvalidSpec for an empty or too long prompt, coders that do not fit
    the model, or more edges than `MAX_EDGES` might hold; and StopRequested between sweeps.
    """
    network = FrozenNetwork(
        model,
        coders,
        tokens_T,
        max_logits=max_logits,
        desired_logit_prob=desired_logit_prob,
        dtype=dtype,
        position_0=position_0,
        targets=targets,
    )
    nodes = network.nodes
    features, logits = nodes.where(NodeKind.FEATURE), nodes.where(NodeKind.LOGIT)
    start = torch.zeros(len(nodes), dtype=torch.float64)
    start[logits] = torch.tensor(network.logits.probabilities, dtype=torch.float64)
    n_active = int(features.sum())
    wanted = min(max_nodes, n_active)
    _check_size(_most_edges(nodes, features, wanted) + int(logits.sum()) * len(nodes), wanted)

    swept: list[Rows] = []
    done = 0

    def add(targets: Tensor) -> None:
        nonlocal done
        for tile in tiles(network, targets):
            if report.stop_requested():
                raise StopRequested
            swept.append(sweep(network, tile))
            done += len(tile)
            report.progress("attribute", done, wanted + int(logits.sum()), "nodes")

    add(logits.nonzero()[:, 0])
    selected = torch.zeros(len(nodes), dtype=torch.bool)
    while (missing := wanted - int(selected.sum())) > 0:
        candidates = (features & ~selected).nonzero()[:, 0]
        if missing < len(candidates):
            swept[:] = [merge(swept)]
            flow = _flow(swept[0], start)[candidates]
            candidates = candidates[flow.argsort(descending=True, stable=True)][: min(missing, targets_per_sweep)]
        add(candidates)
        selected[candidates] = True
    swept[:] = [rows := merge(swept)]

    return Graph(
        nodes=nodes,
        edges=Edges(rows.targets, rows.offsets, rows.sources, rows.weights),
        prompt=text_of(model, tokens_T.tolist()) if prompt is None else prompt,
        tokens=[text_of(model, [token]) for token in tokens_T.tolist()],
        token_ids=tokens_T.tolist(),
        bos=bos,
        n_layers=model.n_layers,
        coder_layers=sorted(coders),
        targets=[
            _described(model, *target)
            for target in zip(
                network.logits.targets, network.logits.probabilities, nodes.value[logits].tolist(), strict=True
            )
        ],
        conservation=conservation(rows),
        n_active=n_active,
        n_selected=int(selected.sum()),
        explained_share=explained_share(_flow(rows, start), features, selected),
        position_0=position_0,
        target_rule="likeliest" if targets is None else "given",
        directions=_directions(targets or ()),
    )


def _directions(targets: Sequence[Token | Direction]) -> Tensor | None:
    vectors = [target.vector_D.cpu() for target in targets if isinstance(target, Direction)]
    return torch.stack(vectors) if vectors else None


def _most_edges(nodes: Nodes, features: Tensor, wanted: int) -> int:
    """Edges into the `wanted` features that can have most: none comes from a later layer or position."""
    layer, position = nodes.layer.long() + 1, nodes.position.long().clamp_min(0)
    cells = torch.zeros(int(layer.max()) + 1, int(position.max()) + 1, dtype=torch.int64)
    cells.index_put_((layer, position), torch.ones_like(layer), accumulate=True)
    upstream = cells.cumsum(0).cumsum(1)[layer[features], position[features]]
    return int(upstream.topk(min(wanted, len(upstream))).values.sum())


def _check_size(edges: int, rows: int) -> None:
    if edges > MAX_EDGES:
        raise InvalidSpec(
            f"the graph may have {edges:.2g} edges, {rows} rows of {edges / (rows + 1):.2g}",
            where="/spec/max_nodes",
            expected=f"at most {MAX_EDGES:.2g} edges",
            hint="choose fewer nodes, a shorter prompt or coders of fewer layers",
        )


def _flow(rows: Rows, start: Tensor) -> Tensor:
    return influence(rows.targets, rows.offsets, rows.sources, rows.weights, start)


def conservation(rows: Rows) -> Conservation:
    """How far every row is from adding up to its target's value; sums in float64."""
    gap = (rows.values - rows.sums).abs()
    tiny = torch.finfo(torch.float64).tiny
    return Conservation(
        max_relative_to_edges=float((gap / rows.absolute_sums.clamp_min(tiny)).max()),
        p99_relative_to_value=float((gap / rows.values.abs().clamp_min(tiny)).quantile(0.99)),
        nodes=len(rows.targets),
        dtype=str(rows.weights.dtype).removeprefix("torch."),
    )


def _described(model: Model, target: Token | Direction, probability: float, value: float) -> LogitTarget:
    if isinstance(target, Direction):
        return LogitTarget(token=target.name, token_id=-1, probability=probability, logit=value)
    return LogitTarget(
        token=text_of(model, [target.token_id]),
        token_id=target.token_id,
        probability=probability,
        logit=value,
        minus=None if target.minus_id is None else text_of(model, [target.minus_id]),
        minus_id=target.minus_id,
    )


def text_of(model: Model, ids: list[int]) -> str:
    if model.tokenizer is None:
        return " ".join(f"<{token}>" for token in ids)
    return str(model.tokenizer.decode(ids))
