"""Answers as learners write them: wrong ones with what they must be told, and right ones in other ways of writing.

Those of a chapter stand in a module of its name, and a second set in the modules called `again`. They were written from
the text of the exercises alone, before a look at the mistakes that the exercises know; what the messages say was filled
in afterwards.
"""

import importlib
import pkgutil

from support.learners.collect import RIGHT, UNEXPLAINED, WRONG

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["RIGHT", "UNEXPLAINED", "WRONG"]
