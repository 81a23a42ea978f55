"""Imports: what is stored is what was read, and nothing that is wrong leaves anything behind."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tests.clew.toys import toy_hf, toy_tokenizer, toy_tokens

from clew.models import import_model, load_model
from clew.models.importing import tokenizer_digest
from clew.reporting import Silent
from clew_spec.errors import ClewError, InvalidSpec, ModelError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "roots" / "toy"
    toy_hf(dtype=torch.float32).save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    return tmp_path / "roots"


def _import(source: Path, root: Path, out: str = "out") -> Any:
    return import_model(source, root.parent / "stored" / out, roots=[root], report=Silent())


def _refused(source: Path, root: Path, kind: type[ClewError], match: str) -> None:
    with pytest.raises(kind, match=match):
        _import(source, root)
    stored = root.parent / "stored"
    assert not stored.exists() or not list(stored.iterdir())


def test_the_stored_model_gives_the_same_logits(root: Path) -> None:
    imported = _import(root / "toy", root)
    model = load_model(root.parent / "stored" / "out")
    original = toy_hf(dtype=torch.float32)
    original.set_attn_implementation("eager")
    tokens_BT = toy_tokens(9)[None]
    torch.testing.assert_close(model.hf(tokens_BT).logits, original(tokens_BT).logits, atol=0, rtol=0)
    assert model.tokenizer is not None
    assert model.tokenizer("w3 w7").input_ids == [3, 7]
    assert imported.config == model.config()
    assert imported.config.n_parameters == sum(p.numel() for p in original.parameters())
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(imported.files)
    assert [p.name for p in (root.parent / "stored").iterdir()] == ["out"]


def test_importing_what_was_imported_changes_nothing(root: Path) -> None:
    first = _import(root / "toy", root, "a")
    again = import_model(
        root.parent / "stored" / "a", root.parent / "stored" / "b", roots=[root.parent], report=Silent()
    )
    assert again == first


def test_inconsistent_sampling_settings_are_no_obstacle(root: Path) -> None:
    settings = json.dumps({"do_sample": False, "temperature": 0.6, "top_p": 0.9})
    (root / "toy" / "generation_config.json").write_text(settings)
    _import(root / "toy", root)


def test_shards_and_half_precision_are_read(root: Path) -> None:
    whole = _import(root / "toy", root, "whole")
    toy_hf(dtype=torch.float32).save_pretrained(root / "sharded", max_shard_size="10KB")
    toy_tokenizer().save_pretrained(root / "sharded")
    assert len(list((root / "sharded").glob("*.safetensors"))) > 1
    assert _import(root / "sharded", root, "sharded").digest == whole.digest
    toy_hf(dtype=torch.bfloat16).save_pretrained(root / "half")
    toy_tokenizer().save_pretrained(root / "half")
    assert _import(root / "half", root, "half").proof.dtype == "float32"


def _rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(dict(reversed((json.loads(file.read_text()) | changes).items())), indent=7))


def test_the_digest_is_of_the_model_and_not_of_its_saving(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _import(root / "toy", root, "a")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        _rewrite(root / "toy" / name, transformers_version="4.9.9", _name_or_path="elsewhere", is_local=False)
    for module in ("configuration_utils", "generation.configuration_utils"):
        monkeypatch.setattr(f"transformers.{module}.__version__", "6.6.6")
    again = _import(root / "toy", root, "b")
    stored = root.parent / "stored"
    assert "6.6.6" in (stored / "b" / "config.json").read_text()
    assert (again.digest, again.tokenizer_digest) == (first.digest, first.tokenizer_digest)
    _rewrite(root / "toy" / "config.json", rms_norm_eps=1e-3)
    assert _import(root / "toy", root, "c").digest != first.digest


def test_the_tokenizer_digest_ignores_layout_and_batching_but_not_content(root: Path) -> None:
    folder = root / "toy"
    before = tokenizer_digest(folder)
    _rewrite(
        folder / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
    )
    _rewrite(folder / "tokenizer_config.json", model_max_length=99)
    assert tokenizer_digest(folder) == before
    seen = {before}
    for change in ({"eos_token": "w5"}, {"bos_token": "w6"}, {"pad_token": "w7"}):
        _rewrite(folder / "tokenizer_config.json", **change)
        assert tokenizer_digest(folder) not in seen, change
        seen.add(tokenizer_digest(folder))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    model["vocab"]["w3"], model["vocab"]["w4"] = 4, 3
    _rewrite(folder / "tokenizer.json", model=model)
    assert tokenizer_digest(folder) not in seen


def _set_config(root: Path, **changes: Any) -> None:
    file = root / "toy" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _pickle_only(root: Path) -> None:
    (root / "toy" / "model.safetensors").rename(root / "toy" / "pytorch_model.bin")


def _truncate(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        os.truncate(root / "toy" / name, (root / "toy" / name).stat().st_size // 2)

    return damage


def _drop_weight(root: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = root / "toy" / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda root: (root / "toy" / "model.safetensors").unlink(), "has no weights"),
    "pickle only": (_pickle_only, "only pickled weights"),
    "truncated weights": (_truncate("model.safetensors"), "cannot be loaded"),
    "truncated config": (_truncate("config.json"), "config.json .* cannot be read"),
    "truncated tokenizer": (_truncate("tokenizer.json"), "tokenizer .* cannot be loaded"),
    "no config": (lambda root: (root / "toy" / "config.json").unlink(), "has no config.json"),
    "no tokenizer": (lambda root: (root / "toy" / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "unknown architecture": (lambda root: _set_config(root, model_type="bert"), "'bert' is not understood"),
    "quantised": (lambda root: _set_config(root, quantization_config={"quant_method": "gptq"}), "is quantised"),
    "a missing weight": (_drop_weight, "1 of the weights are missing .*up_proj"),
    "weights of another shape": (lambda root: _set_config(root, intermediate_size=50), "cannot be loaded"),
    "another vocabulary": (lambda root: toy_tokenizer(90).save_pretrained(root / "toy"), "another model"),
    "a shard elsewhere": (
        lambda root: (
            (root / "toy" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}') and None
        ),
        "not in the folder",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_with_its_reason(root: Path, damage: str) -> None:
    spoil, reason = DAMAGES[damage]
    spoil(root)
    _refused(root / "toy", root, ModelError, reason)


def test_code_in_the_folder_is_never_run(root: Path) -> None:
    (root / "toy" / "evil.py").write_text(f"open({str(root / 'ran')!r}, 'w')\nclass C: pass\n")
    _set_config(root, auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"})
    _import(root / "toy", root)
    assert not (root / "ran").exists()


def test_paths_outside_the_roots_are_refused_however_they_are_written(root: Path) -> None:
    outside = root.parent / "outside"
    shutil.copytree(root / "toy", outside)
    (root / "link").symlink_to(outside)
    linked = root / "linked-file"
    shutil.copytree(root / "toy", linked)
    (linked / "model.safetensors").unlink()
    (linked / "model.safetensors").symlink_to(outside / "model.safetensors")
    for source in (outside, root / ".." / "outside", root / "link", linked, Path("/etc")):
        _refused(source, root, InvalidSpec, "outside the folders")
    _refused(root / "nothing", root, InvalidSpec, "does not exist")
    (root / "note.txt").write_text("no model")
    _refused(root / "note.txt", root, InvalidSpec, "neither a folder nor a .gguf file")


def test_a_name_that_begins_like_a_root_is_not_inside_it(root: Path) -> None:
    shutil.copytree(root / "toy", Path(f"{root}-other"))
    _refused(Path(f"{root}-other"), root, InvalidSpec, "outside the folders")


def write_gguf(file: Path, hf: Any) -> None:
    """The model as llama.cpp writes it: query and key rows in its own rotary order, a byte-pair vocabulary."""
    config = hf.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("toy")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    letters = [chr(c) for c in range(ord("!"), ord("!") + config.vocab_size - 4)]
    writer.add_token_list(["<unk>", "<s>", "</s>", *letters, '!"'])
    writer.add_token_types([3, 3, 3, *[1] * (len(letters) + 1)])
    writer.add_token_merges(['! "'])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, weight in hf.state_dict().items():
        if name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
            to = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm"}.get(name, "output")
        else:
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            to = f"blk.{layer}.{names[part]}"
            if part.endswith(("q_proj", "k_proj")):
                heads = config.num_attention_heads if part.endswith("q_proj") else config.num_key_value_heads
                weight = weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        writer.add_tensor(f"{to}.weight", weight.float().numpy().copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_is_read_whole_and_refused_truncated(root: Path) -> None:
    hf = toy_hf(dtype=torch.float32, d_model=32)
    file = root / "toy.gguf"
    write_gguf(file, hf)
    imported = _import(file, root)
    assert imported.config.n_kv_heads == 2
    model = load_model(root.parent / "stored" / "out")
    hf.set_attn_implementation("eager")
    tokens_BT = toy_tokens(9)[None]
    torch.testing.assert_close(model.hf(tokens_BT).logits, hf(tokens_BT).logits, atol=1e-5, rtol=0)
    shutil.rmtree(root.parent / "stored")

    whole = file.read_bytes()
    for kept in (len(whole) - 1000, len(whole) // 2, 200, 3):
        file.write_bytes(whole[:kept])
        _refused(file, root, ModelError, "cannot be read|not a GGUF file")
    file.write_bytes(b"PK\x03\x04" + whole[4:])
    _refused(file, root, ModelError, "is not a GGUF file")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_hidden_layers": 10**9}, "describes 1000000000 layers"),
        ({"num_hidden_layers": "many"}, "describes many layers"),
        ({"num_hidden_layers": 900, "hidden_size": 2**14, "intermediate_size": 2**16}, "the safetensors hold"),
        ({"vocab_size": 2**40}, "the safetensors hold"),
    ],
)
def test_a_config_that_would_fill_the_memory_is_refused_first(root: Path, changes: dict[str, Any], match: str) -> None:
    _rewrite(root / "toy" / "config.json", **changes)
    _refused(root / "toy", root, ModelError, match)


def test_a_tokenizer_of_absurd_size_is_not_read(root: Path) -> None:
    with (root / "toy" / "tokenizer.json").open("ab") as file:
        file.truncate(2**26 + 1)
    _refused(root / "toy", root, ModelError, "tokenizer.json has 64.0 MiB")
