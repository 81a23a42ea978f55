"""Tokenizers of imported models, without a model library."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from tokenizers import Tokenizer

from clew_lab.catalogue.tables import Artifact
from clew_spec.errors import ModelError


class Tokenizers:
    """The most recently used tokenizers, by the digest of their `tokenizer.json`. Safe among threads.

    Args:
        read: fetches an object of the store by its key.
        keep: how many stay in memory; each takes tens of megabytes.
    """

    def __init__(self, read: Callable[[str], bytes], keep: int = 4) -> None:
        self._read = read
        self._keep = keep
        self._kept: OrderedDict[str, Tokenizer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: Artifact) -> Tokenizer:
        """Raises `ModelError` where the file is not what was stored, or no tokenizer."""
        with self._lock:
            if file.sha256 in self._kept:
                self._kept.move_to_end(file.sha256)
                return self._kept[file.sha256]
        tokenizer = _load(self._read(file.key), file)
        with self._lock:
            self._kept[file.sha256] = tokenizer
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        return tokenizer


def _load(content: bytes, file: Artifact) -> Tokenizer:
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ModelError(f"{file.name} is not what was stored: its digest differs")
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{file.name} is not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
