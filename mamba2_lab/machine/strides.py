"""Rows where they lie: what kernels and loops read that know addresses, and not tensors."""

from torch import Tensor


def in_rows(tensor: Tensor) -> tuple[Tensor, int]:
    """A tensor (...,d) whose rows lie apart by one stride, and that stride; itself, if they do already."""
    *outer, d = tensor.shape
    strides, even = tensor.stride(), tensor.stride(-1) == 1 or d == 1
    stride, rows = d, 1
    for size, step in zip(reversed(outer), reversed(strides[:-1]), strict=True):
        if size > 1:
            stride = step if rows == 1 else stride
            even = even and step == stride * rows
            rows *= size
    return (tensor, stride) if even else (tensor.contiguous(), d)
