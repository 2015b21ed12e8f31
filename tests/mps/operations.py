"""Which operations the installed torch can compute on mps, read from the list of kernels that comes with it.

torch ships the file from which its dispatcher was made, native_functions.yaml, in every wheel, on every platform. So
what a Mac can compute may be asked on any machine.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torchgen
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchgen.gen import parse_native_yaml
from torchgen.model import DispatchKey, NativeFunction

# Registered to run on the CPU, copies there and back included (aten/src/ATen/mps/MPSFallback.mm).
FALL_BACK_TO_CPU = frozenset({"embedding_renorm_", "linalg_svd", "linalg_svd.U", "col2im", "upsample_nearest3d.vec"})

# They have a kernel under another name (mps_copy_, _mps_convolution), reached by a branch inside them.
BRANCH_INSIDE = frozenset({"copy_", "convolution", "convolution_backward"})

# Metal has no float64, and complex numbers only in part: the model does without both.
UNWANTED_DTYPES = frozenset({torch.float64, torch.complex32, torch.complex64, torch.complex128})


class RefusedError(AssertionError):
    """An operation that mps cannot compute."""


@functools.cache
def functions() -> dict[str, NativeFunction]:
    """Every aten operation of the installed torch by name, overload included: "add.Tensor"."""
    return {str(function.func.name): function for function in _parsed().native_functions}


def has_kernel(name: str) -> bool:
    """Whether there is an MPS kernel, its own or that of the structured operation behind it."""
    function = functions()[name]
    kernels = _parsed().backend_indices[DispatchKey.MPS]
    behind = function if function.structured_delegate is None else functions()[str(function.structured_delegate)]
    return kernels.has_kernel(function) or kernels.has_kernel(behind) or name in BRANCH_INSIDE


def is_composite(name: str) -> bool:
    """Whether it is made of other operations, which are judged on their own."""
    function = functions()[name]
    return (
        function.has_composite_implicit_autograd_kernel
        or function.has_composite_explicit_autograd_kernel
        or function.has_composite_explicit_autograd_non_functional_kernel
    )


def verdict(name: str) -> str:
    """How a Mac would compute it: "kernel", "composite", "on the cpu" or "not at all"."""
    if name in FALL_BACK_TO_CPU:
        return "on the cpu"
    if name not in functions():
        return "not at all"
    return "kernel" if has_kernel(name) else "composite" if is_composite(name) else "not at all"


@functools.cache
def _parsed() -> Any:
    folder = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    return parse_native_yaml(str(folder / "native_functions.yaml"), str(folder / "tags.yaml"))


class Recorder(TorchDispatchMode):
    """Notes every operation that runs inside it, and the dtypes it met: `seen` is {name: {dtypes}}."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = defaultdict(set)
        self._listening = True

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """What runs inside is not noted: it is the host's."""
        self._listening = False
        try:
            yield
        finally:
            self._listening = True

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if self._listening and operation.namespace == "aten":
            name = operation._schema.name.removeprefix("aten::")
            if operation._overloadname != "default":
                name += f".{operation._overloadname}"
            self.seen[name].update(_dtypes((args, kwargs or {}, result)))
        return result


def _dtypes(value: Any) -> Iterator[torch.dtype]:
    """The dtypes in the arguments or results of an operation, those asked for included."""
    if isinstance(value, Tensor):
        yield value.dtype
    elif isinstance(value, torch.dtype):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _dtypes(item)


def require_mps(seen: dict[str, set[torch.dtype]]) -> None:
    """Raise for the operations and dtypes that mps does not have.

    Raises:
        RefusedError: naming all of them.
    """
    faults = []
    for name, dtypes in sorted(seen.items()):
        if (how := verdict(name)) not in ("kernel", "composite"):
            faults.append(f"aten::{name} runs {how}")
        for dtype in sorted(map(str, dtypes & UNWANTED_DTYPES)):
            faults.append(f"aten::{name} meets {dtype}")
    if faults:
        raise RefusedError("mps cannot compute this:\n  " + "\n  ".join(faults))


def table(seen: dict[str, set[torch.dtype]]) -> str:
    """The operations seen, one per line: how a Mac computes it, and the dtypes."""
    lines = []
    for name, dtypes in sorted(seen.items()):
        kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        lines.append(f"{name:<40} {verdict(name):<10} {kinds}")
    return "\n".join([*lines, f"{len(lines)} operations"])
