"""Nodes of a graph as they are written on a command line: `L8/F123`, `L8/F123@5`, and filters that name only a part."""

import re

from clew_spec.errors import InvalidSpec
from clew_spec.graph import NODE_TYPE_NAMES, PathFilter
from clew_spec.paths import FeatureRoot, LogitRoot

FEATURE = "L8/F123, that is layer and feature"
FILTER = "L8/F123@5 or parts of it, such as L8, L4..7, L8/F123, @5, or a kind of node, such as token"

_FEATURE = re.compile(r"L(?P<layer>\d{1,4})/F(?P<feature>\d{1,9})", re.ASCII | re.IGNORECASE)
_ROOT = re.compile(_FEATURE.pattern + r"@(?P<position>\d+)", re.ASCII | re.IGNORECASE)
_FILTER = re.compile(
    r"(?:L(?P<first>\d+)(?:\.\.(?P<last>\d+))?)?(?:(?:^|/)F(?P<feature>\d+))?(?:@(?P<position>\d+))?",
    re.ASCII | re.IGNORECASE,
)
MOST = 10_000
"""Layers of a range."""


def read_feature(text: str) -> tuple[int, int]:
    """(layer, feature). Raises InvalidSpec."""
    found = _FEATURE.fullmatch(text.strip())
    if found is None:
        raise InvalidSpec(f"{text!r} is no feature", expected=FEATURE)
    return int(found["layer"]), int(found["feature"])


def read_root(text: str, minus: str | None = None) -> FeatureRoot | LogitRoot:
    """`L8/F123@5` is a feature; anything else is the text of a token, less that of `minus`. Raises InvalidSpec."""
    found = _ROOT.fullmatch(text.strip())
    if found is None:
        return LogitRoot(token=text, minus=minus)
    if minus is not None:
        raise InvalidSpec(f"nothing can be subtracted from the feature {text}", expected="a token")
    return FeatureRoot(layer=int(found["layer"]), feature=int(found["feature"]), position=int(found["position"]))


def read_filter(text: str) -> PathFilter:
    """`L4..7` is any of these layers. Raises InvalidSpec."""
    word = text.strip()
    if word.lower() in NODE_TYPE_NAMES:
        return PathFilter.model_validate({"types": [word.lower()]})
    found = _FILTER.fullmatch(word)
    first, last, feature, position = found.groups() if found else (None,) * 4
    if (first, feature, position) == (None,) * 3 or (last and not int(first or 0) <= int(last) < MOST):
        raise InvalidSpec(f"{text!r} names no node of a path", expected=FILTER)
    return PathFilter(
        # a layer alone is that of a feature: tokens, errors and biases are asked for by their kind
        types=None if first is None and feature is None else ["feature"],
        layers=None if first is None else list(range(int(first), int(last or first) + 1)),
        features=None if feature is None else [int(feature)],
        positions=None if position is None else [int(position)],
    )
