"""Kernels of our own in Metal, for a Mac: where torch launches many small ones, a few.

    *.metal     the kernels, each with what it takes; common.metal is what they share
    shaders     their sources, compiled
    proof       how each must prove itself on the machine at hand before it is taken
    rows        what they may read where it lies
    token       one token through a stack
    sequence    a prompt's convolution and scan
    stored      matrices in 8 and 4 bits times a few rows

What decides there is how many kernels are launched and how many bytes move. MAMBA2_LAB_METAL=0 switches all off.
Checked by emulation on Linux; not run on Apple hardware.
"""

from mamba2_lab.fast.metal import sequence as sequence
from mamba2_lab.fast.metal import stored as stored
from mamba2_lab.fast.metal import token as token
