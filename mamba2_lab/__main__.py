"""One entry for `mamba2-lab ...`, `python -m mamba2_lab ...` and `accelerate launch -m mamba2_lab ...`."""

import sys

from mamba2_lab.cli import main as main

if __name__ == "__main__":
    sys.exit(main())
