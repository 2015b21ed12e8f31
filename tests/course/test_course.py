"""The table of contents is one list; README, notebooks and the map follow it."""

import itertools
import re
from pathlib import Path

import pytest

from mamba2_lab.course import CHAPTERS, Chapter

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\d\d) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def source(chapter: Chapter, joined: bool = False) -> str:
    """The text of its notebook; joined: with the lines of a paragraph as one."""
    text = (ROOT / "notebooks" / "source" / f"{chapter.slug}.py").read_text(encoding="utf-8")
    return text.replace("\n# ", " ") if joined else text


def test_chapters_are_numbered_in_order_from_zero() -> None:
    assert [chapter.number for chapter in CHAPTERS] == list(range(len(CHAPTERS)))


def test_every_notebook_is_a_chapter_and_every_chapter_a_notebook() -> None:
    slugs = {chapter.slug for chapter in CHAPTERS}
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == slugs
    assert {path.stem for path in (ROOT / "notebooks" / "source").glob("*.py")} == slugs


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.slug)
def test_the_readme_lists_the_chapter_and_links_it(chapter) -> None:
    rows = {int(number): rest for number, *rest in ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert rows[chapter.number] == [f"[{chapter.title}](notebooks/{chapter.slug}.ipynb)", chapter.summary]


@pytest.mark.parametrize("before, after", list(itertools.pairwise(CHAPTERS)), ids=lambda chapter: chapter.slug)
def test_neighbouring_notebooks_link_each_other(before, after) -> None:
    for chapter, word, other in ((before, "Next", after), (after, "Before", before)):
        assert f"**{word}**: [{other.number:02d}, {other.title}]({other.slug}.ipynb)" in source(chapter, joined=True)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.slug)
def test_a_chapter_ends_in_an_open_task_and_in_links_to_read_on(chapter) -> None:
    _, _, end = source(chapter).partition("# ## On your own\n")
    task, _, links = end.partition("# ## To read on\n")
    assert len(task.split()) > 30
    assert 2 <= len(re.findall(r"\]\(https://", links)) <= 4


@pytest.mark.parametrize("chapter", CHAPTERS[1:], ids=lambda chapter: chapter.slug)
def test_the_minutes_of_the_exercises_add_up_to_what_is_said_at_first(chapter) -> None:
    text = source(chapter, joined=True)
    exercises = re.findall(r"importance \d of 3 · (\d+) minutes · ([^#]*)", text)
    asked = sum(int(minutes) for minutes, needed in exercises if "one may skip" not in needed)
    (said,) = re.findall(r"(\d+)(?: minutes)? of them for the exercises", text)
    assert int(said) == asked
