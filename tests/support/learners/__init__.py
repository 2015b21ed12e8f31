"""Answers as learners write them: wrong ones with what they must be told, and right ones in other ways of writing.

Those of a chapter stand in a module of its name. They were written from the text of the exercises alone.
"""

from support.learners.collect import RIGHT, WRONG

__all__ = ["RIGHT", "WRONG"]
