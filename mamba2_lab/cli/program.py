"""The program: it reads its command line, runs the command, and says what went wrong."""

from __future__ import annotations

from mamba2_lab import __version__
from mamba2_lab.checks import told
from mamba2_lab.cli import bench, convert, course, doctor, evaluate, generate, train
from mamba2_lab.cli.errors import CLOSED_PIPE, INTERRUPTED, OTHER_NAMES, is_lack_of_memory, let_go_of_output, refuse
from mamba2_lab.cli.parser import Parser
from mamba2_lab.machine.freed_memory import keep_freed_memory

COMMANDS = (train, generate, evaluate, convert, doctor, bench, course)


def main(arguments: list[str] | None = None) -> int:
    """Run a command. The exit status is 0, or 1 for what a user can mend, told in one line and without a traceback.

    Ctrl-C, and a reader that has seen enough (`| head`), end it quietly, with the status that shells expect.

    Raises:
        SystemExit: with status 0 after --help and --version, with 2 for a command line that cannot be read.
    """
    place, called = "mamba2-lab", OTHER_NAMES
    try:
        try:
            options = _parser().parse_args(arguments)
            place = f"mamba2-lab {options.command}"
            called = {name: f"--{name.replace('_', '-')}" for name in vars(options)} | OTHER_NAMES
            keep_freed_memory()
            return options.run(options) or 0
        finally:
            print(end="", flush=True)  # or Python would do it at its end, and could tell nobody that it failed
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        let_go_of_output()
        return CLOSED_PIPE
    except UnicodeEncodeError as error:
        text = f"standard output is {error.encoding} and cannot take {error.object[error.start]!r}"
        return refuse(place, f"{text}; PYTHONIOENCODING=utf-8 lets it take every text")
    except (ValueError, TypeError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        return refuse(place, told(error, called))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # Python 3.11 wraps one that comes while a class is made
            return INTERRUPTED
        if not is_lack_of_memory(error):
            raise
        return refuse(place, f"more memory is needed than there is: {error}")


def _parser() -> Parser:
    parser = Parser(
        prog="mamba2-lab",
        description="Mamba-2 on an ordinary laptop.",
        epilog="mamba2-lab COMMAND --help tells more of each.",
    )
    parser.add_argument("--version", action="version", version=f"mamba2-lab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser
