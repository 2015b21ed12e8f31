"""How well a text is predicted: bits per byte, of models and of compressors, on the same bytes.

blocks.py       a long text cut where tokenizers cut it anyway
reading.py      a text of any length read by a model in bounded memory: nats, tokens
compressors.py  gzip and xz at their strongest
side_by_side.py several models and the compressors on one text, comparable wherever it is broken off
"""

from mamba2_lab.evaluation.compressors import COMPRESSORS as COMPRESSORS
from mamba2_lab.evaluation.reading import WINDOW as WINDOW
from mamba2_lab.evaluation.reading import Reading as Reading
from mamba2_lab.evaluation.side_by_side import Entrant as Entrant
from mamba2_lab.evaluation.side_by_side import Figures as Figures
from mamba2_lab.evaluation.side_by_side import SideBySide as SideBySide
from mamba2_lab.evaluation.side_by_side import total as total
