"""An edge taken apart: by the head that carries it, and by the position that this head reads from.

What a source writes is carried up through the frozen network, and what the target reads is carried down; where they
meet at an attention, every head and every pair of positions has its part. Two exact partitions come of that. *By the
last head*: each way from source to target ends in a last head, which writes where the target reads, or has none; over
all layers these parts add up to the edge. *Through a layer*: at each layer a way passes one of its heads or passes them
by; the parts of every layer add up to the edge by themselves. Shape letters: T positions, D residual stream, H heads,
K key-value heads, E head dimension, L layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clew.circuits.document import nodes_of
from clew.circuits.frozen import FrozenNetwork
from clew.circuits.graph import NODE_TYPES, Graph, NodeKind
from clew.circuits.replacement import Coder, first_skipped
from clew.circuits.targets import targets_of
from clew.models import Model
from clew_spec.edges import EdgeDocument, EdgeLayer, EdgePart, EdgeSplit, NamedNode
from clew_spec.errors import DataError, InvalidSpec

EVERY = slice(None)
MAX_PARTS = 10_000
"""Parts of a stored graph's edge that are told one by one: of a prompt of usual length all."""


@dataclass(frozen=True)
class Split:
    """float64 on the CPU."""

    edge: float
    """As the downward sweep has it."""
    direct: float
    """What no head carries: through the residual stream and skip paths alone, at the target's position."""
    last_LHT: Tensor
    """By the last head on the way, and the position it reads from. `direct + last_LHT.sum()` is the edge."""
    through_LH: Tensor
    """What passes a head, wherever it reads and writes and whatever comes before and after it."""
    around_L: Tensor
    """What passes no head of a layer. `around_L[l] + through_LH[l].sum()` is the edge, for each of `layers`; elsewhere
    both are 0."""
    layers: list[int]
    """Those whose attention lies between source and target, ascending."""


@dataclass(frozen=True)
class _Source:
    """What a node writes, at one position."""

    position: int
    embed_D: Tensor | None = None
    attn: Mapping[int, Tensor] = field(default_factory=dict)
    """[D] by layer: beside the layer's attention."""
    mlp: Mapping[int, Tensor] = field(default_factory=dict)
    """[D] by layer: as its MLP."""


@torch.inference_mode()
def split_edge(network: FrozenNetwork, source: int, target: int) -> Split:
    """The edge between two nodes of `network`, which need not have been selected for a graph; 0 where there is none.

    Raises InvalidSpec unless the target is a feature or a logit, and the source any node but a logit, the bias of the
    unembedding, or what position 0 leaves out.
    """
    nodes, n_layers = network.nodes, len(network.layers)
    written = _written(network, source)
    kind, reader, at = (int(array[target]) for array in (nodes.kind, nodes.layer, nodes.position))
    if kind == NodeKind.LOGIT:
        reads_D = network.unembedders()[target - network.first_logit]
    elif kind == NodeKind.FEATURE:
        reads_D = network.encoders(reader, nodes.feature[[target]].long(), nodes.position[[target]].long())[0]
    else:
        raise InvalidSpec("the target of an edge is a feature or a logit", where="/spec/target")
    entering = _carried_up(network, written, reader)
    attention = network.anatomy.blocks[0].attention
    last_LHT = torch.zeros(n_layers, attention.n_heads, network.n_tokens, dtype=torch.float64)
    through_LH, around_L = last_LHT.new_zeros(n_layers, attention.n_heads), last_LHT.new_zeros(n_layers)

    # [T, 2, D]: what is read with what heads carry to it, and without
    g_TND = reads_D.new_zeros(network.n_tokens, 2, len(reads_D))
    g_TND[at] = reads_D
    met = torch.zeros(2, dtype=torch.float64)

    def meet(vector_D: Tensor | None) -> None:
        nonlocal met
        if vector_D is not None:
            met = met + (g_TND[written.position].double() @ vector_D.double()).cpu()

    for layer in range(min(reader, n_layers - 1), -1, -1):
        parallel = network.anatomy.blocks[layer].parallel
        skipped_TND = None
        if layer < reader:  # a feature reads before its own layer writes
            meet(written.mlp.get(layer))
            skipped_TND = network.through_skip(layer, g_TND)
        elif parallel:
            continue  # nor does it read the attention beside it
        if skipped_TND is not None and not parallel:
            g_TND = g_TND + skipped_TND
        meet(written.attn.get(layer))
        before_TND = g_TND if skipped_TND is None or not parallel else g_TND + skipped_TND
        if layer in entering:
            parts_NHT = _parts(network, layer, g_TND, entering[layer])
            through_LH[layer], last_LHT[layer] = parts_NHT[0].sum(-1), parts_NHT[1]
            around_L[layer] = met[0] + (before_TND[:, 0] * entering[layer]).double().sum().cpu()
        carried_TND = network.through_attention(layer, g_TND[:, :1])
        g_TND = torch.cat([before_TND[:, :1] + carried_TND, before_TND[:, 1:]], 1)
    meet(written.embed_D)
    return Split(float(met[0]), float(met[1]), last_LHT, through_LH, around_L, sorted(entering))


def _written(network: FrozenNetwork, source: int) -> _Source:
    nodes = network.nodes
    kind, layer, position = (int(array[source]) for array in (nodes.kind, nodes.layer, nodes.position))
    if kind == NodeKind.LOGIT or position < 0 or network.left_out[source]:
        what = "a logit" if kind == NodeKind.LOGIT else "the output bias" if position < 0 else "what is left out"
        raise InvalidSpec(f"{what} is no source of an edge that could be split", where="/spec/source")
    if kind == NodeKind.TOKEN:
        return _Source(position, network.embed_TD[position])
    if kind == NodeKind.POSITION:
        assert network.position_TD is not None
        return _Source(position, network.position_TD[position])
    here = network.layers[layer]
    if kind == NodeKind.ERROR:
        return _Source(position, mlp={layer: here.error_TD[position]})
    if kind == NodeKind.BIAS:
        bias_TD = here.attention_bias_TD
        return _Source(
            position, attn={} if bias_TD is None else {layer: bias_TD[position]}, mlp={layer: here.b_dec_TD[position]}
        )
    coder, feature = network.coders[layer], int(nodes.feature[source])
    z = nodes.value[source].to(network.embed_TD)
    decoders = {layer: coder.W_dec, **coder.W_later}
    return _Source(position, mlp={at: z * W_dec_FD[feature].to(z) for at, W_dec_FD in decoders.items()})


def _carried_up(network: FrozenNetwork, written: _Source, reader: int) -> dict[int, Tensor]:
    """[T, D] by layer: what of the source the attention of each layer reads, as far as a reader at `reader` can see."""
    entering: dict[int, Tensor] = {}
    x_TD = torch.zeros_like(network.embed_TD)
    begun = written.embed_D is not None
    if written.embed_D is not None:
        x_TD[written.position] += written.embed_D
    for layer in range(min(reader + 1, len(network.layers))):
        parallel = network.anatomy.blocks[layer].parallel
        if begun and not (layer == reader and parallel):
            entering[layer] = x_TD
        mid_TD = x_TD + _attended(network, layer, x_TD) if begun else x_TD.clone()
        if layer in written.attn:
            mid_TD[written.position] += written.attn[layer]
        out_TD = mid_TD + _skipped(network, layer, x_TD if parallel else mid_TD)
        if layer in written.mlp:
            out_TD[written.position] += written.mlp[layer]
        begun = begun or layer in written.attn or layer in written.mlp
        x_TD = out_TD
    return entering


def _values(network: FrozenNetwork, layer: int, x_TD: Tensor) -> Tensor:
    """[H, T, E]: what the heads mix, without the biases."""
    attention = network.anatomy.blocks[layer].attention
    v_TKE = network.values(layer, x_TD, EVERY).view(len(x_TD), attention.n_kv_heads, -1)
    return v_TKE.transpose(0, 1).repeat_interleave(attention.group, 0)


def _attended(network: FrozenNetwork, layer: int, x_TD: Tensor) -> Tensor:
    """[T, D]: what the attention sublayer adds for what it reads, without the biases."""
    mixed_HTE = network.seen.layers[layer].pattern_HTT.to(x_TD) @ _values(network, layer, x_TD)
    return network.written_by_heads(layer, mixed_HTE.transpose(0, 1), EVERY)


def _skipped(network: FrozenNetwork, layer: int, x_TD: Tensor) -> Tensor:
    """[T, D]: what a skip path adds for what the block has before its MLP, without the norm's bias."""
    out_TD = network.skipped(layer, x_TD, EVERY)
    if out_TD is None:
        return torch.zeros_like(x_TD)
    out_TD[: first_skipped(network.position_0)] = 0
    return out_TD


def _parts(network: FrozenNetwork, layer: int, g_TND: Tensor, x_TD: Tensor) -> Tensor:
    """float64 [N, H, T]: what of x each head carries to g, by the position that it reads from."""
    block, seen = network.anatomy.blocks[layer], network.seen.layers[layer]
    if block.attn_post_norm is not None and seen.attn_post_scale_T1 is not None:
        g_TND = block.attn_post_norm.fold(g_TND) * seen.attn_post_scale_T1[:, :, None].to(g_TND)
    asked_NHTE = torch.einsum("tnd,dhe->nhte", g_TND, block.attention.W_O_DHE.to(g_TND))
    by_source_NHTE = seen.pattern_HTT.to(g_TND).transpose(1, 2) @ asked_NHTE
    return (by_source_NHTE * _values(network, layer, x_TD)).double().sum(-1).cpu()


def network_of(model: Model, coders: Mapping[int, Coder], graph: Graph) -> FrozenNetwork:
    """The frozen network that a stored graph is of, its nodes numbered alike.

    Raises InvalidSpec for a graph that does not keep its directions, DataError where model and coders make other nodes.
    """
    network = FrozenNetwork(
        model,
        coders,
        torch.tensor(graph.token_ids),
        max_logits=len(graph.targets),
        desired_logit_prob=1.0,
        dtype=graph.edges.weights.dtype,
        position_0=graph.position_0,
        targets=targets_of(graph),
    )
    made, kept = network.nodes, graph.nodes
    same = len(made) == len(kept) and all(
        getattr(made, name).equal(getattr(kept, name)) for name in ("kind", "layer", "position", "feature", "token_id")
    )
    if not same:
        raise DataError(
            "model and coders do not make the nodes of this graph again",
            expected="the device and the code that made it; activations near a threshold may differ on another",
            hint="attribute the prompt anew",
        )
    return network


def node_of(graph: Graph, named: NamedNode, where: str) -> int:
    """The index of a node. Raises InvalidSpec where the graph has none like it."""
    nodes = graph.nodes
    if named.id is not None:
        return named.id
    kinds = {name: kind for kind, name in NODE_TYPES.items()}
    found = nodes.where(kinds[named.type])
    for array, value in ((nodes.layer, named.layer), (nodes.position, named.position), (nodes.feature, named.feature)):
        if value is not None:
            found &= array == value
    indices = found.nonzero()[:, 0].tolist()
    if named.rank >= len(indices):
        what = "feature is not active there" if named.type == "feature" else f"{named.type} is not there"
        raise InvalidSpec(f"the graph has no such node: the {what}", where=where)
    return int(indices[named.rank])


def split_stored(model: Model, coders: Mapping[int, Coder], graph: Graph, source: int, target: int) -> EdgeDocument:
    """`split_edge` of a stored graph's network, beside what the graph says. Raises as `network_of` and `split_edge`."""
    found = split_edge(network_of(model, coders, graph), source, target)
    nodes, edges = graph.nodes, graph.edges
    span = edges.span(target)
    stored = share = None
    if span.stop > span.start:
        stored = float(edges.weights[span][edges.sources[span] == source].double().sum())
        share = abs(stored) / float(edges.weights[span].abs().double().sum())
    order = found.last_LHT.flatten().abs().argsort(descending=True, stable=True)[:MAX_PARTS]
    chosen = order[found.last_LHT.flatten()[order] != 0]
    parts = [
        EdgePart(layer=layer, head=head, position=position, weight=float(found.last_LHT[layer, head, position]))
        for layer, head, position in torch.stack(torch.unravel_index(chosen, found.last_LHT.shape), 1).tolist()
    ]
    of_feature = nodes.kind[target] == NodeKind.FEATURE
    source_node, target_node = nodes_of(graph, [source, target])
    return EdgeDocument(
        tokens=graph.tokens,
        source=source_node,
        target=target_node,
        edge=found.edge,
        stored=stored,
        share=share,
        capped=min(found.edge, float(nodes.value[target])) if of_feature else None,
        direct=found.direct,
        parts=parts,
        rest=float(found.last_LHT.sum()) - sum(part.weight for part in parts),
        positions=found.last_LHT.sum((0, 1)).tolist(),
        layers=[
            EdgeLayer(layer=layer, around=float(found.around_L[layer]), heads=found.through_LH[layer].tolist())
            for layer in found.layers
        ],
    )


def strongest(document: EdgeDocument, top: int) -> EdgeSplit:
    """The first `top` parts; the others are in the rest."""
    fields = document.model_dump(include=set(EdgeSplit.model_fields))
    rest = document.rest + sum(part.weight for part in document.parts[top:])
    return EdgeSplit.model_validate({**fields, "parts": document.parts[:top], "rest": rest})
