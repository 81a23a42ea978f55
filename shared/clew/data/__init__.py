"""Text into packed token rows, and rows back from disk."""

from clew.data.bos import bos_token_id
from clew.data.build import build_dataset
from clew.data.dataset import Batch, Dataset, DatasetManifest, Rows

__all__ = ["Batch", "Dataset", "DatasetManifest", "Rows", "bos_token_id", "build_dataset"]
