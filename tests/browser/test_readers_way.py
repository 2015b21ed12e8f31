"""The reader's way, from `make lab` on: copies without outcomes, guesses and answers that are kept, and a new copy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.real_lab import Notebook, make_lab, picture

from mamba2_lab.course import exercises
from mamba2_lab.course.source import source_of

ROOT = Path(__file__).resolve().parents[2]
DUALITY, CHUNKS = "04_duality.ipynb", "05_chunks.ipynb"
ANSWERED = "from mamba2_lab.course import exercise\n\n\n@exercise('segsum')\n" + source_of(
    exercises.find("segsum").reference
)
OPEN = "from mamba2_lab.course import exercise\n\n\n@exercise('segsum')\ndef segsum(log_decay): ..."


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("reader") / "my course"


@pytest.fixture(scope="module")
def made(chromium, course, tmp_path_factory) -> Iterator[str]:
    """The address that `make lab` opens."""
    if not shutil.which("make") or not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("`make lab` needs make, and .venv, which it would install")
    with make_lab(ROOT, course, tmp_path_factory.mktemp("make-lab")) as address:
        yield address


def said(notebook: Notebook, number: int) -> str:
    return "\n".join(notebook.output(number).all_inner_texts())


def test_the_readers_way(page, made, course):
    notebook = Notebook(page, made, DUALITY)

    # Fresh: nothing on the page tells an outcome
    assert page.locator(".jp-OutputArea-output, .jp-Notebook img").count() == 0
    assert page.locator("details").count() >= 5 and page.locator("details[open]").count() == 0
    told = page.get_by_text("so it gets nothing of it", exact=False).or_(page.get_by_text("gets nothing of it"))
    assert not told.first.is_visible()

    # A guess is kept, and stands beside the outcome
    asked, out = notebook.cell('predict(\n    "it"'), notebook.cell('outcome("it"')
    notebook.run_to(asked)
    field = notebook.output(asked).get_by_role("textbox")
    field.fill("0.4")
    field.press("Enter")
    notebook.output(asked).get_by_text("kept: 0.4").wait_for()
    notebook.run(out)
    assert "You said 0.4 of snow. It is 0.364 of snow: close." in said(notebook, out)
    picture(page, "prediction")

    # An answer that passes is kept
    exercise = notebook.cell('@exercise("segsum")')
    notebook.run(exercise, ANSWERED)
    assert "It is kept in answers/segsum.py." in said(notebook, exercise)
    assert "masked_fill" in (course / "answers" / "segsum.py").read_text(encoding="utf-8")
    notebook.save()

    # A new kernel knows both
    notebook.restart()
    notebook.run_to(asked)
    assert notebook.output(asked).get_by_role("textbox").input_value() == "0.4"
    notebook.run(exercise, OPEN)
    assert "segsum: passed before." in said(notebook, exercise)
    notebook.run(exercise, ANSWERED)
    page.wait_for_timeout(300)
    notebook.save()
    assert notebook.errors() == []
    notebook.shut_down()

    # The next chapter uses the answer
    later = Notebook(page, made, CHUNKS)
    taken = later.cell('segsum = answer("segsum")')
    later.run(taken)
    assert "segsum: yours. It is taken from answers/segsum.py." in said(later, taken)
    assert "attention_matrix: the reference." in said(later, taken)
    later.shut_down()

    # The chapter is brought back: it is new, the reader's is kept, and guess and answer live on
    again = ["make", "-C", str(ROOT), "-o", ".venv/lab-installed", "again", f"COURSE={course}", "CHAPTER=04"]
    subprocess.run(again, check=True, capture_output=True)
    (aside,) = (course / "aside").glob(f"*/{DUALITY}")
    assert "masked_fill(~ones.tril(-1)" in aside.read_text(encoding="utf-8")
    notebook = Notebook(page, made, DUALITY)
    assert page.locator(".jp-OutputArea-output").count() == 0
    assert notebook.source(exercise).endswith("    ...")
    notebook.run_to(asked)
    assert notebook.output(asked).get_by_role("textbox").input_value() == "0.4"
    notebook.run(out)
    assert "You said 0.4 of snow." in said(notebook, out)
    notebook.run(exercise)
    assert "segsum: passed before. Your kept answer, answers/segsum.py, is used from here on." in said(
        notebook, exercise
    )
    picture(page, "brought_back")
    assert notebook.errors() == []
    notebook.shut_down()
    assert page.watch.errors == [] and page.watch.outside == []
