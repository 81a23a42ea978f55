"""What every spec has in common: frozen, closed to unknown fields, no silent conversions."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Spec(BaseModel):
    """A value object. Unknown fields are errors, so a typing mistake never passes for a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$"),
    Field(description="lower-case letters, digits, `.`, `_`, `-`; begins with a letter or digit"),
]

Ref = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"),
    Field(description="a UUID, or a name: your newest thing of that name, else the newest that others show you"),
]

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Field(description="sha256, hex")]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
