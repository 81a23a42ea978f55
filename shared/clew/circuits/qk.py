"""Why a head attends where it does: its score between two positions, by pairs of nodes.

Before cap and softmax a score is `scale * (R_i q_i) . (R_j k_j)`, with queries and keys linear in what the layer's
attention reads, once the scales of norms are held as they were on the prompt: those before the attention and those of
the queries and keys themselves. So a query is the sum of what each node of the graph writes for it, over all ways up
through the frozen network, and so is a key: every pair of nodes has its part, of either sign, and all parts add up to
the score ("Tracing attention computation through feature interactions", 2025). Shape letters: M sources, the nodes and
as the last one the head's own biases; T positions, D residual stream, E head dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clew.circuits.document import nodes_of
from clew.circuits.frozen import FrozenNetwork
from clew.circuits.graph import NODE_TYPES, Graph, NodeKind
from clew.circuits.replacement import Coder
from clew.circuits.splits import network_of
from clew.models import Model
from clew.models.anatomy import Norm
from clew.models.recording import hooked, read_by
from clew_spec.chunks import PAIRS_AT_ONCE, READS_AT_ONCE
from clew_spec.errors import DataError
from clew_spec.graph import Node
from clew_spec.qk import QKDocument, QKNode, QKPair, QKPart, QKScore, QKSourceType

PATTERN_TOLERANCE = 1e-3
"""How far a pattern made from scores may be from the model's own, in the dtype of either."""


@dataclass(frozen=True)
class Score:
    """float64 on the CPU."""

    value: float
    """From the model's own queries and keys. `(query_ME @ key_ME.T).sum()` is it."""
    query_ME: Tensor
    """What each source gives to the query, rotated and scaled."""
    key_ME: Tensor


@torch.inference_mode()
def score(
    model: Model, network: FrozenNetwork, layer: int, head: int, query: int, key: int, against: int | None = None
) -> Score:
    """Of one head between two positions; with `against`, of `key` less that.

    Raises DataError where what is known of the family's attention does not make the pattern that the model made.
    """
    seen = _Seen(model, network, layer, head)
    seen.check(query)
    query_ME = seen.side("query", query)
    key_ME = seen.side("key", key)
    q_E, k_E = seen.vector("query", query), seen.vector("key", key)
    if against is not None:
        key_ME = key_ME - seen.side("key", against)
        k_E = k_E - seen.vector("key", against)
    return Score(float(q_E @ k_E), query_ME, key_ME)


class _Seen:
    """One head on the prompt: what its layer's attention read, and the linear maps from there to query and key."""

    def __init__(self, model: Model, network: FrozenNetwork, layer: int, head: int) -> None:
        self._network, self._layer, self._head = network, layer, head
        self._block = model.anatomy.blocks[layer]
        read: dict[str, Any] = {}

        def keep(_module: Any, args: Any, kwargs: Any, _output: Any) -> None:
            read["x"] = read_by(args, kwargs)[0]
            read["rotary"] = kwargs.get("position_embeddings")

        with hooked((self._block.attention.module, keep)):
            model.hf(input_ids=network.seen.tokens_T[None].to(model.device), use_cache=False)
        self._x_TD = read["x"].to(network.dtype)
        self._rotary = None if read["rotary"] is None else [each[0].to(network.dtype) for each in read["rotary"]]

    def side(self, what: str, position: int) -> Tensor:
        """float64 [M, E] on the CPU."""
        W_ED, b_E = self._map(what, position)
        norm = self._block.attn_norm
        scale_1 = self._network.seen.layers[self._layer].attn_scale_T1[position].to(W_ED)
        reads_ED = norm.fold(W_ED) * scale_1
        some = torch.split(reads_ED, READS_AT_ONCE)
        parts_ME = torch.cat([written_for(self._network, self._layer, few, position).cpu() for few in some], 1)
        own_E = b_E if norm.bias_D is None else b_E + W_ED @ norm.bias_D.to(W_ED)
        return torch.cat([parts_ME, own_E[None].cpu()]).double()

    def vector(self, what: str, position: int) -> Tensor:
        """float64 [E] on the CPU: the query or key itself, rotated and scaled."""
        W_ED, b_E = self._map(what, position)
        read_E: Tensor = W_ED @ self._x_TD[position] + b_E
        return read_E.double().cpu()

    def check(self, query: int) -> None:
        """Raises DataError unless the softmax of the scores is the row of the pattern."""
        q_E = self.vector("query", query)
        keys = torch.stack([self.vector("key", position) for position in range(query + 1)])
        pattern_T = self._network.seen.layers[self._layer].pattern_HTT[self._head, query, : query + 1].double().cpu()
        scores = self._block.attention.scores.cap(keys @ q_E)
        made_T = scores.masked_fill(pattern_T == 0, -torch.inf).softmax(-1)  # behind a window nothing is seen
        if not torch.allclose(made_T, pattern_T, atol=PATTERN_TOLERANCE, rtol=0):
            raise DataError(
                f"the scores of head {self._head} of layer {self._layer} do not make its pattern: they are off by "
                f"{float((made_T - pattern_T).abs().max()):.1e}",
                expected="the attention of a family that is known",
            )

    def _map(self, what: str, position: int) -> tuple[Tensor, Tensor]:
        """From what the attention reads at a position to its query or key: [E, D] and [E]."""
        scores, group = self._block.attention.scores, self._block.attention.group
        of_query = what == "query"
        W, b, norm = (
            (scores.W_Q_HED, scores.b_Q_HE, scores.q_norm)
            if of_query
            else (scores.W_K_KED, scores.b_K_KE, scores.k_norm)
        )
        row = self._head if of_query else self._head // group
        W_ED = W[row].to(self._x_TD)
        b_E = W_ED.new_zeros(len(W_ED)) if b is None else b[row].to(W_ED)
        both_NE = torch.cat([W_ED.T, b_E[None]])
        if norm is not None:
            raw_E = W_ED @ self._x_TD[position] + b_E
            both_NE = _normed(norm, both_NE, norm.scale(raw_E))
        if self._rotary is not None:
            both_NE = rotated(both_NE, *(each[position] for each in self._rotary))
        if of_query:
            both_NE = both_NE * scores.scale
        return both_NE[:-1].T, both_NE[-1]


def _normed(norm: Norm, x_NE: Tensor, scale_1: Tensor) -> Tensor:
    return norm.linear(x_NE, scale_1).to(x_NE)


def rotated(x_NE: Tensor, cos_R: Tensor, sin_R: Tensor) -> Tensor:
    """Rotary position embedding of the first R dimensions, halves paired (Su et al. 2021, as the families have it)."""
    turned_NR, rest = x_NE[:, : len(cos_R)], x_NE[:, len(cos_R) :]
    a, b = turned_NR.chunk(2, -1)
    return torch.cat([turned_NR * cos_R + torch.cat([-b, a], -1) * sin_R, rest], -1)


def written_for(network: FrozenNetwork, layer: int, reads_ND: Tensor, position: int) -> Tensor:
    """[nodes, N]: what each node writes of what is read of the residual stream at `position`, where the attention of
    `layer` reads it. 0 of nodes that come later."""
    T = position + 1
    edges_MN = reads_ND.new_zeros(len(network.nodes) + 1, len(reads_ND))
    g_TND = reads_ND.new_zeros(T, *reads_ND.shape)
    g_TND[position] = reads_ND
    for below in range(layer - 1, -1, -1):
        for vectors_TWD, nodes_TW in network.writers(below, T):
            edges_TWN = torch.bmm(vectors_TWD, g_TND.transpose(1, 2))
            edges_MN.index_add_(0, nodes_TW.flatten(), edges_TWN.flatten(0, 1))
        parallel = network.anatomy.blocks[below].parallel
        skipped_TND = network.through_skip(below, g_TND)
        if skipped_TND is not None and not parallel:
            g_TND = g_TND + skipped_TND
        bias_TD = network.layers[below].attention_bias_TD
        if bias_TD is not None:
            edges_MN.index_add_(0, network.columns[below].biases_T[:T].to(edges_MN.device), _at(g_TND, bias_TD))
        carried_TND = network.through_attention(below, g_TND)
        g_TND = g_TND + carried_TND if skipped_TND is None or not parallel else g_TND + carried_TND + skipped_TND
    edges_MN[:T] += _at(g_TND, network.embed_TD)
    if network.position_TD is not None:
        edges_MN[network.n_tokens : network.n_tokens + T] += _at(g_TND, network.position_TD)
    return edges_MN[:-1]


def _at(g_TND: Tensor, written_TD: Tensor) -> Tensor:
    """[T, N] from one vector a position."""
    return torch.bmm(g_TND, written_TD[: len(g_TND), :, None])[:, :, 0]


def strongest_pairs(found: Score, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query sources int64[n], key sources int64[n] and weights float64[n] of the pairs of largest |weight|."""
    n_keys = len(found.key_ME)
    places, weights = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    step = max(1, PAIRS_AT_ONCE // n_keys)
    for first in range(0, len(found.query_ME), step):
        pairs = (found.query_ME[first : first + step] @ found.key_ME.T).flatten()
        best = pairs.abs().topk(min(top, len(pairs))).indices
        places, weights = torch.cat([places, first * n_keys + best]), torch.cat([weights, pairs[best]])
        kept = weights.abs().argsort(descending=True, stable=True)[:top]
        places, weights = places[kept], weights[kept]
    some = weights != 0
    return places[some] // n_keys, places[some] % n_keys, weights[some]


def qk_document(
    model: Model,
    coders: Mapping[int, Coder],
    graph: Graph,
    layer: int,
    head: int,
    query: int,
    key: int,
    against: int | None = None,
    *,
    top: int = 500,
) -> QKDocument:
    """`score` on a stored graph's network. Raises as `network_of` and `score`."""
    network = network_of(model, coders, graph)
    found = score(model, network, layer, head, query, key, against)
    pattern_T = network.seen.layers[layer].pattern_HTT[head, query]
    at_query, at_key, weights = strongest_pairs(found, top)
    queries_M, keys_M = found.query_ME @ found.key_ME.sum(0), found.key_ME @ found.query_ME.sum(0)
    of_queries, of_keys = (_largest(marginals_M, top) for marginals_M in (queries_M, keys_M))
    named = sorted({*torch.cat([at_query, at_key, of_queries, of_keys]).tolist()})
    own = len(graph.nodes)
    node_of: dict[int, Node | None] = {own: None}
    node_of |= {node.id: node for node in nodes_of(graph, [each for each in named if each != own])}
    total = float(queries_M.sum())
    magnitude = float(queries_M.abs().sum() + keys_M.abs().sum())
    return QKDocument(
        tokens=graph.tokens,
        layer=layer,
        head=head,
        query=query,
        key=key,
        against=against,
        score=found.value,
        cap_at=model.anatomy.blocks[layer].attention.scores.cap_at,
        attention=float(pattern_T[key]),
        attention_against=None if against is None else float(pattern_T[against]),
        residual=abs(found.value - total) / magnitude if magnitude else 0.0,
        pairs=[
            QKPair(query=node_of[q], key=node_of[k], weight=weight)
            for q, k, weight in zip(at_query.tolist(), at_key.tolist(), weights.tolist(), strict=True)
        ],
        rest=found.value - float(weights.sum()),
        queries=[QKNode(node=node_of[m], weight=float(queries_M[m])) for m in of_queries.tolist()],
        keys=[QKNode(node=node_of[m], weight=float(keys_M[m])) for m in of_keys.tolist()],
        parts=_parts(graph, found),
    )


def strongest(document: QKDocument, top: int) -> QKScore:
    """The first `top` pairs and nodes of either side; the other pairs are in the rest."""
    fields = document.model_dump(include=set(QKScore.model_fields))
    fields |= {name: fields[name][:top] for name in ("pairs", "queries", "keys")}
    fields["rest"] += sum(pair.weight for pair in document.pairs[top:])
    return QKScore.model_validate(fields)


def _largest(marginals_M: Tensor, top: int) -> Tensor:
    order = marginals_M.abs().argsort(descending=True, stable=True)[:top]
    return order[marginals_M[order] != 0]


def _parts(graph: Graph, found: Score) -> list[QKPart]:
    """Sums over all pairs of two types of sources, the largest first."""
    kinds_M = torch.cat([graph.nodes.kind.long(), torch.tensor([len(NodeKind)])])
    names: list[QKSourceType] = [*(NODE_TYPES[kind] for kind in NodeKind), "head"]
    queries, keys = (
        torch.zeros(len(names), parts_ME.shape[1], dtype=torch.float64).index_add_(0, kinds_M, parts_ME)
        for parts_ME in (found.query_ME, found.key_ME)
    )
    table = queries @ keys.T
    parts = [
        QKPart(query=names[q], key=names[k], weight=float(table[q, k])) for q, k in (table != 0).nonzero().tolist()
    ]
    return sorted(parts, key=lambda part: -abs(part.weight))
