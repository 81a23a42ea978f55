"""A circuit written by hand into the weights of a toy, in several architectures.

    A --> SEES_A (layer 0) --> TWO (layer 1) --> head 1 of layer 2 --> JOINS (layer 3) --> ANSWER
    B --> SEES_B (layer 0) -------------------------- inhibits ------> JOINS

The MLPs are ReLU networks that the coders equal, so nothing is left to errors. Directions are zero-mean and
orthogonal, so a LayerNorm subtracts nothing from them. Every layer also has decoy features, active and inactive, that
read and write directions of their own, and tokens have those directions in them. Parallel blocks also have a trap: a
head of layer 3 that would carry SEES_A to JOINS if the MLP of that layer read its attention.
"""

from math import sqrt
from typing import Any, cast

import torch
from tests.clew.toys import ToyCoder
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from clew.models import Model, prepare_model
from clew.models.anatomy import describe

D, LAYERS, HEADS, VOCAB, FEATURES = 16, 4, 4, 12, 10
A, B, ANSWER, OTHER, OPPOSITE = 3, 4, 7, 8, 9
TOKENS_T = torch.tensor([5, 6, A, 10, 11, B])
SEES_A, SEES_B, TWO, JOINS = (0, 4), (0, 7), (1, 2), (3, 5)
"""(layer, feature)"""
HEAD, TRAP = (2, 1), (3, 0)
GAIN, ATTENTION, INHIBITION = 1.3, 12.0, 0.4
"""Of every norm, of the head, of the inhibitory edge."""

_COMMON: dict[str, Any] = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
_SIZES: dict[str, Any] = {
    "hidden_size": D,
    "intermediate_size": FEATURES,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 32,
    "hidden_act": "relu",
}
KINDS: dict[str, Any] = {
    "RMSNorm, sequential": lambda: LlamaForCausalLM(LlamaConfig(**_COMMON, **_SIZES, mlp_bias=True)),
    "LayerNorm, sequential": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(**_COMMON, **_SIZES, use_parallel_residual=False)
    ),
    "LayerNorm, parallel": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**_COMMON, **_SIZES, use_parallel_residual=True)),
    "LayerNorm, learned positions": lambda: GPT2LMHeadModel(
        GPT2Config(
            **_COMMON,
            n_embd=D,
            n_layer=LAYERS,
            n_head=HEADS,
            n_positions=32,
            n_inner=FEATURES,
            activation_function="relu",
        )
    ),
}


def directions() -> Tensor:
    """[15, D]: orthonormal and of zero mean, the Hadamard matrix without its row of ones."""
    H = torch.ones(1, 1, dtype=torch.float64)
    while len(H) < D:
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    return H[1:] / sqrt(D)


def planted(kind: str) -> tuple[Model, dict[int, ToyCoder]]:
    """The model and coders that equal its MLPs."""
    a, b, one, two, moved, answer, stop, *decoys = directions()
    decoy_reads, decoy_writes = torch.stack(decoys[:4]), torch.stack(decoys[4:])
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    hf: PreTrainedModel = KINDS[kind]()
    torch.nn.Module.to(hf, torch.float64)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            parameter.fill_(GAIN if ("norm" in name or ".ln_" in name) and name.endswith("weight") else 0.0)
    hf.requires_grad_(False)
    anatomy = describe(hf)
    anatomy.W_E_VD.copy_(0.5 * normal(VOCAB, 4) @ decoy_reads)
    anatomy.W_E_VD[A] += 2 * a
    anatomy.W_E_VD[B] += 2 * b
    if anatomy.position_embed is not None:
        cast(Any, anatomy.position_embed).weight.copy_(0.3 * normal(32, 4) @ decoy_reads)
    anatomy.W_U_VD[ANSWER] = 8 * answer
    # two tokens that read a decoy with opposite signs leave the mean over the vocabulary alone
    anatomy.W_U_VD[OTHER], anatomy.W_U_VD[OPPOSITE] = 0.5 * decoys[0], -0.5 * decoys[0]
    heads = [(HEAD, two)] + ([(TRAP, one)] if anatomy.blocks[0].parallel else [])
    for (layer, head), reads in heads:
        attention = anatomy.blocks[layer].attention
        attention.W_V_KED[head, 2] = reads
        attention.W_O_DHE[:, head, 2] = ATTENTION * moved

    coders = {}
    for layer, block in enumerate(anatomy.blocks):
        W_enc, W_dec = normal(FEATURES, 4) @ decoy_reads, 0.2 * normal(FEATURES, len(decoy_writes)) @ decoy_writes
        b_enc = torch.where(torch.arange(FEATURES) < 8, -0.05, -100.0).double()
        for (at, feature), reads, writes in (
            (SEES_A, a, one),
            (SEES_B, b, stop),
            (TWO, one, two),
            (JOINS, moved - INHIBITION * stop, answer),
        ):
            if at == layer:
                W_enc[feature], W_dec[feature] = reads, writes
        _write_mlp(block.mlp, W_enc, b_enc, W_dec)
        coders[layer] = ToyCoder(layer, W_enc, W_dec, b_enc, torch.zeros(D, dtype=torch.float64), k=FEATURES)
    return prepare_model(hf), coders


def _write_mlp(mlp: Any, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor) -> None:
    if hasattr(mlp, "gate_proj"):
        mlp.gate_proj.weight.copy_(W_enc)
        mlp.gate_proj.bias.copy_(b_enc)
        mlp.up_proj.bias.fill_(1.0)  # with no weights: the gate alone decides
        mlp.down_proj.weight.copy_(W_dec.T)
    elif hasattr(mlp, "c_fc"):
        mlp.c_fc.weight.copy_(W_enc.T)
        mlp.c_fc.bias.copy_(b_enc)
        mlp.c_proj.weight.copy_(W_dec)
    else:
        mlp.dense_h_to_4h.weight.copy_(W_enc)
        mlp.dense_h_to_4h.bias.copy_(b_enc)
        mlp.dense_4h_to_h.weight.copy_(W_dec.T)
