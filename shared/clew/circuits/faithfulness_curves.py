"""What becomes of the logits where only a graph's strongest features are kept, and where only those are ablated."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clew.circuits.graph import Graph, NodeKind
from clew.circuits.influence import node_influence
from clew.circuits.replacement import Coder, first_coded
from clew.circuits.verification import target_value
from clew.models import Model
from clew.models.recording import Hook, hooked, read_by, written_by
from clew.reporting import Report, StopRequested
from clew_spec.faithfulness import FRACTIONS, Ablation, CurvePoint, Curves


@torch.inference_mode()
def curves(model: Model, coders: Mapping[int, Coder], graph: Graph, ablation: Ablation, report: Report) -> Curves:
    """Over `FRACTIONS` of the graph's features, ranked by influence; the model is free. Raises StopRequested."""
    nodes = graph.nodes
    features = nodes.where(NodeKind.FEATURE).nonzero()[:, 0]
    ranked = features[node_influence(graph)[features].argsort(descending=True, stable=True)]
    ablated = _Ablated(model, coders, graph, ablation)
    whole, empty = ablated.value(ranked[:0]), ablated.value(ranked)
    points = []
    for done, fraction in enumerate(FRACTIONS):
        if report.stop_requested():
            raise StopRequested
        report.progress("curves", done, len(FRACTIONS), "points")
        n = round(fraction * len(ranked))
        keep, ablate = ablated.value(ranked[n:]), ablated.value(ranked[:n])
        points.append(CurvePoint(fraction=fraction, features=n, keep=keep, ablate=ablate))
    gap = whole - empty
    kept = torch.tensor([(point.keep - empty) / gap for point in points], dtype=torch.float64) if gap else None
    x = torch.tensor(FRACTIONS, dtype=torch.float64)
    return Curves(
        ablation=ablation,
        whole=whole,
        empty=empty,
        points=points,
        cpr=None if kept is None else float(torch.trapezoid(kept, x)),
        cmd=None if kept is None else float(torch.trapezoid((1 - kept).abs(), x)),
    )


class _Ablated:
    """The free model with features of a graph, each at its position, replaced by what stands in for them.

    What its MLPs have beside them stays, and so does a feature where it is silent on the prompt: no ranking has it, and
    were it taken out too, all of the graph would not be the model.
    """

    def __init__(self, model: Model, coders: Mapping[int, Coder], graph: Graph, ablation: Ablation) -> None:
        self._model, self._coders, self._nodes = model, coders, graph.nodes
        self._tokens_T = torch.tensor(graph.token_ids, device=model.device)
        self._graph = graph
        self._weights = graph.start[graph.nodes.where(NodeKind.LOGIT)]
        self._coded = first_coded(graph.position_0)
        self._fill: dict[int, Tensor] = {}
        if ablation == "mean":
            self._run(torch.arange(0), self._keep_mean)

    def value(self, ablated: Tensor) -> float:
        """The targets' values, by the targets' probabilities, without the features that these nodes are.

        Raises InvalidSpec for a direction that the graph does not keep.
        """
        logits_V, final_D = (last.double().cpu() for last in self._run(ablated))
        values = torch.stack([target_value(self._graph, k, logits_V, final_D) for k in range(len(self._graph.targets))])
        return float(values @ self._weights)

    def _keep_mean(self, layer: int, z_TF: Tensor) -> None:
        self._fill[layer] = z_TF[self._coded :].mean(0) if len(z_TF) > self._coded else torch.zeros_like(z_TF[0])

    def _run(self, ablated: Tensor, seen: Callable[[int, Tensor], None] | None = None) -> tuple[Tensor, Tensor]:
        """[V]: last logits before a cap; [D]: what they are read from."""
        anatomy = self._model.anatomy
        read: dict[int, Tensor] = {}
        later: dict[int, Tensor] = {}
        last: list[Tensor] = []

        def keep_read(layer: int) -> Any:
            def hook(_m: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
                read[layer] = read_by(args, kwargs)[0]

            return hook

        def write(layer: int) -> Any:
            def hook(_m: nn.Module, _args: Any, _kwargs: Any, output: Any) -> Tensor:
                out_TD = written_by(output)[0]
                if layer in later:
                    out_TD = out_TD + later[layer]
                if layer in self._coders:
                    coder = self._coders[layer]
                    change_TF = self._change(layer, read[layer], ablated, seen)
                    out_TD = out_TD + (change_TF @ coder.W_dec).to(out_TD)
                    for above, W_FD in coder.W_later.items():
                        later[above] = later.get(above, 0) + (change_TF @ W_FD).to(out_TD)
                return out_TD[None]

            return hook

        def keep_last(_m: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            last.extend((output[0, -1], read_by(args, kwargs)[0, -1]))

        hooks: list[Hook] = [(anatomy.unembed, keep_last)]
        for layer, block in enumerate(anatomy.blocks):
            hooks += [(block.mlp, keep_read(layer)), (block.mlp_writer, write(layer))]
        with hooked(*hooks):
            self._model.hf(input_ids=self._tokens_T[None], use_cache=False)
        return last[0], last[1]

    def _change(self, layer: int, x_TD: Tensor, ablated: Tensor, seen: Callable[[int, Tensor], None] | None) -> Tensor:
        """[T, F]: of activations."""
        coder = self._coders[layer]
        ids_TS, z_TS = coder.encode(x_TD.to(coder.W_enc.device, coder.W_enc.dtype))
        z_TF = torch.zeros(len(x_TD), len(coder.W_enc), dtype=z_TS.dtype, device=z_TS.device)
        z_TF.scatter_add_(1, ids_TS, z_TS)
        if seen is not None:
            seen(layer, z_TF)
        here = ablated[self._nodes.layer[ablated] == layer]
        position, feature = self._nodes.position[here].long(), self._nodes.feature[here].long()
        fill_F = self._fill.get(layer, torch.zeros_like(z_TF[0]))
        change_TF = torch.zeros_like(z_TF)
        change_TF[position, feature] = fill_F[feature] - z_TF[position, feature]
        return change_TF
