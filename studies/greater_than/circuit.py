"""The stages of the study on one set of coders: which features carry the decade, and what happens without them."""

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from clew.circuits import Graph, NodeKind, attribute, scores
from clew.circuits.connections import direct_logit_effect
from clew.circuits.replacement import Coder
from clew.circuits.targets import Direction
from clew.data import Rows
from clew.models import Model, hook_activations
from clew.reporting import Silent
from studies.greater_than.contributions import (
    Components,
    activations,
    brought_to,
    direct_effects,
    feature_effects,
    varying,
)
from studies.greater_than.finding import CONTROLS, outcome
from studies.greater_than.interventions import (
    Features,
    changed,
    drawn,
    levelled,
    moved_with,
    of_same_norm,
    random_directions,
    transplanted,
)
from studies.greater_than.last_position import LastPosition
from studies.greater_than.prompts import DECADES, Prompts, digit_weights
from studies.greater_than.results import Circuit, Coded, Feature, GraphError, Transplant, Trial

FOUND = 16
"""Features that the study calls found, over all layers."""
COUNTS = (1, 4, 16, 64)
FEWER_CONTROLS = 5
"""For numbers of features other than `FOUND`."""
SHIFTS = (5,)
"""Decades between a prompt and the one whose features it is given."""
GRAPHS = 8
TOKENS = 2048
"""Of held-out text, for frequencies."""
BROUGHT = 4


class Trained:
    """One set of coders with all prompts."""

    def __init__(
        self,
        coders: Mapping[int, Coder],
        finding: tuple[Prompts, LastPosition],
        confirming: tuple[Prompts, LastPosition],
    ) -> None:
        self.coders, self.model = coders, finding[1].model
        self.finding, self.confirming = finding, confirming
        self.active = {layer: activations(confirming[1], coder) for layer, coder in coders.items()}
        self._ranked = self._rank()

    def _rank(self) -> list[tuple[int, int, float]]:
        prompts, last = self.finding
        ranked = []
        for layer, coder in self.coders.items():
            effects_F = feature_effects(last, prompts, coder, activations(last, coder))
            top = effects_F.topk(min(max(COUNTS), len(effects_F)))
            ranked += [(layer, int(f), float(e)) for f, e in zip(top.indices, top.values, strict=True)]
        return sorted(ranked, key=lambda each: -each[2])

    def found(self, n: int = FOUND) -> list[tuple[int, int, float]]:
        """Layer, feature and direct effect of those that do most for the decade effect on the finding prompts."""
        return self._ranked[:n]

    def by_layer(self, n: int = FOUND) -> dict[int, list[int]]:
        return {
            layer: [feature for at, feature, _ in self.found(n) if at == layer]
            for layer in self.coders
            if any(at == layer for at, *_ in self.found(n))
        }


def study_circuit(trained: Trained, heldout: Rows, seed: int) -> Circuit:
    start = time.monotonic()
    prompts, last = trained.confirming
    generator = torch.Generator().manual_seed(seed)
    everything = {layer: range(len(coder.W_enc)) for layer, coder in trained.coders.items()}
    return Circuit(
        seed=seed,
        features=describe(trained, heldout),
        coded=[coded(trained, layer) for layer in trained.coders],
        trials=[try_out(trained, n, generator) for n in COUNTS],
        all_features=outcome(prompts, changed(last, levelled(trained.coders, trained.active, everything))),
        transplant=transplant(trained, generator),
        graphs=graph_error(trained),
        seconds=time.monotonic() - start,
    )


def describe(trained: Trained, heldout: Rows) -> list[Feature]:
    """What each found feature responds to, writes, and is brought the decade by, on the finding prompts."""
    prompts, last = trained.finding
    scale = float(last.seen.final_scale_B1.mean())
    features = {}
    often = frequencies(trained.model, trained.coders, heldout)
    for layer, chosen in trained.by_layer().items():
        coder = trained.coders[layer]
        z_BK = activations(last, coder)[:, chosen]
        logits_KY = direct_logit_effect(trained.model, coder, chosen)[:, prompts.digits_Y] * scale
        shares = brought_to(last, coder, chosen)
        for k, feature in enumerate(chosen):
            features[layer, feature] = Feature(
                layer=layer,
                feature=feature,
                effect=0.0,
                activations=z_BK[:, k].unflatten(0, (-1, DECADES)).mean(0).tolist(),
                logits=(logits_KY[k] - logits_KY[k].mean()).tolist(),
                frequency=float(often[layer][feature]),
                brought=_largest(shares, k),
            )
    return [
        features[layer, feature].model_copy(update={"effect": effect}) for layer, feature, effect in trained.found()
    ]


def _largest(shares: Components, k: int) -> dict[str, float]:
    n_layers, n_heads = shares.heads_LH.shape[1:]
    named = {f"L{i}.H{h}": float(shares.heads_LH[k, i, h]) for i in range(n_layers) for h in range(n_heads)}
    named |= {f"L{i}.MLP": float(shares.mlps_L[k, i]) for i in range(n_layers)}
    return dict(sorted(named.items(), key=lambda each: -abs(each[1]))[:BROUGHT])


@torch.inference_mode()
def frequencies(model: Model, coders: Mapping[int, Coder], rows: Rows) -> dict[int, Tensor]:
    """[F] by layer: share of about `TOKENS` counted tokens of text on which each feature is active."""
    batch = rows.batch(rows.spread(TOKENS))
    places = [(layer, "mlp.in") for layer in coders]
    held = [hook_activations(model, part.tokens_BT, places, part.positions_BT) for part in batch.parts(4)]
    found = {}
    for layer, coder in coders.items():
        x_ND = torch.cat([each[layer, "mlp.in"] for each in held])[batch.counted_BT]
        ids_NS, z_NS = coder.encode(x_ND)
        found[layer] = torch.bincount(ids_NS[z_NS > 0], minlength=len(coder.W_enc)) / len(x_ND)
    return found


def coded(trained: Trained, layer: int) -> Coded:
    """How much of what one MLP says of the decade its coder has, on the confirming prompts."""
    prompts, last = trained.confirming
    coder, z_BF = trained.coders[layer], trained.active[layer]
    y_BD, y_hat_BD = varying(last.seen.mlp_out_LBD[layer]), varying(z_BF @ coder.W_dec)
    effects_F = feature_effects(last, prompts, coder, z_BF)
    return Coded(
        layer=layer,
        fvu=float((y_BD - y_hat_BD).pow(2).sum() / y_BD.pow(2).sum()),
        of_mlp=float(direct_effects(last, prompts).mlps_L[0, layer]),
        of_features=float(effects_F.sum()),
        of_found=float(effects_F[trained.by_layer().get(layer, [])].sum()),
    )


def try_out(trained: Trained, n: int, generator: torch.Generator) -> Trial:
    """The first `n` features levelled on the confirming prompts, and two kinds of controls of the same norm."""
    prompts, last = trained.confirming
    features = trained.by_layer(n)
    changes = levelled(trained.coders, trained.active, features)

    def others() -> Features:
        return drawn(trained.active, trained.by_layer(max(n, FOUND)) | features, generator, sizes=features)

    return Trial(
        n=n,
        found=outcome(prompts, changed(last, changes)),
        other_features=[
            outcome(
                prompts,
                changed(last, of_same_norm(changes, levelled(trained.coders, trained.active, others()))),
            )
            for _ in range(CONTROLS if n == FOUND else FEWER_CONTROLS)
        ],
        directions=[
            outcome(prompts, changed(last, random_directions(changes, generator)))
            for _ in range(CONTROLS if n == FOUND else 0)
        ],
    )


def transplant(trained: Trained, generator: torch.Generator) -> Transplant:
    """Mean over `SHIFTS`, of the found features and of controls of the same norm."""
    prompts, last = trained.confirming
    before_BV, features = last.seen.logits_BV, trained.by_layer()

    def mean_share(chosen: Features) -> float:
        shares = []
        for shift in SHIFTS:
            real = transplanted(trained.coders, trained.active, features, shift)
            given = transplanted(trained.coders, trained.active, chosen, shift)
            after_BV = changed(last, of_same_norm(real, given))
            shares.append(moved_with(prompts, before_BV, after_BV, shift))
        return sum(shares) / len(shares)

    controls = [drawn(trained.active, features, generator) for _ in range(CONTROLS)]
    return Transplant(found=mean_share(features), other_features=[mean_share(each) for each in controls])


def graph_error(trained: Trained) -> GraphError:
    """Attribution graphs of one noun, century and last digit, at each start decade with digits on both sides."""
    prompts, _ = trained.confirming
    graphs = [graph_of(trained, number) for number in prompts.counted_B.nonzero()[:GRAPHS, 0].tolist()]
    scored = [scores(graph) for graph in graphs]
    parts = [each.error_parts for each in scored]
    direct = [direct_edges(graph) for graph in graphs]

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(graphs)

    return GraphError(
        prompts=len(graphs),
        conservation=max(graph.conservation.max_relative_to_edges for graph in graphs),
        error_share=mean([each.error_share for each in scored]),
        no_coder=mean([each.no_coder for each in parts]),
        coder_error=mean([each.coder_error for each in parts]),
        position_0=mean([each.position_0 for each in parts]),
        direct={name: mean([each[name] for each in direct]) for name in direct[0]},
    )


def graph_of(trained: Trained, number: int) -> Graph:
    """Of the logit difference of one confirming prompt, all active features selected."""
    prompts, _ = trained.confirming
    model, decade = trained.model, int(prompts.decades_B[number])
    W_U_YD = model.anatomy.W_U_VD[prompts.digits_Y]
    vector_D = digit_weights()[decade].to(W_U_YD) @ W_U_YD
    return attribute(
        model,
        trained.coders,
        prompts.tokens_BT[number],
        max_logits=1,
        desired_logit_prob=1.0,
        max_nodes=10_000,
        targets_per_sweep=512,
        dtype=torch.float32,
        report=Silent(),
        targets=[Direction(f"digits above {decade} less those below", vector_D)],
    )


def direct_edges(graph: Graph) -> dict[str, float]:
    """Edges into the only target, summed by kind and place of their sources; `value` is what they add up to."""
    sources, weights = graph.edges.row(len(graph.nodes) - 1)
    nodes, sources = graph.nodes, sources.long()
    kind, layer, position = nodes.kind[sources], nodes.layer[sources], nodes.position[sources]
    here, is_coded = position == len(graph.tokens) - 1, torch.isin(layer, torch.tensor(graph.coder_layers))
    error = kind == int(NodeKind.ERROR)
    groups = {
        "features": (kind == int(NodeKind.FEATURE)) & here,
        "errors of coders": error & is_coded & here,
        "biases of coders": (kind == int(NodeKind.BIAS)) & is_coded & here,
        "MLPs without a coder": error & ~is_coded & here,
    }
    known = torch.stack(list(groups.values())).any(0)
    groups["other positions and embeddings"] = ~known
    return {name: float(weights[of].sum()) for name, of in groups.items()} | {"value": float(weights.sum())}


def agreeing(one: Trained, other: Trained, least: float = 0.7) -> int:
    """Of the found features of one set, those with a found feature of the same layer in the other whose decoder has at
    least that cosine with theirs."""
    matched = 0
    for layer, chosen in one.by_layer().items():
        theirs = other.by_layer().get(layer)
        if theirs:
            a_KD, b_MD = one.coders[layer].W_dec[chosen], other.coders[layer].W_dec[theirs]
            cosines_KM = torch.cosine_similarity(a_KD[:, None], b_MD[None], dim=-1)
            matched += int((cosines_KM.max(1).values >= least).sum())
    return matched
