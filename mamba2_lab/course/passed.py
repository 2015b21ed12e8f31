"""How far a reader has come: which exercises of which chapter have a kept answer."""

from __future__ import annotations

from collections import Counter

from mamba2_lab.course import exercises, kept


def progress() -> dict[int, tuple[int, int]]:
    """Of each chapter, by its number: how many of its exercises have a kept answer, and how many it has.

    An answer counts as soon as its file is there: it passed when it was written.
    """
    every, passed = Counter[int](), Counter[int]()
    for name, exercise in exercises.all_exercises().items():
        place = kept.place(name)
        every[exercise.chapter.number] += 1
        passed[exercise.chapter.number] += place is not None and place.is_file()
    return {number: (passed[number], count) for number, count in every.items()}
