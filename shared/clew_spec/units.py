"""Numbers as people read and write them."""

import re

_WRITTEN = re.compile(r"(\d+(?:\.\d+)?) *(?:([KMGT]i)?B)?", re.ASCII)


def size(value: float) -> str:
    """Bytes: `3.1 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def size_of(text: str) -> int:
    """Bytes of what `size` would write, such as `3.1 GiB`, with or without the space. Raises ValueError."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size, such as 200GiB")
    number, unit = found.groups()
    return round(float(number) * 1024 ** " KMGT".index(unit[0])) if unit else round(float(number))
