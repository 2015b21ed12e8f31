"""The table of contents is one list; README, notebooks and the map follow it."""

import itertools
import re
from pathlib import Path

import pytest

from mamba2_lab.course import CHAPTERS

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\d\d) \| (.+?) \| (.+?) \| (ready|being written) \|$", re.MULTILINE)


def test_chapters_are_numbered_in_order_from_zero() -> None:
    assert [chapter.number for chapter in CHAPTERS] == list(range(len(CHAPTERS)))


def test_every_notebook_is_a_chapter() -> None:
    slugs = {chapter.slug for chapter in CHAPTERS}
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} <= slugs


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.slug)
def test_the_readme_lists_the_chapter_as_it_is_and_links_it_once_it_exists(chapter) -> None:
    rows = {int(number): rest for number, *rest in ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    exists = (ROOT / "notebooks" / f"{chapter.slug}.ipynb").exists()
    title = f"[{chapter.title}](notebooks/{chapter.slug}.ipynb)" if exists else chapter.title
    assert rows[chapter.number] == [title, chapter.summary, "ready" if exists else "being written"]


@pytest.mark.parametrize("before, after", list(itertools.pairwise(CHAPTERS)), ids=lambda chapter: chapter.slug)
def test_neighbouring_notebooks_link_each_other(before, after) -> None:
    texts = {}
    for chapter in (before, after):
        path = ROOT / "notebooks" / "source" / f"{chapter.slug}.py"
        if not path.exists():
            pytest.skip(f"{chapter.slug} is being written")
        texts[chapter] = path.read_text(encoding="utf-8").replace("\n# ", " ")
    for text, word, other in ((texts[before], "Next", after), (texts[after], "Before", before)):
        assert f"**{word}**: [{other.number:02d}, {other.title}]({other.slug}.ipynb)" in text


FIRST = [chapter for chapter in CHAPTERS if chapter.number <= 6]


@pytest.mark.parametrize("chapter", FIRST, ids=lambda chapter: chapter.slug)
def test_a_chapter_ends_in_an_open_task_and_in_links_to_read_on(chapter) -> None:
    text = (ROOT / "notebooks" / "source" / f"{chapter.slug}.py").read_text(encoding="utf-8")
    _, _, end = text.partition("# ## On your own\n")
    task, _, links = end.partition("# ## To read on\n")
    assert len(task.split()) > 30
    assert 2 <= len(re.findall(r"\]\(https://", links)) <= 4


@pytest.mark.parametrize("chapter", FIRST[1:], ids=lambda chapter: chapter.slug)
def test_the_minutes_of_the_exercises_add_up_to_what_is_said_at_first(chapter) -> None:
    text = (ROOT / "notebooks" / "source" / f"{chapter.slug}.py").read_text(encoding="utf-8").replace("\n# ", " ")
    exercises = re.findall(r"importance \d of 3 · (\d+) minutes · ([^#]*)", text)
    asked = sum(int(minutes) for minutes, needed in exercises if "one may skip" not in needed)
    (said,) = re.findall(r"(\d+)(?: minutes)? of them for the exercises", text)
    assert int(said) == asked
