"""Run the notebook in the lab that `make demo` left running, and keep what its cells show.

`.venv/bin/python -m demo.notebook`. Cells run here as a notebook runs them, one after another in one namespace; a
browser, a kernel and their server are not needed for that.
"""

import ast
import base64
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from demo.lab import CREDENTIALS, ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
FORMS = {
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "text/html": "_repr_html_",
    "text/plain": "__repr__",
}


def main() -> None:
    os.environ["CLEW_CONFIG"] = str(CREDENTIALS)
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shown = show("".join(cell["source"]) for cell in cells)
    for number, (cell, value) in enumerate(zip(cells, shown, strict=True), 1):
        cell["execution_count"] = number
        cell["outputs"] = [] if value is None else [output(value, number)]
        print(f"cell {number}")
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def show(sources: Iterable[str]) -> Iterator[Any]:
    """The value of the last line of each cell, as it has run; None where that is no expression."""
    names: dict[str, Any] = {}
    for source in sources:
        cell, value = ast.parse(source), ast.Expression(ast.Constant(None))
        if isinstance(last := cell.body[-1], ast.Expr):
            cell.body.pop()
            value = ast.Expression(last.value)
        exec(compile(cell, NOTEBOOK.name, "exec"), names)  # noqa: S102  # our own lines
        yield eval(compile(ast.fix_missing_locations(value), NOTEBOOK.name, "eval"), names)  # noqa: S307  # our own lines


def output(value: Any, number: int) -> dict[str, Any]:
    """As the notebook's format has it, in the forms that the value can be shown in."""
    data: dict[str, Any] = {}
    for form, method in FORMS.items():
        if hasattr(value, method) and (made := getattr(value, method)()) is not None:
            data[form] = base64.b64encode(made).decode() if isinstance(made, bytes) else made
    return {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}


if __name__ == "__main__":
    main()
