"""Bring a model from a folder or a GGUF file into Clew's own form: float32 safetensors, tokenizer.json, proven."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from clew.files import digest_of, file_sha256, inside_roots, whole_folder
from clew.models.anatomy import describe, require_family
from clew.models.model import load_folder, load_model, load_tokenizer, require_all_weights
from clew.reporting import Report, StopRequested
from clew_spec.errors import InvalidSpec, ModelError
from clew_spec.results import AnatomyProof, ModelConfig
from clew_spec.units import size

GGUF_MAGIC = b"GGUF"
MAX_JSON_BYTES = 2**26
"""Of a configuration or tokenizer; the largest in use have half of it."""
MAX_LAYERS = 1000
LAYERS = ("num_hidden_layers", "n_layer")
OF_THE_SAVING = {"transformers_version", "_name_or_path", "is_local", "local_files_only"}
"""Keys of a config that say with what and from where it was saved, and nothing of the model."""


@dataclass(frozen=True)
class ImportedModel:
    config: ModelConfig
    digest: str
    """sha256 over the sorted (name, sha256) of the files, JSON without what tells only how it was saved."""
    tokenizer_digest: str
    proof: AnatomyProof
    files: list[str]
    """Names inside the folder, sorted."""


def import_model(source: Path, out: Path, *, roots: Sequence[Path], report: Report) -> ImportedModel:
    """Read `source`, a Hugging Face model folder or a `.gguf` file under one of `roots`, and write it to `out`.

    What is written is loaded again and must pass the proof of its anatomy before it takes the place of `out`.
    Raises InvalidSpec for a path outside the roots (symbolic links are followed first) or without a model, ModelError
    for a model that cannot be read or is not understood; in both cases `out` is left as it was.
    """
    real = check_source(source, roots)
    with whole_folder(out) as folder:
        report.progress("read", 0, 3, "step")
        hf, tokenizer = _read_gguf(real) if real.is_file() else _read_folder(real)
        _check_tokenizer(tokenizer, hf, report)
        _step(report, "write", 1)
        # how to sample is no part of what Clew uses, and transformers refuses to save settings it finds inconsistent
        hf.generation_config = GenerationConfig.from_dict({})
        hf.save_pretrained(folder, max_shard_size="1000GB")
        tokenizer.save_pretrained(folder)
        del hf
        _step(report, "prove", 2)
        model = load_model(folder)
        _step(report, "prove", 3)
        sums = {path.name: _sum(path) for path in folder.iterdir()}
        return ImportedModel(
            config=model.config(),
            digest=digest_of(sums),
            tokenizer_digest=tokenizer_digest(folder),
            proof=model.proof,
            files=sorted(sums),
        )


def _step(report: Report, phase: str, done: int) -> None:
    report.progress(phase, done, 3, "step")
    if report.stop_requested():
        raise StopRequested


def check_source(source: Path, roots: Sequence[Path]) -> Path:
    """The real path of a model, with every file that will be opened inside one of the roots. Raises InvalidSpec."""
    real = inside_roots(source, roots, where="/spec/path")
    if not real.exists():
        raise InvalidSpec(
            f"{str(source)!r} does not exist", where="/spec/path", expected="a model folder or .gguf file"
        )
    if real.is_file() and real.suffix == ".gguf":
        return real
    if not real.is_dir():
        raise InvalidSpec(
            f"{str(source)!r} is neither a folder nor a .gguf file",
            where="/spec/path",
            expected="a Hugging Face model folder or a .gguf file",
        )
    names = set()
    for entry in real.iterdir():
        target = inside_roots(entry, roots, where="/spec/path")
        if not target.is_dir() and not target.is_file():
            raise InvalidSpec(f"{entry.name!r} in the model folder is not a regular file", where="/spec/path")
        names.add(entry.name)
    for index in real.glob("*.index.json"):
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index.name} is not a list of weight files") from error
        if index.name.endswith(".safetensors.index.json") and not shards <= names:
            absent = sorted(map(str, shards - names))
            raise ModelError(f"{index.name} names {absent[0]!r}, which is not in the folder")
    return real


def _read_folder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    _check_sizes(folder)
    return load_folder(folder, torch.float32), load_tokenizer(folder)


def _check_sizes(folder: Path) -> None:
    """Raises ModelError for a folder of which a few bytes would fill the memory: what it describes must be there."""
    for path in folder.glob("*.json"):
        if (found := path.stat().st_size) > MAX_JSON_BYTES:
            raise ModelError(f"{path.name} has {size(found)}", expected=f"{size(MAX_JSON_BYTES)} at most")
    try:
        raw = json.loads((folder / "config.json").read_text())
        require_family(raw["model_type"])
        layers = next((raw[name] for name in LAYERS if name in raw), 0)
        if not isinstance(layers, int) or layers > MAX_LAYERS:
            raise ModelError(f"the config describes {layers} layers", expected=f"{MAX_LAYERS} at most")
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        auto: Any = AutoModelForCausalLM
        with torch.device("meta"):
            described = sum(weight.numel() for weight in auto.from_config(config).parameters())
    except ModelError:
        raise
    except Exception:  # what is wrong with it, the loader tells
        return
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if held and described > held:  # a weight has a byte at least
        raise ModelError(
            f"the config describes {described:,} weights, and the safetensors hold {size(held)}",
            hint="the config belongs to another model, or a file is missing",
        )


def _read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    with file.open("rb") as stream:
        if stream.read(4) != GGUF_MAGIC:
            raise ModelError(f"{file.name!r} is not a GGUF file", expected="a file that begins with GGUF")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever the reader raises, it is this file that cannot be read
        raise ModelError(
            f"the GGUF file {file.name!r} cannot be read: {error}",
            hint="copy the file again, it may be truncated; or its architecture or quantisation is not supported",
        ) from error
    quantised, info = loaded
    require_family(quantised.config.model_type)
    require_all_weights(info, file.name)
    # transformers refuses to save what it loaded from GGUF: the config calls the weights quantised, which they no
    # longer are. A model built afresh from the same config has no such memory.
    config = {k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"}
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):  # the weights are there once: the new model takes those of the old
        hf = auto.from_config(type(quantised.config).from_dict(config), dtype=torch.float32)
    hf.load_state_dict(quantised.state_dict(), assign=True)
    hf.tie_weights()
    return cast(PreTrainedModel, hf), cast(PreTrainedTokenizerFast, tokenizer)


def _check_tokenizer(tokenizer: PreTrainedTokenizerFast, hf: PreTrainedModel, report: Report) -> None:
    vocab_size = describe(hf).W_E_VD.shape[0]
    if not 0 < tokenizer.vocab_size <= vocab_size:
        raise ModelError(
            f"the tokenizer knows {tokenizer.vocab_size} tokens, the model embeds {vocab_size}",
            hint="the tokenizer belongs to another model",
        )
    if len(tokenizer) > vocab_size:
        report.log(
            f"{len(tokenizer) - vocab_size} added tokens of the tokenizer have no embedding: no text may contain them",
            "warning",
        )


def _sum(file: Path) -> str:
    """What a file of a model says, whichever version of transformers wrote it."""
    if file.suffix != ".json":
        return file_sha256(file)
    content = json.loads(file.read_text())
    return _canonical({key: value for key, value in content.items() if key not in OF_THE_SAVING})


def tokenizer_digest(folder: Path) -> str:
    """sha256 of a folder's tokenizer, so that the same tokenizer has one digest however it was saved.

    Over tokenizer.json, and the tokens that begin, separate and fill texts, which other files may decide. Raises
    ModelError where there is no such tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    # how to cut and fill batches is a matter of the caller, not of the tokenizer
    content["truncation"] = content["padding"] = None
    special = {
        "bos": (tokenizer.bos_token_id, tokenizer.bos_token),
        "eos": (tokenizer.eos_token_id, tokenizer.eos_token),
        "pad": (tokenizer.pad_token_id, tokenizer.pad_token),
    }
    return _canonical({"tokenizer": content, "special": special})


def _canonical(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
