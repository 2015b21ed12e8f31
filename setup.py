"""All but one thing about the package stands in pyproject.toml: a wheel carries the sources of the notebooks as well.

`mamba2-lab course` makes a reader's copies of them. They lie outside of the package, where their writers want them.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCES = Path("notebooks", "source")


class WithNotebooks(build_py):
    """Copies them into the built package, `mamba2_lab/course/notebooks`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # there the package finds them where they are
            target = Path(self.build_lib, "mamba2_lab", "course", "notebooks")
            target.mkdir(parents=True, exist_ok=True)
            for source in sorted(SOURCES.glob("*.py")):
                shutil.copyfile(source, target / source.name)


setup(cmdclass={"build_py": WithNotebooks})
