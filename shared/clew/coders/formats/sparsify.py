"""sparsify: a folder a hookpoint, named as the module, with `cfg.json` and `sae.safetensors` (1.3).

`encoder.weight` [F, D], `encoder.bias` [F], `W_dec` [F, D], `b_dec` [D], `W_skip` [D, D] as `x @ W_skip.T`. The k
largest of the rectified pre-activations speak. An SAE, which reads and writes what a module returns, subtracts `b_dec`
from its input; a transcoder, from what a module receives to what it returns, does not.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.nn.functional import linear

from clew.coders.coder import Coder
from clew.coders.formats.hooks import read_hook
from clew.coders.formats.parts import (
    NOWHERE,
    Form,
    Given,
    Place,
    coder,
    exactly,
    only,
    read_json,
    read_tensors,
    stored,
    write_json,
)
from clew.files import whole_folder
from clew_spec.coders import Kind, TopK
from clew_spec.errors import DataError, InvalidSpec
from clew_spec.formats import require_sayable

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"

CONFIG: Mapping[str, Collection[Any] | None] = {
    "activation": ("topk",),
    "multi_topk": (False,),
    "signed": (False,),
    "k": None,
    "d_in": None,
    "num_latents": None,
    "expansion_factor": None,
    "normalize_decoder": None,
    "skip_connection": (False, True),
    "transcode": (False, True),
}
"""`normalize_decoder` says how decoders were trained, and nothing of use."""


def recognises(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def read(folder: Path, given: Given) -> list[Coder]:
    """Raises DataError for an option that is not implemented, and what `coder` raises."""
    path = folder / CONFIG_FILE
    cfg = read_json(path)
    only(cfg, CONFIG, path=path)
    transcode, skip, k = bool(cfg.get("transcode")), bool(cfg.get("skip_connection")), cfg.get("k")
    if skip and not transcode:
        raise DataError(f"{path.name} has skip_connection = true and transcode = false: an SAE has no skip path")
    found = read_tensors(folder / WEIGHTS_FILE)
    skipping = ["W_skip"] if skip else []
    exactly(found, ["encoder.weight", "encoder.bias", "W_dec", "b_dec", *skipping], path=folder / WEIGHTS_FILE)
    if not isinstance(k, int) or not 1 <= k <= len(found["encoder.bias"]):
        raise DataError(f"{path.name} has k = {k!r}", expected="a number of features")
    weights = {"W_enc": found.pop("encoder.weight"), "b_enc": found.pop("encoder.bias"), **found}
    kind: Kind = "skip-transcoder" if skip else "transcoder" if transcode else "sae"
    form = Form(kind, TopK(k=k), centred=not transcode)
    return [coder(weights, form, _place(folder.name, transcode, given), given, path=folder)]


def _place(hookpoint: str, transcode: bool, given: Given) -> Place:
    if given.layer is not None and given.hook_in is not None:
        return NOWHERE
    layer, returned = read_hook(hookpoint)
    if not transcode:
        return Place(layer, returned, returned)
    if returned != "mlp.returned":
        raise DataError(f"{hookpoint!r} transcodes a whole block", expected="layers.3.mlp")
    return Place(layer, "mlp.in", returned)


def write(coders: Sequence[Coder], folder: Path) -> None:
    """`folder/layers.3.mlp`, ... Raises InvalidSpec for a coder that sparsify cannot express."""
    with whole_folder(folder) as fresh:
        for each in coders:
            require_sayable("sparsify", each.config)
            module = f"layers.{each.layer}" + ("" if each.config.hook_out == "resid" else ".mlp")
            _write(each, fresh / module)


def _write(each: Coder, folder: Path) -> None:
    config = each.config
    if not isinstance(config.activation, TopK) or config.d_in != config.d_out:
        raise InvalidSpec(f"sparsify has no {config.activation.kind} from {config.d_in} to {config.d_out} dimensions")
    b_enc = each.b_enc
    if config.kind == "sae" and not config.centred:  # there it reads x - b_dec
        b_enc = b_enc + linear(each.b_dec, each.W_enc)
    weights = {"encoder.weight": each.W_enc, "encoder.bias": b_enc, "W_dec": each.W_dec, "b_dec": each.b_dec}
    weights |= {"W_skip": each.W_skip} if each.W_skip is not None else {}
    folder.mkdir(parents=True)
    stored(weights, folder / WEIGHTS_FILE)
    cfg = {
        "activation": "topk",
        "expansion_factor": max(1, config.n_features // config.d_in),
        "normalize_decoder": False,
        "num_latents": config.n_features,
        "k": config.activation.k,
        "multi_topk": False,
        "skip_connection": each.W_skip is not None,
        "transcode": config.kind != "sae",
        "d_in": config.d_in,
    }
    write_json(folder / CONFIG_FILE, cfg)
