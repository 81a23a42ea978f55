"""A coder on disk: `cfg.json`, `weights.safetensors`, and `manifest.json` with the digest of each and the lineage."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clew.coders.coder import Coder, shapes
from clew.files import digest_of, file_sha256, whole_folder
from clew_spec.base import Digest
from clew_spec.coders import CoderConfig
from clew_spec.errors import DataError, ModelError
from clew_spec.results import Lineage

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "weights.safetensors"
MANIFEST_FILE = "manifest.json"
CODER_FILES = (CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE)


class CoderManifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["clew-coder-manifest/1"] = "clew-coder-manifest/1"
    digest: Digest
    """sha256 over the names and digests of `files`: the same weights and configuration always have the same."""
    files: dict[str, Digest]
    lineage: Lineage


def save_coder(coder: Coder, folder: Path, lineage: Lineage) -> str:
    """Write `coder` to `folder`, whole or not at all; an older one there is replaced. Returns its digest."""
    weights = {name: parameter.detach().cpu().contiguous() for name, parameter in coder.parameters().items()}
    dtype = str(coder.W_enc.dtype).removeprefix("torch.")
    with whole_folder(folder) as fresh:
        config = coder.config.model_copy(update={"dtype": dtype})
        (fresh / CONFIG_FILE).write_text(config.model_dump_json(indent=1) + "\n")
        save_file(weights, fresh / WEIGHTS_FILE)
        files = {name: file_sha256(fresh / name) for name in (CONFIG_FILE, WEIGHTS_FILE)}
        manifest = CoderManifest(digest=digest_of(files), files=files, lineage=lineage)
        (fresh / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest.digest


def load_coder(folder: Path, *, device: str = "cpu") -> Coder:
    """Read a coder back, in the dtype it was stored in.

    Raises:
        DataError: a file is missing or is not what its manifest says.
        ModelError: configuration and weights do not fit each other.
    """
    manifest = read_manifest(folder)
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"the coder in {folder.name} has no {name}", expected=", ".join(CODER_FILES))
        if (found := file_sha256(path)) != digest:
            raise DataError(
                f"{name} of the coder in {folder.name} was changed or cut short: sha256 {found}", expected=digest
            )
    try:
        config = CoderConfig.model_validate_json((folder / CONFIG_FILE).read_text())
        weights = load_file(folder / WEIGHTS_FILE, device=device)
    except (ValidationError, SafetensorError, UnicodeDecodeError) as error:
        raise DataError(f"the coder in {folder.name} cannot be read: {error}") from error
    if set(weights) != set(shapes(config)):
        raise ModelError(f"{WEIGHTS_FILE} holds {', '.join(sorted(weights))}", expected=", ".join(shapes(config)))
    if (dtype := str(weights["W_enc"].dtype).removeprefix("torch.")) != config.dtype:
        raise ModelError(f"{WEIGHTS_FILE} is stored in {dtype}", expected=config.dtype)
    return Coder.of(config, weights)


def read_manifest(folder: Path) -> CoderManifest:
    """Raises DataError where there is none, or one that contradicts itself."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise DataError(f"{folder.name} is not a coder: it has no {MANIFEST_FILE}", expected=", ".join(CODER_FILES))
    try:
        manifest = CoderManifest.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{MANIFEST_FILE} in {folder.name} cannot be read: {error}") from error
    if set(manifest.files) != {CONFIG_FILE, WEIGHTS_FILE} or manifest.digest != digest_of(manifest.files):
        raise DataError(
            f"{MANIFEST_FILE} in {folder.name} contradicts itself", expected=f"digests of {CONFIG_FILE}, {WEIGHTS_FILE}"
        )
    return manifest
