"""The maps of an activation patching as SVG: layers upwards, positions or heads across; colour by effect.

The same document always gives the same text.
"""

from collections.abc import Iterator

from clew_spec.exchange.drawing import EXCITING, INHIBITING, cut, escaped, rasterised
from clew_spec.patching import PatchDocument, PatchMap, PatchSummary, effect, effects, rows_of

CELL_W, CELL_H, LEFT, LABELS, GAP = 22.0, 12.0, 90.0, 64.0, 30.0
"""Pixels: of a cell, of the margin, of the labels below a map, between maps."""


def svg(document: PatchDocument) -> str:
    """A whole SVG file. A cell is as strong as its patch's effect: full where it brings all of the difference, red
    where it does the opposite. Positions before the prompts differ are left out. A title on every cell tells its
    values."""
    summary = document.summary
    parts: list[str] = []
    y, width = 64.0, 420.0
    for found in document.maps:
        columns = _columns(found, summary)
        rows = len(found.values)
        parts += _map(found, summary, y)
        y += CELL_H * rows + LABELS + GAP
        width = max(width, LEFT + CELL_W * len(columns) + 60)
    less = f", {summary.answer!r} less {summary.wrong!r}" if summary.metric == "logit-difference" else ""
    heading = f"{summary.direction}: {summary.metric}{less}"
    ends = f"clean {summary.clean_value:.4g}, corrupt {summary.corrupt_value:.4g}"
    return (
        "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{y:.0f}" '
                f'viewBox="0 0 {width:.0f} {y:.0f}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" '
                'font-size="10">',
                f"<title>{escaped(heading)}</title>",
                '<rect width="100%" height="100%" fill="#ffffff"/>',
                f'<text x="8" y="20" font-size="13">{escaped(cut(heading, int(width / 7)))}</text>',
                f'<text x="8" y="36" fill="#6b7280">{ends}</text>',
                *parts,
                "</svg>",
            ]
        )
        + "\n"
    )


def png(document: PatchDocument, *, zoom: int = 2) -> bytes:
    """The same as PNG, `zoom` pixels a unit. Letters need a font on this machine. Raises Unavailable without resvg."""
    return rasterised(svg(document), zoom)


def _columns(found: PatchMap, summary: PatchSummary) -> list[int]:
    if found.positions is None:
        return found.heads or []
    return [position for position in found.positions if position >= summary.first_difference]


def _map(found: PatchMap, summary: PatchSummary, top: float) -> Iterator[str]:
    columns = _columns(found, summary)
    place_of = {column: LEFT + CELL_W * index for index, column in enumerate(columns)}
    per_layer = len(found.values) // len(found.layers)
    yield f'<text x="8" y="{top - 6:.1f}" font-size="12">{found.place}</text>'
    bottom = top + CELL_H * len(found.values)
    for index, layer in enumerate(found.layers):
        y = bottom - CELL_H * per_layer * (index + 0.5) + 3.5
        name = "embedding" if layer < 0 else f"layer {layer}"
        yield f'<text x="8" y="{y:.1f}" fill="#6b7280">{name}</text>'
    row_of = {(layer, head): i for i, (layer, head) in enumerate(rows_of(found))}
    for each in effects(found):
        column = each.position if each.position is not None else each.head
        if column not in place_of:
            continue
        row = row_of[each.layer, each.head if found.positions is not None else None]
        share = effect(each.score, summary.direction)
        colour = EXCITING if share >= 0 else INHIBITING
        told = f"layer {each.layer}"
        told += "" if each.head is None else f", head {each.head}"
        told += "" if each.position is None else f", position {each.position}: {_token(summary, each.position)}"
        told += f"; {summary.metric} {each.value:.4g}, score {each.score:.3f}"
        yield (
            f'<rect x="{place_of[column]:.1f}" y="{bottom - CELL_H * (row + 1):.1f}" width="{CELL_W}" '
            f'height="{CELL_H}" fill="{colour}" fill-opacity="{min(1.0, abs(share)):.3f}" stroke="#e5e7eb" '
            f'stroke-width="0.5"><title>{escaped(told)}</title></rect>'
        )
    for column, x in place_of.items():
        name = f"head {column}" if found.positions is None else _token(summary, column)
        x, y = x + CELL_W / 2, bottom + 10
        turn = f'transform="rotate(40 {x:.1f} {y:.1f})"'
        yield f'<text x="{x:.1f}" y="{y:.1f}" {turn}>{escaped(cut(name, 18))}</text>'


def _token(summary: PatchSummary, position: int) -> str:
    """Both tokens where they differ, as `clean | corrupt`."""
    clean, corrupt = (tokens[position].strip() for tokens in (summary.clean_tokens, summary.corrupt_tokens))
    return clean if clean == corrupt else f"{clean} | {corrupt}"
