"""The playground as a page of its own, without code: `python -m mamba2_lab.widgets.app`, or `make playground`.

Voilà serves it from this machine to this machine. Arguments go to Voilà: --no-browser, --theme=dark, --port=8900.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from voila.app import Voila

CELL = """\
from mamba2_lab.widgets import Playground

Playground()
"""
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def main(arguments: list[str]) -> None:
    """Serve the page until the process is stopped. A port that is taken is passed over for the next one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Playground.ipynb"  # its name is the title of the page
        nbformat.write(nbformat.v4.new_notebook(metadata=KERNEL, cells=[nbformat.v4.new_code_cell(CELL)]), path)
        Voila.launch_instance(argv=[str(path), "--show_tracebacks=True", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
