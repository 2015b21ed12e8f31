"""Take the README's pictures out of the notebooks, so that the two always show the same.

    python notebooks/pictures/take.py

A picture is a figure that a notebook holds already: the image in the output of the one cell that draws it. Run this
after a notebook was built anew; a test tells when a picture is no longer that of its notebook. `playground.png` and
`debugger.png` are screenshots, which the browser tests leave in the folder that MAMBA2_LAB_SCREENSHOTS names.
"""

import base64
import re
from pathlib import Path

import nbformat

FOLDER = Path(__file__).resolve().parent
PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')

# File -> the notebook, and what the cell that draws the figure calls.
PICTURES = {
    "half_lives.png": ("10_watching_memory", "plots.half_lives("),
    "gate_openers.png": ("10_watching_memory", "plots.gate_openers("),
    "head_effects.png": ("10_watching_memory", "plots.head_effects("),
}


def figure(notebook: nbformat.NotebookNode, call: str) -> bytes:
    """The PNG that the one cell with this call shows.

    Raises:
        ValueError: unless it is one cell, with one figure.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and call in cell.source]
    found = [
        png
        for cell in cells
        for output in cell.outputs
        for png in PNG.findall(output.get("data", {}).get("text/html", ""))
    ]
    if len(cells) != 1 or len(found) != 1:
        raise ValueError(f"expected one cell with {call!r} and one figure; found {len(cells)} and {len(found)}")
    return base64.b64decode(found[0])


def take(name: str) -> bytes:
    """A picture, as its notebook holds it now."""
    notebook, call = PICTURES[name]
    return figure(nbformat.read(FOLDER.parent / f"{notebook}.ipynb", as_version=4), call)


if __name__ == "__main__":
    for name in PICTURES:
        (FOLDER / name).write_bytes(take(name))
        print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")
