"""A notebook runs top to bottom whatever its reader wrote, says how each answer went, and adopts no wrong one."""

import copy
import inspect
from collections.abc import Iterator

import build
import jupytext
import pytest
from jupyter_client.channels import AsyncZMQSocketChannel
from nbformat import NotebookNode

from mamba2_lab.course import exercises
from mamba2_lab.course.fill_in import answered_wrongly, blanks, solved

# Notebooks that are run with every exercise solved, and with every exercise answered wrongly.
NOTEBOOKS = ["01_a_memory_that_fades", "06_the_whole_block"]

SMALL = '''\
# %% [markdown]
# # Sums of decays

# %%
import torch

from mamba2_lab.course import exercise

print("@exercise( in a text is no exercise")

# %% [markdown]
# The text says `@exercise("segsum")` as well.

# %%
log_decay = torch.tensor([-1.0, -2.0])


@exercise("segsum")
def segsum(log_decay):
    """(..., l) -> (..., l, l): summed log decay from source s to target t; -inf above the diagonal."""
    ...


at_once = segsum(log_decay)

# %%
print(segsum(log_decay).tolist(), at_once.tolist(), segsum.adopted)

# %%
check = exercise  # under another name it is no blank, and this answer is left as it is


@check("segsum")
def segsum(log_decay):
    return log_decay[5]


print(segsum(log_decay).tolist(), segsum.adopted)
'''
RIGHT = "[[0.0, -inf], [-2.0, 0.0]]"


def read(name: str) -> NotebookNode:
    if name == "small":
        return jupytext.reads(SMALL, fmt="py:percent")
    return build.read_source(build.NOTEBOOKS / "source" / f"{name}.py")


@pytest.fixture(scope="module", autouse=True)
def short_waits() -> Iterator[None]:
    """As the notebooks are built: with nbclient's stall cured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncZMQSocketChannel, "get_msg", AsyncZMQSocketChannel.get_msg)  # undone at the end
        patch.setenv("MAMBA2_LAB_FAST", "1")
        build.poll_in_short_steps()
        yield


def run(notebook: NotebookNode) -> NotebookNode:
    build.run(notebook, build.NOTEBOOKS)
    return notebook


def said(notebook: NotebookNode) -> dict[str, str]:
    """What the cell of each exercise said, by the exercise's name."""
    return {
        blank.name: "\n".join(
            output.data["text/plain"] for output in notebook.cells[blank.cell].outputs if "data" in output
        )
        for blank in blanks(notebook)
    }


# Filling in


def test_blanks_are_found_where_the_decorator_stands():
    (blank,) = blanks(read("small"))
    assert (blank.name, blank.cell, blank.function.name) == ("segsum", 3, "segsum")


def wrongly(notebook: NotebookNode) -> NotebookNode:
    return answered_wrongly(notebook, 1)


@pytest.mark.parametrize("fill_in", [solved, wrongly])
def test_only_the_function_under_the_decorator_is_replaced(fill_in):
    notebook = read("small")
    before = copy.deepcopy(notebook)
    filled = fill_in(notebook)
    assert notebook == before, "the notebook given was changed"
    assert filled.cells[:3] == before.cells[:3]
    assert filled.cells[4:] == before.cells[4:]
    old, new = before.cells[3].source.splitlines(), filled.cells[3].source.splitlines()
    assert new[:5] == old[:5], "what stands above, the decorator and the name"
    assert new[-3:] == old[-3:], "what stands below"
    assert "    ..." not in new


def lines_of(function) -> str:
    return inspect.getsource(function).partition("):\n")[2].rstrip()


def test_the_answer_is_the_one_that_was_asked_for():
    segsum = exercises.find("segsum")
    assert lines_of(segsum.reference) in solved(read("small")).cells[3].source
    for i, wrong in enumerate([*segsum.wrong_answers, segsum.wrong_answers[0]]):
        assert lines_of(wrong.function) in answered_wrongly(read("small"), i).cells[3].source


def test_two_exercises_in_a_cell_are_both_filled_in():
    notebook = read("small")
    once = solved(notebook).cells[3].source
    notebook.cells[3].source += "\n\n" + notebook.cells[3].source
    assert len(blanks(notebook)) == 2
    assert solved(notebook).cells[3].source == f"{once}\n\n{once}"


# Running


@pytest.mark.parametrize("name", ["small", *NOTEBOOKS])
def test_a_solved_notebook_runs_and_adopts_every_answer(name):
    notebook = run(solved(read(name)))
    for exercise, text in said(notebook).items():
        assert text == f"{exercise}: passed. Your function is used from here on."
    if name == "small":
        assert notebook.cells[4].outputs[0].text == f"{RIGHT} {RIGHT} True\n"


@pytest.mark.parametrize("name", ["small", *NOTEBOOKS])
def test_a_notebook_answered_wrongly_runs_and_adopts_no_answer(name):
    notebook = run(answered_wrongly(read(name), 0))
    for exercise, text in said(notebook).items():
        says = exercises.find(exercise).wrong_answers[0].says
        assert text.startswith(f"{exercise}: not yet right. {says}\n")
    if name == "small":
        assert notebook.cells[4].outputs[0].text == f"{RIGHT} {RIGHT} False\n"
        raised, printed = notebook.cells[5].outputs
        assert "in line 6 of its cell, `return log_decay[5]`." in raised.data["text/plain"]
        assert '<div role="note"' in raised.data["text/html"]
        assert printed.text == f"{RIGHT} False\n"
