"""Check edges by intervention, in code that shares nothing with the sweep.

A float64 copy of the model runs its own forward pass with attention patterns, norm scales and MLP outputs held at what
they were; what one source writes is doubled, and every target must move by its edge. The freeze makes that exact.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from clew.circuits.graph import Graph, NodeKind
from clew.circuits.replacement import Coder
from clew.models import Model, prepare_model
from clew.models.anatomy import Norm
from clew.models.recording import Hook, hooked, read_by, written_by
from clew_spec.graph import Position0

PINNED = "clew-pinned"
ROWS = 16
"""Sources doubled in one forward pass, each in its own row of the batch."""
TARGETS = 256
"""Features whose encoders are gathered at once."""


@dataclass(frozen=True)
class EdgeCheck:
    source: int
    target: int
    predicted: float
    """The edge."""
    measured: float
    """How far the target moved when the source was doubled."""

    @property
    def relative_error(self) -> float:
        return abs(self.measured - self.predicted) / abs(self.predicted)


def verify_edges(
    model: Model,
    coders: Mapping[int, Coder],
    graph: Graph,
    tokens_T: Tensor,
    n: int = 50,
    seed: int = 0,
    min_share: float = 1e-4,
) -> list[EdgeCheck]:
    """Measure `n` random edges, drawn evenly from those above `min_share` of their row's sum of |edges|."""
    edges, nodes = graph.edges, graph.nodes
    unembedding_bias = nodes.where(NodeKind.BIAS) & (nodes.layer == graph.n_layers)  # nothing upstream to double
    unmeasured = unembedding_bias[edges.sources.long()]
    if graph.directions is None:
        unmeasured |= (nodes.where(NodeKind.LOGIT) & (nodes.token_id < 0))[edges.target_of]
    eligible = ((edges.shares >= min_share) & ~unmeasured).nonzero()[:, 0]
    order = torch.randperm(len(eligible), generator=torch.Generator().manual_seed(seed))
    chosen = eligible[order[:n]].sort().values
    sources, targets = edges.sources[chosen].long(), edges.target_of[chosen]
    distinct, row_of = torch.unique(sources, return_inverse=True)
    effects = measure(model, coders, graph, tokens_T, distinct, targets)
    measured = effects[row_of, torch.arange(len(chosen))]
    columns = (sources.tolist(), targets.tolist(), edges.weights[chosen].tolist(), measured.tolist())
    return [EdgeCheck(*values) for values in zip(*columns, strict=True)]


@torch.inference_mode()
def measure(
    model: Model,
    coders: Mapping[int, Coder],
    graph: Graph,
    tokens_T: Tensor,
    sources: Tensor,
    targets: Tensor,
) -> Tensor:
    """float64 [sources, targets]: how far each target moves when a source is doubled. Both are node indices.

    A source is a token, feature, error or bias (but not the unembedding's); a target a feature or a logit, of which
    the pre-activation and the target's value are read. Raises InvalidSpec for a direction that the graph does not keep.
    """
    pinned = _PinnedModel(model, tokens_T)
    extras = [_Extra.of(graph, coders, pinned, int(source)) for source in sources]
    effects = [pinned.read(extras[i : i + ROWS], graph, coders, targets) for i in range(0, len(extras), ROWS)]
    return torch.cat(effects) if effects else torch.zeros(0, len(targets), dtype=torch.float64)


@dataclass(frozen=True)
class _Extra:
    """What doubling a source adds at one position: a vector to the embedding, vectors to what MLPs write, by layer,
    or whatever the attention of `layer` writes of itself, with nothing to read."""

    position: int
    layer: int = -1
    embed_D: Tensor | None = None
    mlp: Mapping[int, Tensor] = field(default_factory=dict)
    attention_bias: bool = False

    @staticmethod
    def of(graph: Graph, coders: Mapping[int, Coder], pinned: "_PinnedModel", source: int) -> "_Extra":
        nodes = graph.nodes
        kind, layer, position = int(nodes.kind[source]), int(nodes.layer[source]), int(nodes.position[source])
        if kind == NodeKind.TOKEN:
            return _Extra(position, embed_D=pinned.embed_TD[position])
        if kind == NodeKind.POSITION:
            return _Extra(position, embed_D=pinned.position_TD[position])
        coder = coders.get(layer)
        if kind == NodeKind.FEATURE:
            assert coder is not None
            z, feature = nodes.value[source].to(pinned.embed_TD), int(nodes.feature[source])
            decoders = {layer: coder.W_dec, **coder.W_later}
            return _Extra(position, layer, mlp={k: z * W_dec_FD[feature].to(z) for k, W_dec_FD in decoders.items()})
        b_dec = torch.zeros_like(pinned.embed_TD[0])
        if coder is not None and (position > 0 or graph.position_0 == "features"):
            b_dec = coder.b_dec.to(b_dec)
        skip_D = torch.zeros_like(b_dec)
        if coder is not None and coder.W_skip is not None and (position > 0 or graph.position_0 != "error"):
            skip_D = coder.W_skip.to(b_dec) @ pinned.mlp_in[layer][position]
            norm_bias_D = pinned.model.anatomy.blocks[layer].mlp_norm.bias_D
            if norm_bias_D is not None:  # read by the skip path on any prompt: part of the bias
                bias_D = coder.W_skip.to(b_dec) @ norm_bias_D
                b_dec, skip_D = b_dec + bias_D, skip_D - bias_D
        if kind == NodeKind.BIAS:
            return _Extra(position, layer, mlp={layer: b_dec}, attention_bias=True)
        error_D = pinned.mlp_out[layer][position] - b_dec - skip_D
        here = nodes.where(NodeKind.FEATURE) & (nodes.position == position) & (nodes.layer <= layer)
        for feature in here.nonzero()[:, 0].tolist():
            written = _Extra.of(graph, coders, pinned, feature).mlp
            error_D = error_D - written.get(layer, torch.zeros_like(error_D))
        return _Extra(position, layer, mlp={layer: error_D})


class _PinnedModel:
    def __init__(self, model: Model, tokens_T: Tensor) -> None:
        hf = copy.deepcopy(model.hf)
        self.model = prepare_model(cast(Any, nn.Module.to(hf, torch.float64)))
        self.tokens_T = tokens_T.to(model.device)
        self.mlp_in: dict[int, Tensor] = {}
        self.mlp_out: dict[int, Tensor] = {}
        self._gains: dict[nn.Module, Tensor] = {}
        anatomy = self.model.anatomy
        self._norms = {norm.module: norm for norm in anatomy.frozen_norms}
        self._biases = {block.attention.module: block.attn_norm.bias_D for block in anatomy.blocks}

        def keep_embed(_m: nn.Module, _a: Any, _k: Any, output: Tensor) -> None:
            self.embed_TD = output[0]

        def keep_position(_m: nn.Module, _a: Any, _k: Any, output: Tensor) -> None:
            self.position_TD = output[0]

        def keep_read(layer: int) -> Callable[..., None]:
            def hook(_m: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
                self.mlp_in[layer] = read_by(args, kwargs)[0]

            return hook

        def keep_written(layer: int) -> Callable[..., None]:
            def hook(_m: nn.Module, _a: Any, _k: Any, output: Any) -> None:
                self.mlp_out[layer] = written_by(output)[0]

            return hook

        def keep_norm(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            # the one factor per position by which the module multiplied, read off its input and output
            norm = self._norms[module]
            plain_TD = _centred(norm, read_by(args, kwargs)[0]) * norm.gain_D
            unbiased_TD = output[0] if norm.bias_D is None else output[0] - norm.bias_D
            scale_T1 = (unbiased_TD * plain_TD).sum(-1, keepdim=True) / plain_TD.pow(2).sum(-1, keepdim=True)
            self._gains[module] = scale_T1 * norm.gain_D

        hooks: list[Hook] = [(anatomy.embed, keep_embed)]
        if anatomy.position_embed is not None:
            hooks.append((anatomy.position_embed, keep_position))
        hooks += [(block.mlp, keep_read(i)) for i, block in enumerate(anatomy.blocks)]
        hooks += [(block.mlp_writer, keep_written(i)) for i, block in enumerate(anatomy.blocks)]
        hooks += [(module, keep_norm) for module in self._norms]
        with hooked(*hooks):
            clean: Any = self.model.hf(input_ids=self.tokens_T[None], use_cache=False, output_attentions=True)
        self._patterns = {
            block.attention.module: pattern[0] for block, pattern in zip(anatomy.blocks, clean.attentions, strict=True)
        }
        for block in anatomy.blocks:
            block.mlp.forward = _untouched  # its output is replaced by the recorded one

    def read(self, extras: Sequence[_Extra], graph: Graph, coders: Mapping[int, Coder], targets: Tensor) -> Tensor:
        """float64 [extras, targets]: target values with each extra, less those without."""
        mlp_in, logits_BV, final_BD = self._run(extras, coders, graph.position_0)
        moved_BV, final_BD = logits_BV[:-1] - logits_BV[-1], final_BD[:-1] - final_BD[-1]
        moved = {layer: x_BTD[:-1] - x_BTD[-1] for layer, x_BTD in mlp_in.items()}
        return movements(graph, coders, targets, moved, moved_BV, final_BD)

    def _run(
        self, extras: Sequence[_Extra], coders: Mapping[int, Coder], position_0: Position0
    ) -> tuple[dict[int, Tensor], Tensor, Tensor]:
        """One row of the batch for each extra and a last one without; MLP inputs by layer, last logits, and what they
        are read from."""
        B = len(extras) + 1
        mlp_in: dict[int, Tensor] = {}
        last: list[Tensor] = []

        def embed(_m: nn.Module, _a: Any, _k: Any, output: Tensor) -> Tensor:
            output = output.clone()
            for b, extra in enumerate(extras):
                if extra.embed_D is not None:
                    output[b, extra.position] += extra.embed_D
            return output

        def mlp_read(layer: int) -> Callable[..., None]:
            def hook(_m: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
                mlp_in[layer] = read_by(args, kwargs)

            return hook

        def mlp(layer: int) -> Callable[..., Tensor]:
            def hook(_m: nn.Module, _args: Any, _kwargs: Any, _output: Any) -> Tensor:
                out_BTD = self.mlp_out[layer].expand(B, -1, -1).clone()
                coder = coders.get(layer)
                if coder is not None and coder.W_skip is not None:  # the one path through an MLP that is not pinned
                    moved_BTD = mlp_in[layer] - self.mlp_in[layer]
                    first = 1 if position_0 == "error" else 0
                    out_BTD[:, first:] += moved_BTD[:, first:] @ coder.W_skip.to(out_BTD).T
                for b, extra in enumerate(extras):
                    if layer in extra.mlp:
                        out_BTD[b, extra.position] += extra.mlp[layer]
                return out_BTD

            return hook

        def attention(layer: int) -> Callable[..., Any]:
            def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
                doubled = [(b, e.position) for b, e in enumerate(extras) if e.layer == layer and e.attention_bias]
                if not doubled:
                    return output
                nothing = torch.zeros_like(read_by(args, kwargs))
                bias_D = self._biases[module]
                if bias_D is not None:
                    nothing = nothing + bias_D
                rest = {k: v for k, v in kwargs.items() if k != "hidden_states"}
                alone_BTD = written_by(module.forward(nothing, *args[1:], **rest))
                out_BTD = written_by(output).clone()
                for b, position in doubled:
                    out_BTD[b, position] += alone_BTD[b, position]
                return (out_BTD, *output[1:])

            return hook

        def norm(module: nn.Module, args: Any, kwargs: Any, _output: Any) -> Tensor:
            described = self._norms[module]
            y_BTD = _centred(described, read_by(args, kwargs)) * self._gains[module]
            return y_BTD if described.bias_D is None else y_BTD + described.bias_D

        def uncapped(_m: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            last.extend((output[:, -1], read_by(args, kwargs)[:, -1]))

        anatomy = self.model.anatomy
        hooks: list[Hook] = [(anatomy.embed, embed)]
        hooks += [(block.mlp, mlp_read(i)) for i, block in enumerate(anatomy.blocks)]
        hooks += [(block.mlp_writer, mlp(i)) for i, block in enumerate(anatomy.blocks)]
        hooks += [(block.attention.module, attention(i)) for i, block in enumerate(anatomy.blocks)]
        hooks += [(module, norm) for module in self._norms]
        hooks.append((anatomy.unembed, uncapped))
        with pinned_patterns(self.model, self._patterns), hooked(*hooks):
            tokens_BT = self.tokens_T.expand(B, -1)
            self.model.hf(input_ids=tokens_BT, use_cache=False, logits_to_keep=1)
        return mlp_in, last[0], last[1]


def movements(
    graph: Graph,
    coders: Mapping[int, Coder],
    targets: Tensor,
    mlp_in: Mapping[int, Tensor],
    logits_BV: Tensor,
    final_BD: Tensor,
) -> Tensor:
    """float64 [..., targets] on the CPU: how far features and logits move where what they read moves as told.

    That is, where MLP inputs [..., T, D] do, by layer, and the last logits and what the unembedding reads, as in
    `target_value`. Raises InvalidSpec for a direction that the graph does not keep.
    """
    nodes = graph.nodes
    moved = torch.empty(*logits_BV.shape[:-1], len(targets), dtype=torch.float64)
    logits_BV, final_BD = logits_BV.double(), final_BD.double()
    of_logit = nodes.where(NodeKind.LOGIT)[targets]
    for column in of_logit.nonzero()[:, 0].tolist():
        which = graph.target(int(targets[column]))
        moved[..., column] = target_value(graph, which, logits_BV, final_BD).cpu()
    for layer, coder in coders.items():
        columns = (~of_logit & (nodes.layer[targets] == layer)).nonzero()[:, 0]
        for some in columns.split(TARGETS):
            position, feature = nodes.position[targets[some]].long(), nodes.feature[targets[some]].long()
            read_BND = mlp_in[layer][..., position, :].double()
            moved[..., some] = torch.einsum("...nd,nd->...n", read_BND, coder.W_enc[feature].to(read_BND)).cpu()
    return moved


def target_value(graph: Graph, which: int, logits_BV: Tensor, final_BD: Tensor) -> Tensor:
    """[...]: the value of one of the graph's targets, from logits [..., V] before a cap and what the unembedding reads
    [..., D], both linear in it. Raises InvalidSpec for a direction that the graph does not keep."""
    target = graph.targets[which]
    if target.token_id < 0:
        return final_BD @ graph.direction(which).to(final_BD)
    other_B = logits_BV.mean(-1) if target.minus_id is None else logits_BV[..., target.minus_id]
    return logits_BV[..., target.token_id] - other_B


def _centred(norm: Norm, x_TD: Tensor) -> Tensor:
    return x_TD - x_TD.mean(-1, keepdim=True) if norm.centred else x_TD


def _untouched(x: Tensor) -> Tensor:
    return x


@contextmanager
def pinned_patterns(model: Model, patterns: Mapping[nn.Module, Tensor]) -> Iterator[None]:
    """Attention multiplies these patterns with its values, whatever its queries and keys say."""

    def attend(module: nn.Module, _query: Tensor, _key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
        groups = getattr(module, "num_key_value_groups", 1)
        mixed_BHTE = patterns[module] @ value.repeat_interleave(groups, dim=1)
        return mixed_BHTE.transpose(1, 2).contiguous(), patterns[module]

    AttentionInterface.register(PINNED, attend)
    # an implementation without a mask function runs without a causal mask; the patterns hold it already, yet
    # nothing that reads the mask should ever see none
    AttentionMaskInterface.register(PINNED, eager_mask)
    model.hf.set_attn_implementation(PINNED)
    try:
        yield
    finally:
        model.hf.set_attn_implementation("eager")
