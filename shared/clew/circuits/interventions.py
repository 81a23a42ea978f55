"""Change what features write, and see what the model makes of it; what the graph predicts, against what happens.

Free: the change runs through everything above it, with attention, norms and MLPs answering. Frozen: patterns, norm
scales and MLP outputs stay as the prompt made them, so that only direct edges carry the change, exactly.
An MLP keeps its error: what is added to its output is the change of activation times the decoder; a feature of a
cross-layer transcoder adds to the output of every layer it writes to.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clew.circuits.graph import Graph, NodeKind
from clew.circuits.replacement import Coder, decoders_into, first_coded, first_skipped, require_feature
from clew.circuits.verification import movements, pinned_patterns
from clew.models import Model, Recording, record
from clew.models.recording import Hook, hooked, read_by, written_by
from clew_spec.errors import InvalidSpec
from clew_spec.graph import Position0


@dataclass(frozen=True)
class Edit:
    """One feature at one position or a slice of them; a slice without an end goes on into generated tokens.

    Where the first position of a prompt has no features, a slice passes over it.
    """

    layer: int
    feature: int
    position: int | slice
    operation: Literal["set", "scale", "ablate", "add"]
    value: float = 0.0

    def applied(self, z: Tensor) -> Tensor:
        match self.operation:
            case "set":
                return torch.full_like(z, self.value)
            case "scale":
                return z * self.value
            case "ablate":
                return torch.zeros_like(z)
            case "add":
                return z + self.value

    def positions(self, n_tokens: int, position_0: Position0 = "error") -> list[int]:
        """Ascending. Raises InvalidSpec for a position that is not in the prompt or has no features."""
        first = first_coded(position_0)
        if isinstance(self.position, slice):
            return sorted({*range(n_tokens)[self.position]} & {*range(first, n_tokens)})
        at = self.position + n_tokens if self.position < 0 else self.position
        if not first <= at < n_tokens:
            raise InvalidSpec(
                f"position {self.position} of {n_tokens} has no features to change",
                expected=f"{first} to {n_tokens - 1}, or counted from the end",
            )
        return [at]


@dataclass(frozen=True)
class State:
    """What the model computed on a prompt."""

    logits_TV: Tensor
    uncapped_TV: Tensor
    """Before the model's cap on logits; the same where it has none."""
    mlp_in: dict[int, Tensor]
    """[T, D] by layer, of the layers that have a coder."""
    final_TD: Tensor
    """What the unembedding reads."""

    def features(self, coder: Coder) -> tuple[Tensor, Tensor]:
        """(indices, activations) [T, slots] of one coder, as it encodes; an activation of 0 is an empty slot."""
        x_TD = self.mlp_in[coder.layer].to(coder.W_enc.device, coder.W_enc.dtype)
        return coder.encode(x_TD)

    def activation(self, coder: Coder, feature: int) -> Tensor:
        """[T]: of one feature, before any edit of its own."""
        ids, z = self.features(coder)
        return torch.where(ids == feature, z, 0).sum(-1)

    def top_tokens(self, k: int, position: int = -1) -> list[tuple[int, float]]:
        """The most likely next token ids and their probabilities."""
        top = self.logits_TV[position].double().softmax(-1).topk(k)
        return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


@dataclass(frozen=True)
class Effect:
    before: State
    after: State


@dataclass(frozen=True)
class Comparison:
    """Of every logit and every feature that has a row in the graph: how far it should move, and how far it did."""

    targets: Tensor
    """int64[R], node indices."""
    predicted: Tensor
    """float64[R]: edge times the relative change of its source, over all edits."""
    measured: Tensor
    """float64[R]: change of the pre-activation, or of the target's logit before a cap."""

    @property
    def correlation(self) -> float:
        """Pearson's, over the targets that are predicted to move."""
        moved = self.predicted != 0
        return float(torch.corrcoef(torch.stack([self.predicted[moved], self.measured[moved]]))[0, 1])


@torch.inference_mode()
def intervene(
    model: Model,
    coders: Mapping[int, Coder],
    tokens_T: Tensor,
    edits: Sequence[Edit],
    *,
    frozen: bool,
    position_0: Position0 = "error",
    before: State | None = None,
) -> Effect:
    """The model on a prompt without and with the edits, applied in order.

    `before` is the pass without them, where another effect of the same kind on this prompt has it already. Raises
    InvalidSpec for an edit of a layer without a coder, of a feature or a position that does not exist.
    """
    _check(coders, edits, len(tokens_T), position_0)
    seen = record(model.hf, model.anatomy, tokens_T) if frozen else None
    if before is None:
        before = _run(model, coders, tokens_T, (), seen, position_0)
    return Effect(before, _run(model, coders, tokens_T, edits, seen, position_0))


@torch.inference_mode()
def compare(
    model: Model,
    coders: Mapping[int, Coder],
    graph: Graph,
    edits: Sequence[Edit],
    *,
    frozen: bool,
    before: State | None = None,
) -> Comparison:
    """The graph's prediction against the model. Frozen they agree to rounding; free, as far as the freeze holds.

    `before` as in `intervene`. Raises InvalidSpec as it does, for a feature that is not active where it is edited (it
    has no edges), and for a direction whose vector the graph does not keep.
    """
    tokens_T = torch.tensor(graph.token_ids)
    effect = intervene(model, coders, tokens_T, edits, frozen=frozen, position_0=graph.position_0, before=before)
    nodes, edges = graph.nodes, graph.edges
    relative = torch.zeros(len(nodes), dtype=torch.float64)
    for source, changed in _changes(graph, edits).items():
        relative[source] = changed / nodes.value[source].double() - 1
    carrying = (relative != 0).index_select(0, edges.sources).nonzero()[:, 0]
    flow = edges.weights[carrying].double() * relative[edges.sources[carrying]]
    predicted = torch.zeros(len(edges.targets), dtype=torch.float64).index_add_(0, edges.row_of[carrying], flow)

    was, now = effect.before, effect.after
    moved = {layer: x_TD - was.mlp_in[layer] for layer, x_TD in now.mlp_in.items()}
    logits_V, final_D = now.uncapped_TV[-1] - was.uncapped_TV[-1], now.final_TD[-1] - was.final_TD[-1]
    measured = movements(graph, coders, edges.targets, moved, logits_V, final_D)
    return Comparison(edges.targets, predicted, measured)


@torch.inference_mode()
def continuation(
    model: Model,
    coders: Mapping[int, Coder],
    tokens_T: Tensor,
    edits: Sequence[Edit],
    n_tokens: int,
    *,
    position_0: Position0 = "error",
) -> list[int]:
    """The `n_tokens` most likely next tokens, one after another, with the edits in force throughout.

    Raises InvalidSpec as `intervene`, for a position counted from the end, and for more tokens than the model can read.
    """
    room = model.max_context - len(tokens_T) + 1  # the last one is not read
    if n_tokens > room:
        raise InvalidSpec(
            f"{n_tokens} tokens behind a prompt of {len(tokens_T)}", where="/spec/tokens", expected=f"at most {room}"
        )
    _check(coders, edits, len(tokens_T), position_0)
    ends = [(e.position.start, e.position.stop) if isinstance(e.position, slice) else (e.position,) for e in edits]
    if any(end is not None and end < 0 for pair in ends for end in pair):
        raise InvalidSpec("a position counted from the end would move as tokens are generated")
    grown_T = tokens_T
    for _ in range(n_tokens):
        logits_TV = _run(model, coders, grown_T, edits, None, position_0).logits_TV
        grown_T = torch.cat([grown_T, logits_TV[-1].argmax()[None].to(grown_T)])
    return grown_T[len(tokens_T) :].tolist()


def _changes(graph: Graph, edits: Sequence[Edit]) -> dict[int, float]:
    """Activation after the edits, by node."""
    nodes = graph.nodes
    features, changed = nodes.where(NodeKind.FEATURE), dict[int, float]()
    for edit in edits:
        for position in edit.positions(len(graph.tokens), graph.position_0):
            where = features & (nodes.layer == edit.layer) & (nodes.position == position)
            found = (where & (nodes.feature == edit.feature)).nonzero()[:, 0].tolist()
            if not found and edit.applied(torch.zeros(())) == 0:
                continue  # what is silent stays so
            if not found:
                raise InvalidSpec(
                    f"feature {edit.feature} of layer {edit.layer} is not active at position {position}: no edge "
                    "says what its change would do"
                )
            z = torch.tensor(changed.get(found[0], nodes.value[found[0]].item()), dtype=torch.float64)
            changed[found[0]] = edit.applied(z).item()
    return changed


def _check(coders: Mapping[int, Coder], edits: Sequence[Edit], n_tokens: int, position_0: Position0) -> None:
    for edit in edits:
        require_feature(coders, edit.layer, edit.feature)
        edit.positions(n_tokens, position_0)


def _run(
    model: Model,
    coders: Mapping[int, Coder],
    tokens_T: Tensor,
    edits: Sequence[Edit],
    seen: Recording | None,
    position_0: Position0,
) -> State:
    """One pass with edits; with `seen`, everything but the residual stream held at what was recorded."""
    anatomy, mlp_in, last = model.anatomy, dict[int, Tensor](), list[Tensor]()

    def read(layer: int) -> Any:
        def hook(_m: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
            mlp_in[layer] = read_by(args, kwargs)[0]

        return hook

    def write(layer: int) -> Any:
        def hook(_m: nn.Module, _args: Any, _kwargs: Any, output: Any) -> Tensor:
            out_TD = written_by(output)[0] if seen is None else seen.layers[layer].mlp_out_TD
            W_skip = coders[layer].W_skip if layer in coders else None
            if seen is not None and W_skip is not None:  # the one path through an MLP that a graph does not freeze
                moved_TD = mlp_in[layer] - seen.layers[layer].mlp_in_TD
                moved_TD[: first_skipped(position_0)] = 0
                out_TD = out_TD + moved_TD @ W_skip.to(moved_TD).T
            for own, W_dec_FD in decoders_into(coders, layer):
                here = [edit for edit in edits if edit.layer == own]
                if here:
                    # frozen, a feature is what it was on the clean prompt, as its MLP is
                    x_TD = mlp_in[own] if seen is None else seen.layers[own].mlp_in_TD
                    out_TD = out_TD + _change(coders[own], W_dec_FD, x_TD, here, position_0)
            return out_TD[None]

        return hook

    def keep_last(_m: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        last.extend((output[0], read_by(args, kwargs)[0]))

    hooks: list[Hook] = [(anatomy.unembed, keep_last)]
    for layer, block in enumerate(anatomy.blocks):
        hooks += [(block.mlp, read(layer)), (block.mlp_writer, write(layer))]
    with ExitStack() as stack:
        if seen is not None:
            hooks += _pinned_norms(model, seen)
            patterns = {
                b.attention.module: here.pattern_HTT for b, here in zip(anatomy.blocks, seen.layers, strict=True)
            }
            stack.enter_context(pinned_patterns(model, patterns))
        stack.enter_context(hooked(*hooks))
        logits_TV = model.hf(input_ids=tokens_T[None].to(model.device), use_cache=False).logits[0]
    return State(logits_TV, last[0], {layer: mlp_in[layer] for layer in coders}, last[1])


def _change(coder: Coder, W_dec_FD: Tensor, x_TD: Tensor, edits: Sequence[Edit], position_0: Position0) -> Tensor:
    """[T, D]: what the edits of one layer add to what it writes by one decoder, given what its MLP reads."""
    ids_TS, z_TS = coder.encode(x_TD.to(coder.W_enc.device, coder.W_enc.dtype))
    edited: dict[int, Tensor] = {}
    added_TD = torch.zeros_like(x_TD)
    for edit in edits:
        original_T = torch.where(ids_TS == edit.feature, z_TS, 0).sum(-1)
        z_T = edited.setdefault(edit.feature, original_T.clone())
        before_T = z_T.clone()
        at = edit.positions(len(x_TD), position_0)
        z_T[at] = edit.applied(z_T[at])
        added_TD += ((z_T - before_T)[:, None] * W_dec_FD[edit.feature].to(z_T)).to(added_TD)
    return added_TD


def _pinned_norms(model: Model, seen: Recording) -> list[Hook]:
    def pin(norm: Any, scale_T1: Tensor | None) -> Hook:
        def hook(_m: nn.Module, args: Any, kwargs: Any, _output: Any) -> Any:
            return norm.apply(read_by(args, kwargs), scale_T1)

        return norm.module, hook

    hooks = [pin(model.anatomy.final_norm, seen.final_scale_T1)]
    for block, here in zip(model.anatomy.blocks, seen.layers, strict=True):
        hooks += [pin(block.attn_norm, here.attn_scale_T1), pin(block.mlp_norm, here.mlp_scale_T1)]
        if block.attn_post_norm is not None:
            hooks.append(pin(block.attn_post_norm, here.attn_post_scale_T1))
    return hooks
