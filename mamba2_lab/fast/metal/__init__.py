"""Kernels of our own in Metal, for a Mac: where torch launches many small ones, a few.

    *.metal     the kernels, each with what it takes; common.metal is what they share
    shaders     their sources, compiled
    proof       how each must prove itself on the machine at hand before it is taken
    rows        what they may read where it lies
    token       one token through a stack: the residual stream and its norms
    mamba1 mamba2 mamba3       and through each mixer
    sequence    a prompt's convolution and scan
    stored      matrices in 8 and 4 bits times a few rows

What decides there is how many kernels are launched and how many bytes move. MAMBA2_LAB_METAL=0 switches all off.

torch.compile writes kernels for Metal, too. Of a token it makes a few more than these, because each sum over an axis
ends one; of a prompt as many; and it compiles anew for each length. What a state loses it takes as exp(a) - 1, which
leaves few digits where hardly anything is lost. So these are the ones that are taken, and `Mamba2LM.compile` stays what
it is. Both were counted, and run on the CPU, on an emulated device.

Checked by emulation on Linux; not run on Apple hardware.
"""

from mamba2_lab.fast.metal import sequence as sequence
from mamba2_lab.fast.metal import stored as stored
from mamba2_lab.fast.metal import token as token
