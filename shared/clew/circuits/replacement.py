"""A prompt's frozen network: one recorded forward pass, every MLP rewritten as features, error and bias.

Shape letters: T position, D residual stream, H heads, K key-value heads, E head dimension, N targets; S slots, the
things that can be active at one layer and position: its features, its error, the coder's decoder bias.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from clew.circuits.graph import NodeKind, Nodes
from clew.models import Model, Recording, record
from clew_spec.errors import InvalidSpec


class Coder(Protocol):
    """What attribution asks of a coder; see `clew.coders`."""

    @property
    def layer(self) -> int: ...
    @property
    def W_enc(self) -> Tensor: ...
    @property
    def W_dec(self) -> Tensor: ...
    @property
    def b_dec(self) -> Tensor: ...

    def encode(self, x_ND: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class LayerSources:
    """Who writes at one layer. Columns are node indices; the column after the last node stands for nobody."""

    error_TD: Tensor
    error_columns_T: Tensor
    bias_columns_T: Tensor
    ids_TS: Tensor | None
    """Features by ascending index; None without a coder."""
    z_TS: Tensor
    feature_columns_TS: Tensor


@dataclass(frozen=True)
class LogitTargets:
    token_ids: list[int]
    probabilities: list[float]
    vectors_ND: Tensor
    """Unembedding rows less their mean over the vocabulary."""
    biases_N: Tensor | None
    """The unembedding's own bias, treated alike."""


class FrozenNetwork:
    """The model on one prompt with attention patterns, norm scales and MLP outputs frozen: linear from nodes to nodes.

    Nodes are numbered in topological order: tokens; for each layer biases, errors, features; the final bias; logits.
    """

    def __init__(
        self,
        model: Model,
        coders: Mapping[int, Coder],
        tokens_T: Tensor,
        *,
        max_logits: int,
        desired_logit_prob: float,
        dtype: torch.dtype,
    ) -> None:
        _check(model, coders, tokens_T)
        self.anatomy, self.dtype, self.device = model.anatomy, dtype, model.device
        self.coders = dict(sorted(coders.items()))
        self.tokens_T = tokens_T.to("cpu", torch.int64)
        self.seen: Recording = record(model.hf, model.anatomy, tokens_T)
        self.logits = self._choose_logits(max_logits, desired_logit_prob)
        self.attention_biases = [self._attention_bias(layer) for layer in range(model.n_layers)]
        self.layers: list[LayerSources] = []
        self.nodes = self._number_nodes()

    @property
    def n_tokens(self) -> int:
        return len(self.tokens_T)

    @property
    def nobody(self) -> int:
        """The column that is no node's."""
        return len(self.nodes)

    def cast(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype)

    def _attention_bias(self, layer: int) -> Tensor | None:
        bias_TD = self.anatomy.blocks[layer].attention.bias_TD(self.seen.layers[layer].pattern_HTT)
        return None if bias_TD is None else self.cast(bias_TD)

    def _choose_logits(self, max_logits: int, desired_logit_prob: float) -> LogitTargets:
        """The fewest most likely next tokens that reach the desired probability, at most `max_logits`."""
        probabilities_V = self.seen.logits_TV[-1].double().softmax(-1)
        top = probabilities_V.topk(min(max_logits, len(probabilities_V)))
        n = int((top.values.cumsum(0) < desired_logit_prob).sum()) + 1
        ids_N = top.indices[:n]
        W_U_VD, b_U_V = self.anatomy.W_U_VD, self.anatomy.b_U_V
        mean_D = W_U_VD.mean(0, dtype=torch.float64)
        return LogitTargets(
            token_ids=ids_N.tolist(),
            probabilities=top.values[:n].tolist(),
            vectors_ND=self.cast(W_U_VD[ids_N].double() - mean_D),
            biases_N=None if b_U_V is None else self.cast(b_U_V[ids_N].double() - b_U_V.mean(dtype=torch.float64)),
        )

    def _number_nodes(self) -> Nodes:
        table = _NodeTable()
        every_T = torch.arange(self.n_tokens)
        table.add(NodeKind.TOKEN, -1, every_T, self.cast(self.seen.embed_TD).norm(dim=-1), token_ids=self.tokens_T)
        for layer in range(len(self.anatomy.blocks)):
            self.layers.append(self._sources(layer, table))
        if self.logits.biases_N is not None:
            nowhere = torch.tensor([-1])
            table.add(NodeKind.BIAS, len(self.layers), nowhere, self.logits.biases_N.norm()[None])
        last_N = torch.full((len(self.logits.token_ids),), self.n_tokens - 1)
        final_D = self.seen.final_out_TD[-1].double()
        self.logit_values = (self.logits.vectors_ND.double() @ final_D).cpu()
        if self.logits.biases_N is not None:
            self.logit_values += self.logits.biases_N.double().cpu()
        ids_N = torch.tensor(self.logits.token_ids)
        self.first_logit = table.size
        table.add(NodeKind.LOGIT, len(self.layers), last_N, self.logit_values, token_ids=ids_N)
        nobody = table.size
        for sources in self.layers:
            for columns in (sources.error_columns_T, sources.bias_columns_T, sources.feature_columns_TS):
                columns[columns < 0] = nobody
        return table.finish(self.dtype)

    def _sources(self, layer: int, table: "_NodeTable") -> LayerSources:
        """What the MLP and the attention biases of a layer write, numbered."""
        T = self.n_tokens
        coder, out_TD = self.coders.get(layer), self.cast(self.seen.layers[layer].mlp_out_TD)
        ids_TS, z_TS = None, out_TD.new_zeros(T, 0)
        error_TD = out_TD
        attention_bias_TD = self.attention_biases[layer]
        bias_TD = torch.zeros_like(out_TD) if attention_bias_TD is None else attention_bias_TD.clone()
        if coder is not None:
            ids_TS, z_TS = self._encode(coder, layer)
            written_TD = torch.einsum("ts,tsd->td", z_TS, self.cast(coder.W_dec)[ids_TS])
            written_TD[1:] += self.cast(coder.b_dec)
            error_TD = out_TD - written_TD
            bias_TD[1:] += self.cast(coder.b_dec)

        has_bias_T = bias_TD.any(-1).cpu()
        bias_columns_T = torch.full((T,), -1)
        bias_columns_T[has_bias_T] = table.add(
            NodeKind.BIAS, layer, has_bias_T.nonzero()[:, 0], bias_TD.norm(dim=-1).cpu()[has_bias_T]
        )
        error_columns_T = table.add(NodeKind.ERROR, layer, torch.arange(T), error_TD.norm(dim=-1))
        feature_columns_TS = torch.full(z_TS.shape, -1)
        if ids_TS is not None:
            active_TS = (z_TS != 0).cpu()
            position, slot = active_TS.nonzero(as_tuple=True)
            feature_columns_TS[position, slot] = table.add(
                NodeKind.FEATURE, layer, position, z_TS.cpu()[active_TS], features=ids_TS.cpu()[active_TS]
            )
        return LayerSources(error_TD, error_columns_T, bias_columns_T, ids_TS, z_TS, feature_columns_TS)

    def _encode(self, coder: Coder, layer: int) -> tuple[Tensor, Tensor]:
        """Features by index and activation, slots sorted by index; none at position 0, where coders do not apply."""
        x_TD = self.seen.layers[layer].mlp_in_TD
        found_TS, z_TS = coder.encode(x_TD.to(coder.W_enc.device, coder.W_enc.dtype))
        order_TS = found_TS.argsort(dim=-1)
        z_TS = self.cast(z_TS.gather(-1, order_TS))
        z_TS[0] = 0
        return found_TS.gather(-1, order_TS).to(coder.W_dec.device), z_TS

    def writers(self, layer: int, n_positions: int) -> tuple[Tensor, Tensor]:
        """What is written at `layer` after its MLP norm: vectors [T, S, D] and their columns [T, S]."""
        T, here = n_positions, self.layers[layer]
        vectors, columns = [here.error_TD[:T, None]], [here.error_columns_T[:T, None]]
        coder = self.coders.get(layer)
        if coder is not None and here.ids_TS is not None:
            decoders_TSD = self.cast(coder.W_dec[here.ids_TS[:T]]) * here.z_TS[:T, :, None]
            decoder_bias_T1D = self.cast(coder.b_dec).expand(T, 1, -1).clone()
            decoder_bias_T1D[0] = 0
            vectors += [decoder_bias_T1D, decoders_TSD]
            columns += [here.bias_columns_T[:T, None], here.feature_columns_TS[:T]]
        return torch.cat(vectors, 1), torch.cat(columns, 1)

    def encoders(self, layer: int, features_N: Tensor, positions_N: Tensor) -> Tensor:
        """[N, D]: what features read in the residual stream between attention and MLP, norm gain and scale folded."""
        W_enc = self.coders[layer].W_enc
        scale_N1 = self.cast(self.seen.layers[layer].mlp_scale_T1[positions_N.to(self.device)])
        gain_D = self.cast(self.anatomy.blocks[layer].mlp_norm.gain_D)
        return self.cast(W_enc[features_N.to(W_enc.device)]) * gain_D * scale_N1

    def unembedders(self) -> Tensor:
        """[N, D]: what the logit targets read in the last residual stream at the last position."""
        return (
            self.logits.vectors_ND * self.cast(self.anatomy.final_norm.gain_D) * self.cast(self.seen.final_scale_T1[-1])
        )

    def feature_values(self, layer: int, features_N: Tensor, positions_N: Tensor) -> Tensor:
        """float64[N]: `x . w_enc` of features, from what the model's MLP read."""
        x_ND = self.seen.layers[layer].mlp_in_TD[positions_N.to(self.device)].double()
        W_enc = self.coders[layer].W_enc
        encoders_ND = W_enc[features_N.to(W_enc.device)].to(self.device).double()
        return (x_ND * encoders_ND).sum(-1)

    def through_attention(self, layer: int, g_TND: Tensor) -> Tensor:
        """The adjoint of one attention sublayer: [T, N, D] after it to [T, N, D] before its norm.

        `sum_h A_h^T (g W_O_h^T) W_V_h^T`, the query heads of one key-value head summed before W_V.
        """
        block, seen = self.anatomy.blocks[layer], self.seen.layers[layer]
        attention = block.attention
        T, N, D = g_TND.shape
        K, G, E = attention.n_kv_heads, attention.group, attention.W_V_KED.shape[1]
        pattern_HTT = self.cast(seen.pattern_HTT[:, :T, :T])
        to_source = pattern_HTT.view(K, G, T, T).permute(0, 3, 1, 2).reshape(K, T, G * T)
        heads = (g_TND.reshape(T * N, D) @ self.cast(attention.W_O_DHE).reshape(D, -1)).view(T, N, K, G, E)
        heads = heads.permute(2, 3, 0, 1, 4).reshape(K, G * T, N * E)
        values = torch.bmm(to_source, heads).view(K, T, N, E).permute(1, 2, 0, 3).reshape(T * N, K * E)
        W_V = self.cast(attention.W_V_KED).reshape(K * E, D) * self.cast(block.attn_norm.gain_D)
        return (values @ W_V).view(T, N, D) * self.cast(seen.attn_scale_T1[:T, :, None])


def _check(model: Model, coders: Mapping[int, Coder], tokens_T: Tensor) -> None:
    if not 1 <= len(tokens_T) <= model.max_context:
        raise InvalidSpec(
            f"the prompt has {len(tokens_T)} tokens", where="/spec/prompt", expected=f"1 to {model.max_context} tokens"
        )
    for layer, coder in coders.items():
        if not 0 <= layer < model.n_layers:
            raise InvalidSpec(f"there is a coder for layer {layer}, the model has {model.n_layers}")
        if coder.W_enc.shape[1] != model.d_model or coder.W_dec.shape[1] != model.d_model:
            raise InvalidSpec(
                f"the coder of layer {layer} reads {coder.W_enc.shape[1]} and writes {coder.W_dec.shape[1]} dimensions",
                expected=f"{model.d_model}, the width of the model",
            )


class _NodeTable:
    """Nodes in the order in which they are added."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[tuple[Tensor, ...]] = []

    def add(
        self,
        kind: NodeKind,
        layer: int,
        positions: Tensor,
        values: Tensor,
        *,
        features: Tensor | None = None,
        token_ids: Tensor | None = None,
    ) -> Tensor:
        """Their indices."""
        n = len(positions)
        none = torch.full((n,), -1)
        self._parts.append(
            (
                torch.full((n,), int(kind), dtype=torch.uint8),
                torch.full((n,), layer, dtype=torch.int32),
                positions.int(),
                (none if features is None else features).int(),
                (none if token_ids is None else token_ids).int(),
                values.cpu().double(),
            )
        )
        first, self.size = self.size, self.size + n
        return torch.arange(first, self.size)

    def finish(self, dtype: torch.dtype) -> Nodes:
        kind, layer, position, feature, token_id, value = (torch.cat(part) for part in zip(*self._parts, strict=True))
        return Nodes(kind, layer, position, feature, token_id, value.to(dtype))
