"""The same numbers, sooner: faster ways of the operations that scan/, layers/ and model/ define.

    step              a turn of the recurrence in fewer passes over the state, with less rounding
    token             one token through a model of Mamba-2, by loops that numba compiles
    known             what they know of a model, and whether it is still true
    rows              a few rows through a matrix, likewise
    loops             what these run
    lanes             a row of numbers in 4 bits, eight at a time
    sequence          a prompt on a CPU, by loops likewise: convolution, scan, gate and norm
    scanning          the scan: a head from its first token to its last, in blocks
    tiles             what blocks read of a state and write into it, in registers
    around            the convolution before it, the gate and the norm behind it
    elementary        exp and silu for loops
    sharing           how threads share a loop, and wait for one another
    decode            one token through a stack of blocks, in few small operations
    chunks            decays inside of chunks, states between them
    chunks_bfloat16   whole blocks of chunks for GPUs that multiply in bfloat16
    convolution       shift, multiply, add; one product per channel
    norm              gate and norm, computed again in the backward pass instead of kept
    linear            a matrix times rows by the library that serves a CPU best
    stored            matrices in 8 and 4 bits times rows, by torch's own kernels
    floats            such matrices as floats, in one pass, for many rows
    selective         the scan of Mamba-1, a tile of tokens at a time
    ranks             several ranks of a head on a CPU, one chunk after another
    trapezoid         the scan of Mamba-3 on a GPU, in kernels of its own
    turning           k and q of Mamba-3 on a GPU, and how far they turn, likewise
    triton_kernels    what those two run
    triton_ways       where those two are taken
    attention         softmax attention by torch's own kernels
    metal             tokens and prompts on a Mac, in kernels of our own
    own_backward      what several of these have: a backward pass of their own
    compiled          torch.compile, for a whole model

How to read one of them: go to the definition it is registered beside (`turn.way(...)` belongs to `turn` in
scan/recurrence.py), read that, then what the way does otherwise. `serves` says where it is taken. tests/fast/test_ways
holds each against its definition, values and gradients, to the `within` that it states; and everything else is tested
with the ways that serve it, against oracles that know none of this.

Nothing plain imports this folder; importing the package registers what is in it. `mamba2_lab.operation.plainly()`
switches all of it off.
"""

from mamba2_lab.fast import rows as rows  # isort: skip  # asked before the ways that torch's operations offer
from mamba2_lab.fast import token as token  # isort: skip
from mamba2_lab.fast import sequence as sequence  # isort: skip
from mamba2_lab.fast import metal as metal  # isort: skip
from mamba2_lab.fast import attention as attention
from mamba2_lab.fast import chunks as chunks
from mamba2_lab.fast import chunks_bfloat16 as chunks_bfloat16
from mamba2_lab.fast import convolution as convolution
from mamba2_lab.fast import decode as decode
from mamba2_lab.fast import linear as linear
from mamba2_lab.fast import norm as norm
from mamba2_lab.fast import ranks as ranks
from mamba2_lab.fast import selective as selective
from mamba2_lab.fast import step as step
from mamba2_lab.fast import stored as stored
from mamba2_lab.fast import trapezoid as trapezoid
from mamba2_lab.fast import turning as turning
