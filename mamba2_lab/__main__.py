"""One entry for `mamba2-lab ...`, `python -m mamba2_lab ...` and `accelerate launch -m mamba2_lab ...`."""

import sys

from mamba2_lab import cli, interrupts


def main() -> int:
    """Run the command that this process was started for. Ctrl-C is quiet at any moment of it."""
    if not interrupts.taken:
        return cli.main()
    try:
        try:
            interrupts.raise_the_next()
            return cli.main()
        finally:
            interrupts.leave_to_the_system()
    except KeyboardInterrupt:  # between the lines here
        return cli.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
