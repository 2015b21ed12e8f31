"""The course: its chapters, and what the notebooks need to teach them.

    from mamba2_lab.course import exercise

    @exercise("segsum")
    def segsum(log_decay):
        '''(..., l) -> (..., l, l): summed log decay from source s to target t; -inf above the diagonal.'''
        ...

`exercise` checks the function at once and says how it went; `glossary` shows what words mean. `predict` asks for a
guess, and `outcome` shows it beside what came out.

Behind it: `declare` is how an exercise is written, `exercises` holds them chapter by chapter, `judge` says what is not
right yet in an answer, and `fill_in` answers a whole notebook, rightly or wrongly, for the tests.
"""

from mamba2_lab.course.answers import Answer, answer, exercise
from mamba2_lab.course.chapters import CHAPTERS, Chapter
from mamba2_lab.course.passed import progress
from mamba2_lab.course.predictions import outcome, predict
from mamba2_lab.course.terms import TERMS, Term, glossary

__all__ = [
    "CHAPTERS",
    "TERMS",
    "Answer",
    "Chapter",
    "Term",
    "answer",
    "exercise",
    "glossary",
    "outcome",
    "predict",
    "progress",
]
