"""A prompt's frozen network: the linear maps between its nodes. Shape letters as in `clew.circuits.replacement`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from clew.circuits.first_position import FirstPosition
from clew.circuits.graph import NodeKind
from clew.circuits.numbering import number_nodes
from clew.circuits.replacement import (
    Coder,
    Replacement,
    decoders_into,
    first_skipped,
    replace_mlp,
    written,
)
from clew.circuits.targets import Direction, Token, likeliest, read_targets
from clew.models import Model, record
from clew_spec.chunks import KEPT_BYTES
from clew_spec.errors import InvalidSpec
from clew_spec.graph import Position0


class FrozenNetwork:
    """The model on one prompt with attention patterns, norm scales and MLP outputs as they were."""

    def __init__(
        self,
        model: Model,
        coders: Mapping[int, Coder],
        tokens_T: Tensor,
        *,
        max_logits: int,
        desired_logit_prob: float,
        dtype: torch.dtype,
        position_0: Position0 = "error",
        targets: Sequence[Token | Direction] | None = None,
    ) -> None:
        _check(model, coders, tokens_T)
        self.anatomy, self.device, self.dtype, self.coders = model.anatomy, model.device, dtype, coders
        self.position_0 = position_0
        self.seen = record(model.hf, model.anatomy, tokens_T)
        self.layers: list[Replacement] = []
        for layer in range(model.n_layers):
            self.layers.append(
                replace_mlp(
                    model.anatomy,
                    self.seen,
                    layer,
                    coders.get(layer),
                    dtype,
                    from_below_TD=self._from_below(layer),
                    position_0=position_0,
                )
            )
        if targets is None:
            targets = likeliest(self.seen, max_logits, desired_logit_prob)
        self.logits = read_targets(model.anatomy, self.seen, targets, dtype)
        self.embed_TD = self.seen.embed_TD.to(dtype)
        self.position_TD = None if self.seen.position_TD is None else self.seen.position_TD.to(dtype)
        self.nodes, self.columns = number_nodes(
            tokens_T.cpu(), self.embed_TD, self.position_TD, self.layers, self.logits, dtype
        )
        self.first_logit = int(self.nodes.where(NodeKind.LOGIT).nonzero()[0])
        self._kept: dict[int, Iterable[tuple[Tensor, Tensor]]] = {}
        self._room = KEPT_BYTES
        self.left_out = self.nodes.where(NodeKind.ERROR) & (self.nodes.position == 0) & (position_0 == "left-out")
        """bool[N]: nodes whose edges are not kept."""

    @cached_property
    def first_position(self) -> FirstPosition:
        return FirstPosition(self)

    @property
    def n_tokens(self) -> int:
        return len(self.embed_TD)

    @property
    def d_model(self) -> int:
        return self.embed_TD.shape[1]

    @property
    def writes_once(self) -> bool:
        """Whether each feature writes to its own layer alone."""
        return not any(coder.W_later for coder in self.coders.values())

    def writers(self, layer: int, last: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """What is written where the MLP of `layer` writes, at positions `first:last`: vectors [T, W, D] and their nodes
        [T, W]. Its error and bias, and the features of each coder that writes there; each node once."""
        written = self._kept.get(layer)
        if written is None:
            written = self._keep(layer)
        for vectors_TWD, nodes_TW in written:
            yield vectors_TWD[first:last], nodes_TW[first:last]

    def _keep(self, layer: int) -> Iterable[tuple[Tensor, Tensor]]:
        """What is written at a layer, kept for the next tile while there is room."""
        here = self.layers[layer]
        width = 2 + sum(self.layers[own].z_TS.shape[1] for own, _ in decoders_into(self.coders, layer))
        size = width * here.error_TD.numel() * here.error_TD.itemsize
        if size > self._room:
            return self._written(layer)
        self._room -= size
        self._kept[layer] = [*self._written(layer)]
        return self._kept[layer]

    def _written(self, layer: int) -> Iterator[tuple[Tensor, Tensor]]:
        here, columns = self.layers[layer], self.columns[layer]
        vectors = [torch.stack([here.error_TD, here.b_dec_TD], 1)]
        nodes = [torch.stack([columns.errors_T, columns.biases_T], 1)]
        for own, W_dec_FD in decoders_into(self.coders, layer):
            source = self.layers[own]
            vectors.append(W_dec_FD[source.ids_TS].to(here.error_TD) * source.z_TS[:, :, None])
            nodes.append(self.columns[own].features_TS)
            yield torch.cat(vectors, 1), torch.cat(nodes, 1).to(self.device)
            vectors, nodes = [], []
        if vectors:
            yield vectors[0], nodes[0].to(self.device)

    def _from_below(self, layer: int) -> Tensor | None:
        """[T, D]: what the features of lower layers write to this one; None if nothing can."""
        parts = [
            written(W_dec_FD, self.layers[own].ids_TS, self.layers[own].z_TS)
            for own, W_dec_FD in decoders_into(self.coders, layer)
            if own < layer
        ]
        return torch.stack(parts).sum(0) if parts else None

    def encoders(self, layer: int, features_N: Tensor, positions_N: Tensor) -> Tensor:
        """[N, D]: what features read in the residual stream before the MLP's norm, its gain and scale folded."""
        W_enc = self.coders[layer].W_enc
        scale_N1 = self.seen.layers[layer].mlp_scale_T1[positions_N.to(self.device)].to(self.dtype)
        encoders_ND = W_enc[features_N.to(W_enc.device)].to(self.device, self.dtype)
        return self.anatomy.blocks[layer].mlp_norm.fold(encoders_ND) * scale_N1

    def unembedders(self) -> Tensor:
        """[N, D]: what the logit targets read in the last residual stream at the last position."""
        folded_ND = self.anatomy.final_norm.fold(self.logits.vectors_ND)
        return folded_ND * self.seen.final_scale_T1[-1].to(self.dtype)

    def feature_values(self, layer: int, features_N: Tensor, positions_N: Tensor) -> Tensor:
        """float64[N] on the CPU: `x . w_enc` of features, from what the model's MLP read.

        The bias of the norm before the MLP is not in x: with `b_enc` it is the feature's own.
        """
        x_ND = self.seen.layers[layer].mlp_in_TD[positions_N.to(self.device)].double()
        bias_D = self.anatomy.blocks[layer].mlp_norm.bias_D
        if bias_D is not None:
            x_ND = x_ND - bias_D.double()
        W_enc = self.coders[layer].W_enc
        encoders_ND = W_enc[features_N.to(W_enc.device)].to(x_ND)
        return (x_ND * encoders_ND).sum(-1).cpu()

    def through_skip(self, layer: int, g_TND: Tensor, first: int = 0) -> Tensor | None:
        """The adjoint of a skip transcoder's linear path: [T, N, D] after the MLP, at the positions from `first`, to
        what it adds before its norm.

        None where there is no such path.
        """
        coder = self.coders.get(layer)
        if coder is None or coder.W_skip is None:
            return None
        scale_T11 = self.seen.layers[layer].mlp_scale_T1[first : first + len(g_TND), :, None].to(self.dtype)
        through_TND = self.anatomy.blocks[layer].mlp_norm.fold(g_TND @ coder.W_skip.to(g_TND)) * scale_T11
        through_TND[: max(0, first_skipped(self.position_0) - first)] = 0
        return through_TND

    def through_attention(self, layer: int, g_TND: Tensor) -> Tensor:
        """The adjoint of one attention sublayer: [T, N, D] after it to [T, N, D] before its norm.

        `sum_h A_h^T (g W_O_h^T) W_V_h^T`, the query heads of one key-value head summed before W_V, and the norms around
        it with their scales frozen.
        """
        return self.from_values(layer, self.to_values(layer, g_TND))

    def to_values(self, layer: int, g_TND: Tensor, first: int = 0) -> Tensor:
        """Its first half, down to the values: [T, N, D] at the positions from `first`, to [first + T, N, K*E] at the
        positions from 0."""
        block, seen = self.anatomy.blocks[layer], self.seen.layers[layer]
        attention = block.attention
        T, N, D = g_TND.shape
        last = first + T
        K, G, E = attention.n_kv_heads, attention.group, attention.W_V_KED.shape[1]
        if block.attn_post_norm is not None and seen.attn_post_scale_T1 is not None:
            g_TND = block.attn_post_norm.fold(g_TND) * seen.attn_post_scale_T1[first:last, :, None].to(self.dtype)
        pattern_HTT = seen.pattern_HTT[:, first:last, :last].to(self.dtype)
        to_source = pattern_HTT.view(K, G, T, last).permute(0, 3, 1, 2).reshape(K, last, G * T)
        heads = (g_TND.reshape(T * N, D) @ attention.W_O_DHE.to(self.dtype).reshape(D, -1)).view(T, N, K, G, E)
        heads = heads.permute(2, 3, 0, 1, 4).reshape(K, G * T, N * E)
        return torch.bmm(to_source, heads).view(K, last, N, E).permute(1, 2, 0, 3).reshape(last, N, K * E)

    def from_values(self, layer: int, values_TNE: Tensor, first: int = 0) -> Tensor:
        """Its second half: [T, N, K*E] at the positions from `first`, to [T, N, D] before the norm."""
        scale_T11 = self.seen.layers[layer].attn_scale_T1[first : first + len(values_TNE), :, None].to(self.dtype)
        return values_TNE @ self.W_V_ED(layer) * scale_T11

    def values(self, layer: int, x_ND: Tensor, at: slice) -> Tensor:
        """[N, K*E]: what the values of a layer's attention hold of what it reads at the positions `at`, without biases:
        N of them, or one for all of x."""
        return x_ND @ self.W_V_ED(layer).T * self.seen.layers[layer].attn_scale_T1[at].to(x_ND)

    def written_by_heads(self, layer: int, heads_NHE: Tensor, at: slice) -> Tensor:
        """[N, D]: what attention adds, at the positions `at`, for what its heads mixed, without biases."""
        block, seen = self.anatomy.blocks[layer], self.seen.layers[layer]
        out_ND = heads_NHE.flatten(1) @ block.attention.W_O_DHE.to(heads_NHE).flatten(1).T
        if block.attn_post_norm is None or seen.attn_post_scale_T1 is None:
            return out_ND
        return block.attn_post_norm.linear(out_ND, seen.attn_post_scale_T1[at].to(out_ND))

    def skipped(self, layer: int, x_ND: Tensor, at: slice) -> Tensor | None:
        """[N, D]: what a skip transcoder's linear path adds, at the positions `at`, for what is there before its norm,
        whose bias is left out. None where there is no such path."""
        coder = self.coders.get(layer)
        if coder is None or coder.W_skip is None:
            return None
        scale_T1 = self.seen.layers[layer].mlp_scale_T1[at].to(x_ND)
        return self.anatomy.blocks[layer].mlp_norm.linear(x_ND, scale_T1) @ coder.W_skip.to(x_ND).T

    def W_V_ED(self, layer: int) -> Tensor:
        """[K*E, D]: the value matrices of a layer with the gain of the norm before them folded."""
        block = self.anatomy.blocks[layer]
        return block.attn_norm.fold(block.attention.W_V_KED.to(self.dtype).flatten(0, 1))


def _check(model: Model, coders: Mapping[int, Coder], tokens_T: Tensor) -> None:
    if not 1 <= len(tokens_T) <= model.max_context:
        raise InvalidSpec(
            f"the prompt has {len(tokens_T)} tokens", where="/spec/prompt", expected=f"1 to {model.max_context} tokens"
        )
    if not ((tokens_T >= 0) & (tokens_T < len(model.anatomy.W_E_VD))).all():
        raise InvalidSpec(
            "the prompt has a token without an embedding",
            where="/spec/prompt",
            expected=f"token ids below {len(model.anatomy.W_E_VD)}",
        )
    check_coders(model, coders)


def check_coders(model: Model, coders: Mapping[int, Coder]) -> None:
    """Raises InvalidSpec for coders that do not stand in for MLPs of this model."""
    for layer, coder in coders.items():
        if not 0 <= layer < model.n_layers:
            raise InvalidSpec(f"there is a coder for layer {layer}, the model has {model.n_layers}")
        if coder.hooks != ("mlp.in", "mlp.out"):
            raise InvalidSpec(
                f"the coder of layer {layer} reads {coder.hooks[0]} and writes {coder.hooks[1]}",
                where="/spec/coders",
                expected="transcoders, which write mlp.out from mlp.in",
                hint="an SAE describes activations; it does not stand in for the MLP that makes them",
            )
        if missing := sorted({*coder.W_later} - {*coders}):
            raise InvalidSpec(
                f"the features of layer {layer} also write to the layers {missing}, for which there is no coder",
                where="/spec/coders",
                expected="all coders of a cross-layer transcoder",
            )
        if coder.W_enc.shape[1] != model.d_model or coder.W_dec.shape[1] != model.d_model:
            raise InvalidSpec(
                f"the coder of layer {layer} reads {coder.W_enc.shape[1]} and writes {coder.W_dec.shape[1]} dimensions",
                expected=f"{model.d_model}, the width of the model",
            )
