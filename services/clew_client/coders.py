"""A coder of the lab, with its weights."""

from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from clew_spec.api import CoderView
from clew_spec.errors import NotFound
from clew_spec.exchange.networkx import missing

if TYPE_CHECKING:
    from clew_client.lab import Lab

WEIGHTS = "weights.safetensors"


class LabCoder:
    """`view` tells what it is; `download` gets a folder that `clew.coders.load_coder` reads."""

    def __init__(self, lab: "Lab", view: CoderView) -> None:
        self._lab = lab
        self.view = view

    def __repr__(self) -> str:
        return f"LabCoder({self.view.name!r}, layer {self.view.layer}, {self.view.config.n_features} features)"

    def download(self, folder: Path | str) -> Path:
        """Its files, into `folder`, which is made if it is not there. Raises NotFound where it has none."""
        folder = Path(folder)
        files = [file for file in self._lab.artifacts(self.view.job_id) if _is_of(self.view, file.name)]
        if not files:
            raise NotFound(f"coder {self.view.name} of layer {self.view.layer} has no files")
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            self._lab.download(file, folder)
        return folder

    def weights(self) -> dict[str, Any]:
        """Its tensors by name, `W_enc` and the others, as torch has them. Raises Unavailable without safetensors."""
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise missing("safetensors") from error
        with TemporaryDirectory() as folder:
            tensors: dict[str, Any] = load_file(self.download(folder) / WEIGHTS)
        return tensors


def _is_of(coder: CoderView, name: str) -> bool:
    """Of `coders/L03/cfg.json`, or `coders/L03.k16/cfg.json` where a layer has several: `{name of the set}.k16`."""
    layer, dot, variant = PurePosixPath(name).parent.name.partition(".")
    return layer == f"L{coder.layer:02}" and (not dot or coder.name.endswith(dot + variant))
