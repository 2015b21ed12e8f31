"""The command line: `mamba2-lab train | generate | evaluate | convert | doctor | bench | course`, a file each."""

from mamba2_lab.cli.errors import INTERRUPTED as INTERRUPTED
from mamba2_lab.cli.program import main as main
