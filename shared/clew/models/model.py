"""A causal language model, ready to be read: eager attention, no gradients, its anatomy proven."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from clew.models.anatomy import Anatomy, Norm, describe, require_family
from clew.models.proof import prove
from clew_spec.errors import ModelError
from clew_spec.results import AnatomyProof, ModelConfig


@dataclass(frozen=True)
class Model:
    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast | None
    anatomy: Anatomy
    proof: AnatomyProof

    @property
    def device(self) -> torch.device:
        return self.anatomy.W_E_VD.device

    @property
    def dtype(self) -> torch.dtype:
        return self.anatomy.W_E_VD.dtype

    @property
    def n_layers(self) -> int:
        return len(self.anatomy.blocks)

    @property
    def d_model(self) -> int:
        return self.anatomy.W_E_VD.shape[1]

    @property
    def vocab_size(self) -> int:
        return self.anatomy.W_U_VD.shape[0]

    @property
    def max_context(self) -> int:
        return int(self.hf.config.max_position_embeddings)

    def config(self) -> ModelConfig:
        attention = self.anatomy.blocks[0].attention
        return ModelConfig(
            architecture=type(self.hf).__name__,
            n_layers=self.n_layers,
            d_model=self.d_model,
            d_mlp=self.anatomy.blocks[0].d_mlp,
            n_heads=attention.n_heads,
            n_kv_heads=attention.n_kv_heads,
            vocab_size=self.vocab_size,
            max_context=self.max_context,
            n_parameters=sum(p.numel() for p in self.hf.parameters()),
        )


class ExactRmsNorm(nn.Module):
    """RMSNorm in the dtype of its input. Hugging Face's rounds to float32 even inside a float64 model.

    Its attributes are those of the norms it stands in for, so that the model is described as before.
    """

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.weight = cast(nn.Parameter, norm.weight_D)
        self.offset = norm.offset
        self.eps = self.variance_epsilon = norm.eps

    def forward(self, x_TD: Tensor) -> Tensor:
        gain_D = self.weight + self.offset if self.offset else self.weight
        return x_TD * torch.rsqrt(x_TD.pow(2).mean(-1, keepdim=True) + self.eps) * gain_D


def prepare_model(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerFast | None = None) -> Model:
    """Make a built model ready: evaluation mode, no gradients, eager attention, anatomy proven.

    A float64 model also gets norms that compute in float64. Raises ModelError where the anatomy fails its proof.
    """
    require_family(hf.config.model_type)
    hf.train(False)
    hf.requires_grad_(False)
    hf.set_attn_implementation("eager")
    anatomy = describe(hf)
    if anatomy.W_E_VD.dtype == torch.float64:
        _install_exact_norms(hf, anatomy)
        anatomy = describe(hf)
    return Model(hf, tokenizer, anatomy, prove(hf, anatomy))


@torch.inference_mode()
def _install_exact_norms(hf: PreTrainedModel, anatomy: Anatomy) -> None:
    # a LayerNorm computes in the dtype of its input as it is
    norms = {id(norm.module): norm for norm in anatomy.norms if not norm.centred}
    x_TD = torch.randn(4, anatomy.W_E_VD.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_TD = x_TD.to(anatomy.W_E_VD.device)
    for name, module in list(hf.named_modules()):
        if id(module) not in norms:
            continue
        exact = ExactRmsNorm(norms[id(module)])
        ours_TD, theirs_TD = exact(x_TD), module(x_TD)
        difference = (ours_TD - theirs_TD).abs().max().item()
        if not difference <= 1e-5 * theirs_TD.abs().max().item():
            raise ModelError(f"the norm {name} is not the RMSNorm its family uses: outputs differ by {difference:.3g}")
        hf.set_submodule(name, exact)


def load_model(
    folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32, tokenizer: bool = True
) -> Model:
    """Load an imported model from its folder: safetensors only, no code from the folder, no network.

    Raises ModelError where files are missing or damaged, weights do not fit the config, or the anatomy fails its proof.
    """
    hf = load_folder(folder, dtype).to(cast(Any, device))
    return prepare_model(hf, load_tokenizer(folder) if tokenizer else None)


def load_folder(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The Hugging Face model of a safetensors folder, every weight accounted for. Raises ModelError."""
    config_file = folder / "config.json"
    try:
        raw = json.loads(config_file.read_text())
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder.name!r} has no config.json", expected="a Hugging Face model folder or a .gguf file"
        ) from error
    except (ValueError, OSError) as error:
        raise ModelError(f"{config_file.name} of {folder.name!r} cannot be read: {error}") from error
    require_family(raw.get("model_type") if isinstance(raw, dict) else None)
    if raw.get("quantization_config"):
        raise ModelError(
            f"{folder.name!r} is quantised", expected="float weights", hint="import the unquantised model, or a .gguf"
        )
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth"))
        raise ModelError(
            f"{folder.name!r} has only pickled weights, which are never opened"
            if pickled
            else f"{folder.name!r} has no weights",
            expected="model.safetensors, whole or in shards",
            hint="save the model again with save_pretrained of a recent transformers" if pickled else None,
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever the loader raises, it is this folder that cannot be read
        raise ModelError(
            f"the model in {folder.name!r} cannot be loaded: {error}",
            hint="copy the folder again; a file may be truncated or missing",
        ) from error
    hf, info = loaded
    require_all_weights(info, folder.name)
    return cast(PreTrainedModel, hf)


def require_all_weights(info: dict[str, Any], where: str) -> None:
    """Raises ModelError for weights that were not in the file: transformers would go on with random values."""
    missing = sorted(map(str, info["missing_keys"]))
    if missing:
        raise ModelError(f"{len(missing)} of the weights are missing in {where!r}, the first is {missing[0]}")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder's tokenizer.json. Raises ModelError."""
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder.name!r} has no tokenizer.json",
            hint="save the tokenizer again with save_pretrained of a fast tokenizer",
        )
    try:
        return cast(PreTrainedTokenizerFast, PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True))
    except Exception as error:  # as above
        raise ModelError(f"the tokenizer in {folder.name!r} cannot be loaded: {error}") from error
