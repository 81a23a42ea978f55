"""The picture of a graph as SVG: tokens below, layers upwards, logits above; positions across; edges by sign.

The same document always gives the same text.
"""

from collections import defaultdict
from collections.abc import Iterator
from xml.sax.saxutils import escape

from clew_spec.exchange.networkx import missing, xml_text
from clew_spec.graph import GraphDocument, Node, NodeType

CELL, ROW, RADIUS, LEFT, TOP = 15.0, 34.0, 5.0, 80.0, 56.0
"""Pixels: between nodes of a cell, between rows, of a node, and of the margins."""
LABEL_CHARS = 24
EXCITING, INHIBITING = "#2166ac", "#b2182b"
FILL: dict[NodeType, str] = {
    "token": "#fde68a",
    "position": "#e5e7eb",
    "feature": "#86b6e8",
    "error": "#f2b8a0",
    "bias": "#d1d5db",
    "logit": "#a7d7a9",
}


def svg(document: GraphDocument) -> str:
    """A whole SVG file. Width of an edge: its share of the strongest. A title on every node and edge tells its values.

    Layers without a node take no room.
    """
    places, rows, columns, width, height = _layout(document)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" '
        'font-size="10">',
        f"<title>{escaped(document.name)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="13">{escaped(cut(document.summary.prompt, int(width / 8)))}</text>',
    ]
    for layer, y in rows.items():
        parts.append(f'<line x1="{LEFT - 10}" y1="{y}" x2="{width - 10:.1f}" y2="{y}" stroke="#f0f0f0"/>')
        parts.append(f'<text x="8" y="{y + 3}" fill="#6b7280">{_row_name(layer, document.summary.n_layers)}</text>')
    for position, x in columns.items():
        token = document.summary.tokens[position]
        parts.append(_label(x, height - 30, token.strip() or repr(token)[1:-1]))
    parts += _edges(document, places)
    parts += _nodes(document, places)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def png(document: GraphDocument, *, zoom: int = 2) -> bytes:
    """The same as PNG, `zoom` pixels a unit. Letters need a font on this machine. Raises Unavailable without resvg."""
    return rasterised(svg(document), zoom)


def rasterised(drawn: str, zoom: int) -> bytes:
    """An SVG file as PNG. Raises Unavailable without resvg."""
    try:
        import resvg_py
    except ImportError as error:
        raise missing("resvg-py") from error
    return bytes(resvg_py.svg_to_bytes(svg_string=drawn, zoom=zoom))


def _layout(
    document: GraphDocument,
) -> tuple[dict[int, tuple[float, float]], dict[int, float], dict[int, float], float, float]:
    """Where each node is, by id; rows by layer, columns by position; width and height."""
    last = len(document.summary.tokens) - 1
    cells: defaultdict[tuple[int, int], list[Node]] = defaultdict(list)
    for node in document.nodes:
        row = document.summary.n_layers + 1 if node.type == "logit" else node.layer
        cells[row, node.position if node.position >= 0 else last].append(node)
    layers = sorted({layer for layer, _ in cells}, reverse=True)
    rows = {layer: TOP + ROW * index for index, layer in enumerate(layers)}
    columns: dict[int, float] = {}
    places: dict[int, tuple[float, float]] = {}
    x = LEFT
    for position in range(last + 1):
        widest = max((len(nodes) for (_, where), nodes in cells.items() if where == position), default=1)
        columns[position] = x
        for (layer, where), nodes in cells.items():
            if where == position:
                places |= {node.id: (x + CELL * index, rows[layer]) for index, node in enumerate(nodes)}
        x += max(CELL * widest, 42.0) + CELL
    return places, rows, columns, x + 40.0, TOP + ROW * len(layers) + 40.0


def _edges(document: GraphDocument, places: dict[int, tuple[float, float]]) -> Iterator[str]:
    strongest = max((abs(edge.weight) for edge in document.edges), default=0.0) or 1.0
    nodes = {node.id: node for node in document.nodes}
    for edge in sorted(document.edges, key=lambda edge: (abs(edge.weight), edge.source, edge.target)):
        (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
        share = abs(edge.weight) / strongest
        colour = EXCITING if edge.weight >= 0 else INHIBITING
        middle = (y1 + y2) / 2
        told = f"{nodes[edge.source].label} to {nodes[edge.target].label}: {edge.weight:.4g}"
        yield (
            f'<path d="M{x1:.1f} {y1:.1f}C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}" fill="none" '
            f'stroke="{colour}" stroke-width="{0.4 + 3 * share:.2f}" stroke-opacity="{0.15 + 0.65 * share:.2f}">'
            f"<title>{escaped(told)}</title></path>"
        )


def _nodes(document: GraphDocument, places: dict[int, tuple[float, float]]) -> Iterator[str]:
    for node in document.nodes:
        x, y = places[node.id]
        told = f"{node.label}: value {node.value:.4g}, influence {node.influence:.2%}"
        paint = f'fill="{FILL[node.type]}" stroke="#374151" stroke-width="0.8"'
        if node.type in ("feature", "bias", "position"):
            shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" {paint}>'
            end = "</circle>"
        else:
            turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if node.type == "error" else ""
            side = 2 * RADIUS - 1
            corner = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side}" height="{side}"'
            shape, end = f"<rect {corner} {paint}{turn}>", "</rect>"
        yield f"{shape}<title>{escaped(told)}</title>{end}"
        if node.type == "logit":
            yield _label(x, y - 9, node.label)


def _label(x: float, y: float, said: str) -> str:
    turn = f'transform="rotate(-30 {x:.1f} {y:.1f})"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {turn}>{escaped(cut(said, LABEL_CHARS))}</text>'


def _row_name(layer: int, n_layers: int) -> str:
    if layer < 0:
        return "embedding"
    return "logits" if layer > n_layers else "output bias" if layer == n_layers else f"layer {layer}"


def cut(said: str, length: int) -> str:
    """At most `length` characters."""
    return said if len(said) <= length else said[: max(length - 1, 1)] + "…"


def escaped(said: str) -> str:
    """As it may stand in an SVG file, on one line."""
    return escape(xml_text(said.translate({ord(c): " " for c in "\n\r\t"})))
