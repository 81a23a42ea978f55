"""Whether paraphrases of a prompt need the same features."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from clew.circuits.attribution import attribute, text_of
from clew.circuits.graph import Graph, NodeKind
from clew.circuits.influence import node_influence
from clew.circuits.replacement import Coder
from clew.circuits.targets import targets_of
from clew.models import Model
from clew.reporting import Report
from clew_spec.faithfulness import Stability


def stability(
    model: Model,
    coders: Mapping[int, Coder],
    graph: Graph,
    paraphrases: Sequence[tuple[str, Tensor]],
    top: int,
    report: Report,
) -> Stability:
    """Each paraphrase is attributed as `graph` was: with as many nodes, and as many targets or the same named ones.

    Raises StopRequested, and InvalidSpec for a direction that the graph does not keep.
    """
    named = None if graph.target_rule == "likeliest" else targets_of(graph)
    graphs = [graph]
    for text, tokens_T in paraphrases:
        graphs.append(
            attribute(
                model,
                coders,
                tokens_T,
                max_logits=len(graph.targets),
                desired_logit_prob=1.0,
                max_nodes=max(1, graph.n_selected),
                targets_per_sweep=512,
                dtype=graph.edges.weights.dtype,
                report=report,
                prompt=text,
                bos=graph.bos,
                position_0=graph.position_0,
                targets=named,
            )
        )
    sets = [top_features(each, top) for each in graphs]
    pairs = [jaccard(a, b) for a, b in combinations(sets, 2)]
    return Stability(
        prompts=[each.prompt for each in graphs],
        next_tokens=[_next_token(model, each.token_ids) for each in graphs],
        features=top,
        jaccard=[jaccard(sets[0], other) for other in sets[1:]],
        mean_jaccard=sum(pairs) / len(pairs),
    )


@torch.inference_mode()
def _next_token(model: Model, token_ids: Sequence[int]) -> str:
    """Of the whole vocabulary: the targets of a graph may be any."""
    tokens_BT = torch.tensor([token_ids], device=model.device)
    logits_V = model.hf(input_ids=tokens_BT, use_cache=False, logits_to_keep=1).logits[0, -1]
    return text_of(model, [int(logits_V.argmax())])


def top_features(graph: Graph, top: int) -> set[tuple[int, int]]:
    """(layer, feature) of at most `top` features by their influence, summed over positions."""
    nodes, flow = graph.nodes, node_influence(graph)
    features = nodes.where(NodeKind.FEATURE) & (flow > 0)
    keys_N2 = torch.stack([nodes.layer[features], nodes.feature[features]], 1)
    distinct_M2, which_N = torch.unique(keys_N2, dim=0, return_inverse=True)
    total_M = torch.zeros(len(distinct_M2), dtype=torch.float64).index_add_(0, which_N, flow[features])
    best = distinct_M2[total_M.argsort(descending=True, stable=True)[:top]]
    return {(layer, feature) for layer, feature in best.tolist()}


def jaccard(a: set[tuple[int, int]], b: set[tuple[int, int]]) -> float:
    """1 of two empty sets."""
    return len(a & b) / len(a | b) if a | b else 1.0
