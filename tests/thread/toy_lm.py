"""A tiny language model in a folder, as a user would have it: random Llama weights and a byte tokenizer."""

from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.clew.toys import toy_hf


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that any text has tokens; 0 ends a text."""
    vocab = {"<end>": 0} | {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 1)}
    inner = Tokenizer(models.BPE(vocab, [], unk_token=None))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    return cast(PreTrainedTokenizerFast, fast(tokenizer_object=inner, eos_token="<end>"))


def write_model(folder: Path, *, seed: int = 0) -> Path:
    """Four layers, float32, 257 tokens; saved as Hugging Face does."""
    tokenizer = byte_tokenizer()
    hf = toy_hf(seed=seed, n_layers=4, vocab_size=len(tokenizer), max_context=128, dtype=torch.float32)
    hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
