"""Planted copies of held-out text are found in training text; what is only alike stays."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba2_lab.data import Document, Overlap, decontaminate, standard_library

# Thirty lines of code, each different and of 30 characters or more.
CODE = [f"value_{i} = compute_something({i}, offset={i * 7})" for i in range(30)]
OTHER = [f"result_{i} = other_function_name(argument={i})" for i in range(30)]


def document(name: str, lines: list[str]) -> Document:
    return Document(name, "\n".join(lines) + "\n")


HELD_OUT = document("held.py", CODE)


def dropped(*lines: str, held_out: Document = HELD_OUT) -> bool:
    train = document("train.py", list(lines))
    kept, overlaps = decontaminate([train], [held_out])
    assert kept == (() if overlaps else (train,))
    return bool(overlaps)


def test_a_copy_is_dropped_and_named_with_its_longest_shared_line():
    copy = document("package/copy.py", OTHER[:5] + CODE[9:17] + OTHER[5:])
    honest = document("package/honest.py", OTHER)
    others = [document("held_2.py", ["x = 1"]), document("held_3.py", CODE[:8])]
    kept, overlaps = decontaminate([honest, copy, honest], [*others, HELD_OUT])
    assert kept == (honest, honest)
    assert overlaps == (Overlap("package/copy.py", "held.py", "value_15 = compute_something(15, offset=105)"),)


def test_eight_lines_in_a_row_are_a_copy_and_seven_are_not():
    assert dropped(*OTHER, *CODE[:8])
    assert not dropped(*OTHER, *CODE[:7], *OTHER)
    assert not dropped(*CODE[:7], "in_between = 1", *CODE[7:14])
    assert not dropped(*CODE[7::-1]), "the same lines in another order"


def test_a_changed_character_makes_another_line():
    changed = [line.replace("offset", "offset_") if i % 8 == 7 else line for i, line in enumerate(CODE)]
    assert not dropped(*changed)
    assert dropped(*changed[:8], *CODE[8:16])


def test_a_copy_is_found_at_another_indentation_among_blank_lines_and_comments():
    assert dropped("class A:", *(f"        {line}  " for line in CODE[:8]))
    assert dropped("class A:", *(f"\t{line}\t" for line in CODE[:8]))
    assert dropped(*(line + "\n\n   \n" for line in CODE[:8]))
    assert dropped(*(f"# another comment {i}\n{line}" for i, line in enumerate(CODE[:8])))
    commented = document("held.py", [f"  # note {i}\n{line}" for i, line in enumerate(CODE)])
    assert dropped(*CODE[:8], held_out=commented)


def test_a_licence_header_in_comments_is_no_copy():
    licence = [f"# Licensed under some licence, sentence {i} of a long and legal text" for i in range(12)]
    assert not dropped(*licence, *OTHER, held_out=document("held.py", licence + CODE))


@pytest.mark.parametrize(("length", "found"), [(24, False), (25, True)])
def test_eight_lines_of_fewer_than_200_characters_are_idiom(length, found):
    lines = [f"import {'m' * (length - 8)}{i}" for i in range(8)]
    assert dropped(*lines, held_out=document("held.py", lines)) is found


def test_the_first_held_out_document_is_named_and_every_one_is_looked_at():
    held_out = [document("a.py", CODE), document("b.py", CODE), document("c.py", OTHER)]
    train = [document("copy.py", CODE), document("last.py", OTHER[22:])]
    kept, overlaps = decontaminate(iter(train), iter(held_out))
    assert kept == ()
    assert [(o.dropped, o.held_out) for o in overlaps] == [("copy.py", "a.py"), ("last.py", "c.py")]


@pytest.mark.parametrize("text", ["", "\n\n", "x = 1\n", "\n".join(CODE[:7])], ids=["empty", "blank", "one", "seven"])
def test_short_documents_match_nothing(text):
    short = Document("short.py", text)
    assert decontaminate([short, HELD_OUT], [short]) == ((short, HELD_OUT), ())
    assert decontaminate([short], [HELD_OUT]) == ((short,), ())
    assert decontaminate([], []) == ((), ())


@given(st.lists(st.sampled_from(CODE[:3]), max_size=24), st.lists(st.sampled_from(CODE[:3]), max_size=24))
def test_what_is_dropped_is_what_a_search_for_every_run_finds(train, held_out):
    joined = "\n" + "\n".join(train) + "\n"
    runs = ["\n" + "\n".join(held_out[i : i + 8]) + "\n" for i in range(len(held_out) - 7)]
    assert dropped(*train, held_out=document("held.py", held_out)) is any(run in joined for run in runs)


def test_a_module_planted_in_another_file_is_found_among_the_library():
    """Parts of real modules, indented and hidden in others: each is found, and by its name."""
    library = standard_library()
    modules = {d.name: d for d in library.train}
    held_out = [modules[name] for name in ("json/decoder.py", "heapq.py", "textwrap.py", "queue.py", "shlex.py")]
    others = [d for d in library.train if d.name.startswith(("email/", "asyncio/", "http/"))]
    clean, before = decontaminate(others, held_out)
    assert before == ()
    generator = random.Random(0)
    planted = []
    for host, source in zip(clean, held_out, strict=False):
        lines = source.text.splitlines()
        middle = len(lines) // 2
        stolen = "\n".join("    " + line for line in lines[middle : middle + 40])
        at = generator.randrange(len(host.text))
        planted.append(Document(host.name, host.text[:at] + "\n" + stolen + "\n" + host.text[at:]))
    kept, overlaps = decontaminate([*planted, *clean[len(planted) :]], held_out)
    assert [(o.dropped, o.held_out) for o in overlaps] == [
        (p.name, h.name) for p, h in zip(planted, held_out, strict=True)
    ]
    assert kept == clean[len(planted) :]
    texts = {d.name: d.text for d in held_out}
    assert all(o.line in texts[o.held_out] for o in overlaps)
