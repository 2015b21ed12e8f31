"""The stored notebooks are as they should be, and `notebooks/build.py --check` sees each way to break one."""

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from types import SimpleNamespace

import build
import nbformat
import pytest
from jupyter_client.channels import AsyncZMQSocketChannel

SOURCE = """\
# %% [markdown]
# # Counting takes a memory
# A picture: ![a line that rises](line.png)

# %% tags=["keep"]
total = 1 + 1
print(total)

# %%
from IPython.display import HTML

HTML('<img src="data:image/png;base64,/tmp/AAAA" alt="a line that rises">')

# %%
from ipywidgets import Output

out = Output()
with out:
    print("seen while the kernel runs")
out
"""


def test_every_notebook_agrees_with_its_source():
    assert build.check_all() == []


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Iterator[Path]:
    """A folder with one notebook, built as `make notebooks` builds them."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "source").mkdir()
    (folder / "source" / "00_small.py").write_text(SOURCE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncZMQSocketChannel, "get_msg", AsyncZMQSocketChannel.get_msg)  # undone at the end
        build.poll_in_short_steps()
        build.build(folder / "source" / "00_small.py", folder / "00_small.ipynb")
        yield folder


@pytest.fixture
def folder(built, tmp_path) -> Path:
    """A copy of it, to break."""
    (tmp_path / "source").mkdir()
    for path in ("source/00_small.py", "00_small.ipynb"):
        (tmp_path / path).write_bytes((built / path).read_bytes())
    return tmp_path


def test_a_built_notebook_holds_cells_tags_and_outputs_only(built):
    notebook = nbformat.read(built / "00_small.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert build.check_all(built) == []
    assert notebook.metadata == build.METADATA
    assert [cell.metadata for cell in notebook.cells] == [{}, {"tags": ["keep"]}, {}, {}]
    assert notebook.cells[1].outputs[0].text == "2\n"
    assert notebook.cells[2].outputs[0].data["text/html"].startswith("<img")
    assert notebook.cells[3].outputs[0].data == {"text/plain": build.WIDGET_STANDS_HERE}
    assert not list(built.glob("*.unfinished"))


def test_building_again_writes_the_same_bytes(folder):
    before = (folder / "00_small.ipynb").read_bytes()
    build.build(folder / "source" / "00_small.py", folder / "00_small.ipynb")
    assert (folder / "00_small.ipynb").read_bytes() == before


def test_a_failing_cell_leaves_the_old_notebook(folder):
    before = (folder / "00_small.ipynb").read_bytes()
    (folder / "source" / "00_small.py").write_text("# %%\n1 / 0\n", encoding="utf-8")
    with pytest.raises(build.CellExecutionError, match="ZeroDivisionError"):
        build.build(folder / "source" / "00_small.py", folder / "00_small.ipynb")
    assert (folder / "00_small.ipynb").read_bytes() == before


def test_an_edited_cell_changes_its_own_id_alone(folder):
    source = folder / "source" / "00_small.py"
    before = [cell.id for cell in build.read_source(source).cells]
    source.write_text(SOURCE.replace("1 + 1", "1 + 2"), encoding="utf-8")
    after = [cell.id for cell in build.read_source(source).cells]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True, True]


def test_cells_with_the_same_text_get_ids_of_their_own(tmp_path):
    source = tmp_path / "twice.py"
    source.write_text("# %%\nstep()\n\n# %%\nstep()\n", encoding="utf-8")
    first, second = build.read_source(source).cells
    assert first.id != second.id


def stream(text):
    return nbformat.v4.new_output("stream", text=text)


def display(metadata=None, **data):
    return nbformat.v4.new_output("display_data", data, metadata=metadata or {})


def showing(output):
    """Damage: the second cell shows this output too."""
    return lambda nb: nb.cells[1].outputs.append(output)


def test_a_widget_leaves_a_note_and_keeps_its_own_fallback():
    view = {build.WIDGET_VIEW: {"model_id": "1"}}
    plain = display(**view, **{"text/plain": "interactive(children=(IntSlider(value=3),))"})
    drawn = display(**view, **{"text/plain": "Explorer()", "text/html": "<p>the explorer at rest</p>"})
    cell = nbformat.v4.new_code_cell("show()", outputs=[plain, drawn])
    build.tidy(nbformat.v4.new_notebook(cells=[cell]))
    assert plain.data == {"text/plain": build.WIDGET_STANDS_HERE}
    assert drawn.data == {"text/plain": "Explorer()", "text/html": "<p>the explorer at rest</p>"}


ZERO_DIVISION = nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="division by zero")
PNG = {"image/png": "/tmp/AAAA"}  # an encoded image may hold anything, even what looks like a path

# What breaks a notebook, and what the check then says.
BREAKS = {
    "text": (lambda nb: nb.cells[1].update(source="total = 3"), "cell 2: its text differs"),
    "markdown text": (lambda nb: nb.cells[0].update(source="# Counting"), "cell 1: its text differs"),
    "tags": (lambda nb: nb.cells[1].metadata.pop("tags"), "cell 2: its tags differ"),
    "type": (lambda nb: nb.cells[0].update(cell_type="raw"), "cell 1: type raw, in its source markdown"),
    "missing cell": (lambda nb: nb.cells.pop(), "3 cells, expected 4"),
    "error": (showing(ZERO_DIVISION), "cell 2: it ended in ZeroDivisionError: division by zero"),
    "widget state": (lambda nb: nb.metadata.update(widgets={}), "widget state"),
    "widget view": (showing(display(**{build.WIDGET_VIEW: {"model_id": "1"}})), "cell 2: a widget view"),
    "timings": (lambda nb: nb.cells[1].metadata.update(execution={}), "cell 2: metadata execution"),
    "not run": (lambda nb: nb.cells[1].update(execution_count=None), "were not run"),
    "run out of order": (lambda nb: nb.cells[1].update(execution_count=7), "were not run"),
    "size": (showing(stream("a" * build.LARGEST)), "expected at most 600,000"),
    "image": (showing(display(**PNG)), "cell 2: an image output without alt"),
    "blank alt": (
        showing(display({"image/png": {"alt": " "}}, **PNG)),
        "cell 2: an image output without alt",
    ),
    "HTML image": (
        showing(display(**{"text/html": "<img src='a.png'>"})),
        "cell 2: an image output without alt",
    ),
}


@pytest.mark.parametrize("damage, message", BREAKS.values(), ids=BREAKS)
def test_check_sees(folder, damage, message):
    path = folder / "00_small.ipynb"
    notebook = nbformat.read(path, as_version=4)
    damage(notebook)
    path.write_text(nbformat.v4.writes(notebook), encoding="utf-8")
    problems = build.check_all(folder)
    assert any(message in problem for problem in problems), problems
    assert all(problem.startswith("00_small.ipynb: ") for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "/home/ada/mamba/x.py",
        "File '/Users/ada/x.py', line 3",
        "/root/x.py",
        "wrote file:///tmp/x.png",
        "/private/var/x",
        "/var/folders/xy/x.png",
        "C:\\Users\\ada\\x.py",
        "lib/python3.11/site-packages/torch/nn.py:3: UserWarning",
        "/tmp/ipykernel_123/456.py",
        pytest.param(str(build.NOTEBOOKS / "x.py"), id="in this repository"),
    ],
)
def test_check_sees_the_path(folder, text):
    path = folder / "00_small.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs.append(stream(f"a line\n{text}\n"))
    path.write_text(nbformat.v4.writes(notebook), encoding="utf-8")
    (problem,) = build.check_all(folder)
    assert problem.startswith("00_small.ipynb: cell 2: an output shows the path ")


@pytest.mark.parametrize(
    "output",
    [
        display({"image/png": {"alt": "a line that rises"}}, **PNG),
        display(**PNG, **{"text/html": "<img src='a.png' alt='a line that rises'>"}),
        stream("https://example.org/home/page and data/tmp/x and #!/usr/bin/env python"),
    ],
    ids=["image with alt", "image replaced by HTML with alt", "text that only looks like a path"],
)
def test_check_accepts(folder, output):
    path = folder / "00_small.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs.append(copy.deepcopy(output))
    path.write_text(nbformat.v4.writes(notebook), encoding="utf-8")
    assert build.check_all(folder) == []


def test_check_sees_a_markdown_image_without_alt(folder):
    for image in ("![](line.png)", "<img src='line.png'>"):
        cell = nbformat.v4.new_markdown_cell(f"Look: {image}")
        assert build.cell_problems(cell) == ["an image without alt text"]


def test_check_sees_a_file_without_its_partner(folder):
    (folder / "source" / "00_small.py").rename(folder / "source" / "01_other.py")
    assert build.check_all(folder) == [
        "source/01_other.py has no notebook 01_other.ipynb: build it",
        "00_small.ipynb has no source source/00_small.py",
    ]


def test_check_sees_a_source_that_jupyterlab_would_refuse_and_building_mends_it(folder):
    source = folder / "source" / "00_small.py"
    canonical = source.read_text(encoding="utf-8")
    source.write_text(canonical.replace("\n# %%", "\n\n# %%", 1), encoding="utf-8")
    (problem,) = build.check_all(folder)
    assert problem.startswith("00_small.ipynb: its source is not in the form that jupytext writes")
    build.build(source, folder / "00_small.ipynb")
    assert source.read_text(encoding="utf-8") == canonical
    assert build.check_all(folder) == []


def test_check_sees_an_empty_folder(tmp_path):
    (problem,) = build.check_all(tmp_path)
    assert problem.startswith("no notebook sources in ")


def test_waits_for_a_kernel_are_short_and_still_end(monkeypatch):
    """A message whose announcement was lost is found by the next short wait; silence ends at the deadline."""
    waits = []

    async def wait_once(self, timeout):
        waits.append(timeout)  # the clock stands at their sum: a busy machine changes nothing
        if self.arrives_at_wait == len(waits):
            return {"content": "done"}
        raise Empty

    class Channel:
        get_msg = wait_once

        def __init__(self, arrives_at_wait):
            self.arrives_at_wait = arrives_at_wait

    monkeypatch.setattr(build, "AsyncZMQSocketChannel", Channel)
    monkeypatch.setattr(build, "POLL_SECONDS", 4)
    monkeypatch.setattr(build, "time", SimpleNamespace(monotonic=lambda: sum(waits)))
    build.poll_in_short_steps()

    assert asyncio.run(Channel(arrives_at_wait=3).get_msg(timeout=None)) == {"content": "done"}
    assert waits == [4, 4, 4]

    waits.clear()
    with pytest.raises(Empty):
        asyncio.run(Channel(arrives_at_wait=-1).get_msg(timeout=10))
    assert waits == [4, 4, 2]
