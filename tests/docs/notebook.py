"""The tutorial notebook, run cell by cell; ``python -m tests.docs.notebook`` writes anew what it shows."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

from tests.docs.blocks import DOCS

TUTORIAL = DOCS / "tutorial.ipynb"


def read(path: Path = TUTORIAL) -> dict[str, Any]:
    """Return a notebook, as nbformat 4 has it."""
    return json.loads(path.read_text(encoding="utf-8"))


def run(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Run the code cells in the current folder, one after the other, and return the outputs of each.

    An output is what was printed on standard output, or a figure of Matplotlib that the cell left open.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    space: dict[str, Any] = {"__name__": "__notebook__"}
    found = []
    for number, cell in enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"{TUTORIAL.name}, code cell {number + 1}", "exec"), space)
        outputs: list[dict[str, Any]] = []
        if printed.getvalue():
            lines = printed.getvalue().replace(str(Path.cwd()), "/home/me").splitlines(keepends=True)
            outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
        for figure in map(pyplot.figure, pyplot.get_fignums()):
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=72, bbox_inches="tight")
            data = {"image/png": base64.b64encode(drawn.getvalue()).decode()}
            outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
        pyplot.close("all")
        found.append(outputs)
    return found


def write(path: Path = TUTORIAL) -> None:
    """Run the notebook in a new folder, and keep what its cells print and draw."""
    notebook = read(path)
    path = path.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for number, (cell, outputs) in enumerate(zip(cells, run(notebook), strict=True), 1):
            cell |= {"outputs": outputs, "execution_count": number}
        os.chdir(path.parent)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
