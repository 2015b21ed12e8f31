"""Answers as learners write them: wrong ones with what they must be told, and right ones in other ways of writing.

A folder holds those of a chapter, a file those of an exercise. They were written from the text of the exercises alone,
before a look at the mistakes that the exercises know; what the messages say was filled in afterwards.
"""

import importlib
import pkgutil

from support.learners.collect import RIGHT, UNEXPLAINED, WRONG

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["RIGHT", "UNEXPLAINED", "WRONG"]
