"""Clew's own: a folder a coder, as `clew.coders.store` writes it, with what is known of where it came from."""

from collections.abc import Sequence
from pathlib import Path

from clew.coders.coder import Coder
from clew.coders.formats.parts import Given
from clew.coders.store import CODER_FILES, load_coder, save_coder
from clew.files import whole_folder
from clew_spec.errors import DataError
from clew_spec.results import Lineage


def recognises(folder: Path) -> bool:
    return all((folder / name).is_file() for name in CODER_FILES)


def read(folder: Path, given: Given) -> list[Coder]:
    """Raises DataError where what the coder says of itself is not what is given."""
    coder = load_coder(folder)
    for name in ("model_digest", "tokenizer_digest", "bos"):
        if getattr(coder.config, name) != getattr(given, name):
            raise DataError(
                f"the coder in {folder.name} has {name} {getattr(coder.config, name)}", expected=getattr(given, name)
            )
    if (given.layer, given.hook_in, given.hook_out) != (None, None, None):
        raise DataError(f"the coder in {folder.name} says itself what it reads and writes, and at which layer")
    return [coder]


def write(coders: Sequence[Coder], folder: Path, lineage: Lineage) -> None:
    """`folder/L03`, ..."""
    with whole_folder(folder) as fresh:
        for each in coders:
            save_coder(each, fresh / f"L{each.layer:02d}", lineage)
