"""Kernels of our own in Metal, for a Mac: where torch launches many small ones, a few.

    common, norm, gate, token .metal   the kernels, each with what it takes
    shaders     their sources, compiled
    proof       how each must prove itself on the machine at hand before it is taken
    token       one token through a stack

What decides there is how many kernels are launched and how many bytes move. MAMBA2_LAB_METAL=0 switches all off.
Checked by emulation on Linux; not run on Apple hardware.
"""

from mamba2_lab.fast.metal import token as token
