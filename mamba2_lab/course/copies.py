"""The reader's own copies of the notebooks: without outputs, made once, and never overwritten.

A copy holds no outcome: outputs are left out, and the paragraph that tells one is folded.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from mamba2_lab.checks import Refusal
from mamba2_lab.course.folder import ANSWERS, GUESSES
from mamba2_lab.machine.files import write_text

ASIDE = "aside"  # what was taken away lies here, in a folder for each time
ANSWER_TAG = "answer"  # of a paragraph that tells an outcome
KERNEL = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
ABOUT = """\
# Your answers

An answer that passes its check is kept here, a file for each exercise: your function as you wrote it, with what it
takes from the notebook. Later notebooks use it, after they have checked it again.

Read it, edit it, or delete it: without its file an exercise is open again. `mamba2-lab course FOLDER --start-over`
takes all of them away, with your guesses and notebooks, and keeps them in the folder `aside`.
"""


@dataclass(frozen=True)
class Made:
    """The notebooks that were made, and those that were there already and are as they were."""

    new: list[str]
    kept: list[str]


def source_folder() -> Path:
    """Where the notebooks' sources lie: in an installed package beside this file, in the repository in notebooks/."""
    installed = Path(__file__).parent / "notebooks"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "notebooks" / "source"


def chapters() -> dict[str, Path]:
    """The sources by the names of their notebooks, in order."""
    return {path.stem: path for path in sorted(source_folder().glob("*.py"))}


def make(folder: Path) -> Made:
    """Make the copies that are not there yet, and the folder in which answers are kept.

    Raises:
        ValueError: if it is the folder of the course's own notebooks. OSError: if it cannot be written to.
    """
    if (folder / "source").is_dir():
        raise ValueError(f"{folder} holds the course's own notebooks; name a folder for copies of your own")
    made = Made([], [])
    for name, source in chapters().items():
        path = folder / f"{name}.ipynb"
        if path.exists():
            made.kept.append(name)
        else:
            write_text(path, copy_of(source))
            made.new.append(name)
    if not (about := folder / ANSWERS / "README.md").exists():
        write_text(about, ABOUT)
    return made


def bring_back(folder: Path, chapter: str) -> tuple[str, Path | None]:
    """Make one notebook anew, and keep the reader's.

    Args:
        chapter: its number, 5 or 05, or its name.

    Returns:
        The notebook's name, and where the reader's lies now: None if there was none.

    Raises:
        ValueError: if there is no such chapter. OSError.
    """
    names = list(chapters())
    found = [name for name in names if chapter in (name, f"{name}.ipynb") or same_number(chapter, name)]
    if not found:
        raise ValueError(
            Refusal("again", f"the number of a chapter, such as {', '.join(n[:2] for n in names)}", chapter)
        )
    kept = _take_away(folder, [f"{found[0]}.ipynb"])
    make(folder)
    return found[0], kept


def start_over(folder: Path) -> Path | None:
    """Make every notebook anew, without answers and guesses. What was there is kept: where, or None if nothing was."""
    kept = _take_away(folder, [f"{name}.ipynb" for name in chapters()] + [ANSWERS, GUESSES])
    make(folder)
    return kept


def same_number(chapter: str, name: str) -> bool:
    """Whether it is the number of that notebook, with or without a zero in front."""
    return chapter.isdecimal() and int(chapter) == int(name[:2])


def _take_away(folder: Path, names: list[str]) -> Path | None:
    """Move these out of the way, into a folder of this moment."""
    there = [folder / name for name in names if (folder / name).exists()]
    if not there:
        return None
    moment = time.strftime("%Y-%m-%d_%H-%M-%S")
    aside, again = folder / ASIDE / moment, 1
    while aside.exists():  # two within a second
        again += 1
        aside = folder / ASIDE / f"{moment}_{again}"
    aside.mkdir(parents=True)
    for path in there:
        os.replace(path, aside / path.name)
    return aside


def copy_of(source: Path) -> str:
    """The notebook of a source, as text: its cells without outputs, and what tells an outcome folded.

    Raises:
        ModuleNotFoundError: without jupytext, which comes with JupyterLab by the extra `lab`.
    """
    try:
        import jupytext
        import nbformat
    except ModuleNotFoundError as error:
        says = 'the course needs JupyterLab: pip install "mamba2-lab[lab]"'
        raise ModuleNotFoundError(says, name=error.name) from error

    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(KERNEL)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "markdown" and ANSWER_TAG in tags:
            cell.source = folded(cell.source)
    return nbformat.writes(notebook, version=4) + "\n"


def folded(text: str) -> str:
    """Markdown that a click opens."""
    return (
        f"<details><summary><em>After you have run the cell above: what came out</em></summary>\n\n{text}\n\n</details>"
    )
