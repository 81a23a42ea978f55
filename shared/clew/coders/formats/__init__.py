"""Coders in other projects' formats: one file each, with what of it can be read and written.

Whatever a reader returns computes what the peer computes of the same files, in their dtype. What a file asks for and
this does not implement is refused by name.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clew.coders.coder import Coder
from clew.coders.formats import circuit_tracer, gemma_scope, native, paper, saelens, sparsify
from clew.coders.formats.parts import Given
from clew.coders.reconstruction import require_whole
from clew.files import inside_roots
from clew_spec.errors import DataError, InvalidSpec
from clew_spec.formats import ExportFormat, ImportFormat
from clew_spec.results import Lineage

__all__ = ["FORMATS", "Format", "Given", "check_source", "detect", "files_of", "read_coders", "write_coders"]

DEPTH = 3
"""How far below a folder its coders may lie."""


@dataclass(frozen=True)
class Format:
    files: str
    """By which it is known."""
    recognises: Callable[[Path], bool]
    """Whether a coder, or a whole set, lies at this very path."""
    read: Callable[[Path, Given], list[Coder]]


FORMATS: dict[ImportFormat, Format] = {
    "clew": Format("cfg.json, weights.safetensors and manifest.json", native.recognises, native.read),
    "saelens": Format("cfg.json and sae_weights.safetensors", saelens.recognises, saelens.read),
    "sparsify": Format("cfg.json and sae.safetensors", sparsify.recognises, sparsify.read),
    "circuit-tracer": Format("config.yaml", circuit_tracer.recognises, circuit_tracer.read),
    "gemma-scope": Format("params.npz or params*.safetensors", gemma_scope.recognises, gemma_scope.read),
    "paper": Format("*.pt", paper.recognises, paper.read),
}


def check_source(source: Path, roots: Sequence[Path]) -> Path:
    """The real path of coders, with all that may be read there inside one of the roots. Raises InvalidSpec."""
    real = inside_roots(source, roots, where="/spec/path")
    if not real.exists():
        raise InvalidSpec(f"{str(source)!r} does not exist", where="/spec/path", expected="a folder or file of coders")
    for folder, folders, files in os.walk(real):
        for name in (*folders, *files):
            entry = Path(folder, name)
            target = inside_roots(entry, roots, where="/spec/path")
            if not target.is_file() and (entry.is_symlink() or not target.is_dir()):
                raise InvalidSpec(f"{name!r} is neither a folder nor a regular file", where="/spec/path")
    return real


def files_of(path: Path, format: ImportFormat) -> list[Path]:
    """The files among which those of the coders are."""
    places = _places(path, format)
    return sorted(
        file for place in places for file in (place.iterdir() if place.is_dir() else [place]) if file.is_file()
    )


def detect(path: Path) -> ImportFormat:
    """The one format of all that lies at or below `path`. Raises DataError where there is none, or more than one."""
    found = [name for name in FORMATS if _places(path, name)]
    if len(found) != 1:
        known = "; ".join(f"{name}: {format.files}" for name, format in FORMATS.items())
        what = f"looks like {' and '.join(found)}" if found else "has the files of no known format"
        raise DataError(f"{path.name} {what}", expected=known, hint="name the format, or a path that has one alone")
    return found[0]


def read_coders(path: Path, given: Given, format: ImportFormat | None = None) -> list[Coder]:
    """The coders at `path`, or in the folders below it, by layer; of the format that `detect` finds if not given.

    Raises:
        DataError: nothing of the format is there, files are damaged, or they ask for what is not implemented.
        ModelError: weights do not fit their configuration.
        InvalidSpec: a part of a cross-layer transcoder.
    """
    format = format or detect(path)
    coders: dict[int, Coder] = {}
    for place in _places(path, format):
        for coder in FORMATS[format].read(place, given):
            if coder.layer in coders:
                raise DataError(
                    f"{path.name} has two coders for layer {coder.layer}",
                    expected="one coder a layer",
                    hint="import one of them at a time",
                )
            coders[coder.layer] = coder
    if not coders:
        raise DataError(f"{path.name} has no coders of the format {format}", expected=FORMATS[format].files)
    require_whole(coders)
    return [coders[layer] for layer in sorted(coders)]


def write_coders(
    coders: Sequence[Coder], folder: Path, format: ExportFormat, *, lineage: Lineage, model_name: str = "unknown"
) -> None:
    """Coders, by layer, to a new `folder`, which is whole or not there. Raises InvalidSpec for what it cannot hold."""
    match format:
        case "clew":
            native.write(coders, folder, lineage)
        case "saelens":
            saelens.write(coders, folder)
        case "sparsify":
            sparsify.write(coders, folder)
        case "circuit-tracer":
            circuit_tracer.write(coders, folder, model_name=model_name)


def _places(path: Path, format: ImportFormat) -> list[Path]:
    """Where coders of a format lie: at `path`, else in the folders nearest below it."""
    level = [path]
    for _ in range(DEPTH + 1):
        found = [place for place in level if FORMATS[format].recognises(place)]
        if found:
            return found
        level = sorted(child for place in level if place.is_dir() for child in place.iterdir() if child.is_dir())
    return []
