"""pytest reads this before it runs the notebooks in this folder (`pytest --nbmake notebooks`)."""

from build import poll_in_short_steps

poll_in_short_steps()
