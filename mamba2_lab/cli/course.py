"""`mamba2-lab course`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mamba2_lab.cli.parser import Parser, add_command

EPILOG = """\
examples:
  mamba2-lab course my-course                 the notebooks, to work in
  mamba2-lab course my-course --again 05      notebook 05 as it was at first
"""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    command = add_command(
        commands, "course", run, help="the notebooks of the course, as copies of your own", epilog=EPILOG
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="where they are, or shall be")
    chosen = command.add_mutually_exclusive_group()
    chosen.add_argument("--again", metavar="CHAPTER", help="make one notebook anew, by its number; yours is kept aside")
    chosen.add_argument(
        "--start-over", action="store_true", help="make all anew, without answers and guesses; yours are kept aside"
    )


def run(options: argparse.Namespace) -> None:
    """Make copies of the course's notebooks to work in: without outputs, so that nothing is told before you ask for
    it. A copy that is there is never overwritten. What passes its check in them, and what you predict, is kept in the
    same folder, in plain files. Whatever one of the options takes away is kept in FOLDER/aside."""
    from mamba2_lab.course import copies  # which brings IPython along: no other command waits for it

    folder: Path = options.folder
    if options.again is not None:
        name, kept = copies.bring_back(folder, options.again)
        print(f"{name}.ipynb is as it was in the beginning" + (f"; yours lies in {kept}" if kept else ""))
    elif options.start_over:
        kept = copies.start_over(folder)
        print("the course begins anew" + (f"; what you had lies in {kept}" if kept else ""))
    else:
        made = copies.make(folder)
        news = [f"{len(made.new)} notebooks made"] if made.new else []
        news += [f"{len(made.kept)} were there and are as you left them"] if made.kept else []
        print(f"{folder}: {', '.join(news)}")
    print(f"open them with: jupyter lab {folder / '00_start_here.ipynb'}")
