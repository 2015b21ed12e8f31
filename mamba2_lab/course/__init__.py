"""The course: its chapters, and what the notebooks need to teach them."""

from mamba2_lab.course.chapters import CHAPTERS, Chapter

__all__ = ["CHAPTERS", "Chapter"]
