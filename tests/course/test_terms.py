"""The glossary is one list of terms, in the order in which the chapters introduce them."""

import re
from pathlib import Path

import pytest

from mamba2_lab.course import CHAPTERS, TERMS, display, glossary

SOURCES = Path(__file__).resolve().parents[2] / "notebooks" / "source"


def test_terms_are_unique_and_sorted_by_chapter() -> None:
    names = [term.name.lower() for term in TERMS if len(term.name) > 1]  # the matrices A, B and C are no words
    assert len(set(names)) == len(names)
    chapters = [term.chapter for term in TERMS]
    assert chapters == sorted(chapters)
    assert set(chapters) <= {chapter.number for chapter in CHAPTERS}


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_meaning_is_one_sentence(term) -> None:
    assert term.meaning.endswith(".")
    assert ". " not in term.meaning
    assert term.meaning.count("`") % 2 == 0


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.slug)
def test_a_term_occurs_in_the_chapter_that_introduces_it(chapter) -> None:
    source = (SOURCES / f"{chapter.slug}.py").read_text(encoding="utf-8")
    text = " ".join(re.sub(r"[#*`]", " ", source).split()).lower()
    terms = [term.name for term in TERMS if term.chapter == chapter.number]
    assert [name for name in terms if not re.search(rf"\b{re.escape(name.lower())}", text)] == []


def test_the_terms_asked_for_are_shown_in_that_order(capsys) -> None:
    glossary("state", "decay")
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["term", "meaning", "notebook"]
    assert first.startswith("state  What a model remembers") and first.endswith("00")
    assert second.startswith("decay  The factor") and second.endswith("01")


def test_without_names_every_term_is_shown(capsys) -> None:
    glossary()
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(TERMS)


def test_an_unknown_term_is_an_error_that_names_close_ones() -> None:
    with pytest.raises(ValueError, match="such as decay, decay mask.*; got 'decays'"):
        glossary("decays")


def test_as_html_it_is_a_table_with_headers(monkeypatch) -> None:
    shown: list[display.Table] = []
    monkeypatch.setattr(display, "display", shown.append)
    glossary("dt")
    html = shown[0]._repr_html_()
    assert '<th scope="row" style="text-align: left">dt</th>' in html
    assert "<code>dt * A</code>" in html
