"""The README's pictures are those that the notebooks hold."""

import base64

import nbformat
import pytest
from pictures import take


def cell(source: str, *images: bytes) -> nbformat.NotebookNode:
    html = "".join(f'<img alt="a" src="data:image/png;base64,{base64.b64encode(image).decode()}"/>' for image in images)
    output = nbformat.v4.new_output("display_data", {"text/html": f"<figure>{html}</figure>"})
    return nbformat.v4.new_code_cell(source, outputs=[nbformat.v4.new_output("stream", text="x"), output])


@pytest.mark.parametrize("name", take.PICTURES)
def test_a_picture_is_that_of_its_notebook(name):
    stored = (take.FOLDER / name).read_bytes()
    assert stored == take.take(name), "run python notebooks/pictures/take.py"


def test_the_figure_of_the_cell_that_makes_the_call_is_taken():
    notebook = nbformat.v4.new_notebook(cells=[cell("draw(1)", b"one"), cell("paint(2)", b"two")])
    assert take.figure(notebook, "paint(") == b"two"


@pytest.mark.parametrize(
    "cells", [[], [cell("draw()", b"a"), cell("draw()", b"b")], [cell("draw()")], [cell("draw()", b"a", b"b")]]
)
def test_anything_but_one_cell_with_one_figure_is_an_error(cells):
    with pytest.raises(ValueError, match="expected one cell with 'draw\\('"):
        take.figure(nbformat.v4.new_notebook(cells=cells), "draw(")
