"""What both sides of the circuits group are given: timing coders for every layer, and prompts as token ids."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.subject import Subject, prepare
from clew.coders import Coder, save_coder
from clew.coders.formats import circuit_tracer
from clew.files import whole_folder
from clew.models import Model, load_model, record
from clew_spec.coders import CoderConfig, ReLU
from clew_spec.results import Lineage

PROMPT = "The capital of the state containing Dallas is"
N_FEATURES, L0 = 4608, 32
CALIBRATION_ROWS, CALIBRATION_TOKENS = 2, 128


@dataclass(frozen=True)
class CircuitSubject:
    subject: Subject
    coders: Path
    """A folder a layer, as Clew stores coders."""
    peer_coders: Path
    """The same weights as circuit-tracer reads them."""
    peer_model: Path
    """The same model in the terms of transformers 4."""

    def prompt(self) -> list[int]:
        """With the first token that circuit-tracer puts before a prompt."""
        tokenizer = load_model(self.subject.model).tokenizer
        assert tokenizer is not None
        return [tokenizer.bos_token_id, *tokenizer(PROMPT, add_special_tokens=False)["input_ids"]]

    def text(self, n_tokens: int) -> list[int]:
        """The beginning of a row of real text."""
        tokens: list[int] = np.load(self.subject.tokens)[0, :n_tokens].tolist()
        return tokens


def prepare_circuits(cache: Path) -> CircuitSubject:
    subject = prepare(cache)
    made = CircuitSubject(subject, cache / "timing-coders", cache / "timing-coders-peer", cache / "model-peer")
    if not made.coders.exists() or not made.peer_coders.exists():
        model = load_model(subject.model, tokenizer=False)
        coders = timing_coders(model, torch.from_numpy(np.load(subject.tokens)), subject.identity())
        with whole_folder(made.coders) as fresh:
            for coder in coders:
                save_coder(coder, fresh / f"L{coder.layer:02d}", Lineage(code_version="benchmark"))
        circuit_tracer.write(coders, made.peer_coders, model_name=str(made.peer_model))
    if not made.peer_model.exists():
        with whole_folder(made.peer_model) as fresh:
            shutil.copytree(subject.model, fresh, dirs_exist_ok=True)
            config = fresh / "config.json"
            _rewrite(config, rope_theta=_read(config)["rope_parameters"]["rope_theta"])
            _rewrite(fresh / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    return made


def timing_coders(model: Model, tokens_NT: torch.Tensor, identity: dict[str, str]) -> list[Coder]:
    """Random transcoders with about 32 active features a token: graphs that mean nothing and cost what real ones do."""
    generator = torch.Generator().manual_seed(0)
    seen = [record(model.hf, model.anatomy, row_T[:CALIBRATION_TOKENS]) for row_T in tokens_NT[:CALIBRATION_ROWS]]
    coders = []
    for layer in range(model.n_layers):
        W_enc = torch.randn(N_FEATURES, model.d_model, generator=generator) / math.sqrt(model.d_model)
        W_dec = torch.randn(N_FEATURES, model.d_model, generator=generator) / math.sqrt(N_FEATURES)
        x_ND = torch.cat([each.layers[layer].mlp_in_TD for each in seen])
        threshold = (x_ND @ W_enc.T).topk(L0, dim=-1).values[:, -1].mean()
        config = CoderConfig(
            activation=ReLU(),
            n_features=N_FEATURES,
            d_in=model.d_model,
            d_out=model.d_model,
            layer=layer,
            bos="bos",
            model_digest=identity["model_digest"],
            tokenizer_digest=identity["tokenizer_digest"],
        )
        biases = {"b_enc": (-threshold).expand(N_FEATURES).clone(), "b_dec": torch.zeros(model.d_model)}
        coders.append(Coder.of(config, {"W_enc": W_enc, "W_dec": W_dec, **biases}))
    return coders


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _rewrite(path: Path, **changed: object) -> None:
    path.write_text(json.dumps(_read(path) | changed, indent=1))
