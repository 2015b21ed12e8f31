"""The recurrence."""

from mamba2_lab.scan.recurrence import CHUNKS_PER_BLOCK as CHUNKS_PER_BLOCK
from mamba2_lab.scan.recurrence import chunked as chunked
from mamba2_lab.scan.recurrence import document_starts as document_starts
from mamba2_lab.scan.recurrence import quadratic as quadratic
from mamba2_lab.scan.recurrence import segsum as segsum
from mamba2_lab.scan.recurrence import sequential as sequential
from mamba2_lab.scan.recurrence import step as step
from mamba2_lab.scan.recurrence import with_own_backward as with_own_backward
