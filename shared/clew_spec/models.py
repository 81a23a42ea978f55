"""Import a language model into the catalogue."""

from typing import Literal

from pydantic import Field

from clew_spec.base import Name, Spec


class ImportModelSpec(Spec):
    kind: Literal["import-model"] = "import-model"
    name: Name
    path: str = Field(min_length=1, max_length=4096)
    """A Hugging Face model folder or a `.gguf` file on the worker's disk, under one of `CLEW_IMPORT_ROOTS`; or
    `upload:NAME`; or `hf:OWNER/NAME@REVISION` on the hub, of which the commit is recorded."""
