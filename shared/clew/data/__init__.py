"""Text into packed token rows, and rows back from disk."""

from clew.data.bos import bos_token_id
from clew.data.build import build_dataset
from clew.data.dataset import Dataset, DatasetManifest, Rows

__all__ = ["Dataset", "DatasetManifest", "Rows", "bos_token_id", "build_dataset"]
