"""Edits of features as they are written on a command line: `L10/F123@3..:scale=0`."""

import re

from pydantic import ValidationError

from clew_spec.errors import InvalidSpec
from clew_spec.steering import FeatureEdit

EXPECTED = "L10/F123@3..:scale=0, that is layer, feature, positions, and ablate, set=, scale= or add="

_EDIT = re.compile(
    r"L(?P<layer>\d+)/F(?P<feature>\d+)"
    r"(?:@(?P<start>\d+)(?P<range>\.\.(?P<last>\d+)?)?)?"
    r":(?:(?P<ablate>ablate)|(?P<operation>set|scale|add)=(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?))",
    re.ASCII | re.IGNORECASE,
)


def read_edit(text: str) -> FeatureEdit:
    """`@3` is one position, `@3..7` both and those between, `@3..` all from there on, generated tokens too; so is none.

    Raises InvalidSpec.
    """
    found = _EDIT.fullmatch(text.strip())
    if found is None:
        raise InvalidSpec(f"{text!r} is no edit of a feature", expected=EXPECTED)
    start = int(found["start"] or 1)
    last = found["last"] if found["range"] else found["start"]
    fields = {
        "layer": int(found["layer"]),
        "feature": int(found["feature"]),
        "start": start,
        "stop": None if last is None else int(last) + 1,
        "operation": (found["ablate"] or found["operation"]).lower(),
        "value": None if found["ablate"] else float(found["value"]),
    }
    try:
        return FeatureEdit.model_validate(fields)
    except ValidationError as error:
        raise InvalidSpec(f"{text!r} is no edit of a feature: {error.errors()[0]['msg']}", expected=EXPECTED) from error


def written(edit: FeatureEdit) -> str:
    """The inverse of `read_edit`."""
    last = "" if edit.stop is None else edit.stop - 1
    at = f"{edit.start}" if last == edit.start else f"{edit.start}..{last}"
    what = "ablate" if edit.value is None else f"{edit.operation}={edit.value!r}"
    return f"L{edit.layer}/F{edit.feature}@{at}:{what}"
