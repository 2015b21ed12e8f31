"""Metal kernels on a machine without Metal: compiled as C++, and run over their grid in any order.

`compile_shader` does for the emulated device what torch.mps.compile_shader does on a Mac. `complaint` runs one kernel
in a program of its own, under the compiler's sanitizers, with buffers exactly as large as they are said to be.

What this shows: that a kernel is C++ with Metal's address spaces, its numbers, that it stays in its buffers, and that
no barrier is missing. What it cannot show: that Apple's compiler takes it, its speed, and the rounding of a GPU.
Checked by emulation on Linux; not run on Apple hardware.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SHIM = Path(__file__).with_name("metal_host")
CACHE = Path(__file__).resolve().parents[2] / ".pytest_cache" / "metal_on_host"
DTYPES = {
    "float": torch.float32,
    "half": torch.float16,
    "bfloat": torch.bfloat16,
    "int": torch.int32,
    "long": torch.int64,
    "char": torch.int8,
    "uchar": torch.uint8,
}
SCALARS: dict[type, tuple[str, type[ctypes._SimpleCData]]] = {
    int: ("long", ctypes.c_int64),
    float: ("float", ctypes.c_float),
}
POSITIONS = {
    "thread_position_in_grid",
    "threadgroup_position_in_grid",
    "thread_position_in_threadgroup",
    "threads_per_threadgroup",
    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup",
    "simdgroups_per_threadgroup",
    "threads_per_simdgroup",
}
LIBRARY = ("-O1", "-shared", "-fPIC")
SANITIZERS = ("-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DAS_PROGRAM")
STRICT = ("-Wall", "-Werror=return-type", "-Werror=double-promotion", "-Wno-attributes", "-Wno-unused-function")

# Who else is to know of a kernel that is run: its name and the bytes that it may read and write. The emulated device.
listeners: list[Callable[[str, int], None]] = []
_one_at_a_time = threading.Lock()  # the shim keeps what it runs in variables of its own


def why_not() -> str | None:
    """Why kernels cannot be compiled here; None if they can."""
    if sys.platform != "linux":
        return f"kernels in Metal are compiled for the CPU on Linux; this is {sys.platform}"
    return None if shutil.which("g++") else "kernels in Metal are compiled by g++ here, which is not on the PATH"


class Parameter(NamedTuple):
    """One of a kernel's: a buffer or number with its place, or a position, which the grid gives."""

    type: str
    name: str
    place: int | None  # among the arguments
    position: str | None
    is_number: bool


def compile_shader(source: str) -> Library:
    """The kernels of a source, as torch.mps.compile_shader gives them.

    Raises:
        SyntaxError: with what is wrong with it, as on a Mac.
    """
    return Library(source)


class Library:
    """Its kernels are its attributes."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._kernels = {name: parameters(source, name) for name in re.findall(r"kernel\s+void\s+(\w+)", source)}
        self._library = ctypes.CDLL(str(_compiled(source, self._kernels, LIBRARY)))

    def __getattr__(self, name: str) -> Kernel:
        if name.startswith("__") or name not in self._kernels:
            raise AttributeError(name)
        return Kernel(self, name)


class Kernel:
    """Callable like torch's: with tensors and numbers, the number of threads, and how many of them are a group."""

    def __init__(self, library: Library, name: str) -> None:
        self.name, self.parameters = name, library._kernels[name]
        self._launch = getattr(library._library, f"launch_{name}")
        self._launch.restype = ctypes.c_char_p

    def __call__(self, *args: Tensor | int | float, threads: list[int], group_size: list[int], order: int = 0) -> None:
        """threads, group_size: along the grid's one axis. order: in which groups, and threads in a group, take turns: 0
        forward, 1 backward, others drawn.

        Raises:
            TypeError: for an argument that is not what the kernel takes. A Mac looks at none of this.
            RuntimeError: where threads wait for others that never come.
        """
        kept = _checked(self.name, self.parameters, args)
        for tell in listeners:
            tell(self.name, sum(span(arg).nbytes for arg in args if isinstance(arg, Tensor)))
        addresses = [arg.data_ptr() if isinstance(arg, Tensor) else ctypes.addressof(arg) for arg in kept]
        places = (ctypes.c_void_p * len(addresses))(*addresses)
        with _one_at_a_time:
            fault = self._launch(places, *map(ctypes.c_uint, (*threads, *group_size, order)))
        if fault:
            raise RuntimeError(f"{self.name}: {fault.decode()}")


def _checked(
    name: str, taken: Sequence[Parameter], args: Sequence[Tensor | int | float]
) -> list[Tensor | ctypes._SimpleCData]:
    given = [parameter for parameter in taken if parameter.place is not None]
    if len(given) != len(args):
        raise TypeError(f"{name} takes {len(given)} arguments; got {len(args)}")
    kept: list[Tensor | ctypes._SimpleCData] = []
    for parameter, arg in zip(given, args, strict=True):
        if isinstance(arg, Tensor):
            fits = not parameter.is_number and DTYPES[parameter.type] == arg.dtype
            kept.append(arg)
        else:
            kind, number = SCALARS[type(arg)]
            fits = parameter.is_number and parameter.type == kind
            kept.append(number(arg))
        if not fits:
            came = arg.dtype if isinstance(arg, Tensor) else type(arg).__name__
            raise TypeError(f"{name}: {parameter.name} is {parameter.type}; got {came}")
    return kept


def span(tensor: Tensor) -> Tensor:
    """All from the first to the last number of a tensor, in one row: what a kernel may touch of its memory."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((1 + steps if tensor.numel() else 0,), (1,))


def complaint(
    source: str, name: str, args: Sequence[Tensor | int | float], threads: list[int], group_size: list[int]
) -> str:
    """What the sanitizers say of one run, "" if nothing: an access outside of a buffer, or undefined behaviour."""
    taken = parameters(source, name)
    _checked(name, taken, args)
    program = _compiled(source, {name: taken}, SANITIZERS)
    parts = [_bytes(arg) for arg in args]
    sizes = [*threads, *group_size, *map(len, parts)]
    run = subprocess.run(
        [str(program), *map(str, sizes)],
        input=b"".join(parts),
        capture_output=True,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"},
    )
    said = run.stderr.decode(errors="replace")
    line = re.search(r"ERROR: AddressSanitizer: [^\n]*|runtime error: [^\n]*|error: [^\n]*", said)
    return "" if run.returncode == 0 else line[0] if line else said


def _bytes(arg: Tensor | int | float) -> bytes:
    if isinstance(arg, Tensor):
        return span(arg).contiguous().view(torch.uint8).numpy().tobytes()
    return bytes(SCALARS[type(arg)][1](arg))


# A source, read and compiled


def parameters(source: str, name: str) -> list[Parameter]:
    """What a kernel takes, in its order.

    Raises:
        SyntaxError: for a buffer that is not bound by its place, or a position that the grid does not give here.
    """
    heading = re.search(rf"kernel\s+void\s+{name}\s*\((.*?)\)\s*\{{", _without_comments(source), re.DOTALL)
    if heading is None:
        raise SyntaxError(f"there is no kernel {name}")
    found: list[Parameter] = []
    for text in heading[1].split(","):
        form = re.fullmatch(r"\s*(.*?)([*&]?)\s*(\w+)\s*\[\[(\w+)(?:\((\d+)\))?\]\]\s*", text, re.DOTALL)
        if form is None:
            raise SyntaxError(f"{name}: cannot read {text.strip()!r}")
        place = None if form[5] is None else int(form[5])
        kind = _meaning(source, form[1].split()[-1])
        if place is None and form[4] not in POSITIONS or place is not None and place != len(found):
            raise SyntaxError(f"{name}: {text.strip()!r} is no position known here, and bound to no place in order")
        found.append(Parameter(kind, form[3], place, form[4] if place is None else None, form[2] == "&"))
    return found


def _meaning(source: str, type: str) -> str:
    """A type that a #define stands for, or the type itself."""
    defined = re.search(rf"^#define {type} (\w+)$", source, re.MULTILINE)
    return defined[1] if defined else type


def _without_comments(source: str) -> str:
    return re.sub(r"//[^\n]*", "", source)


def without_address_space(source: str) -> list[str]:
    """Pointers and references that say not where they point to, which Metal wants to know of each."""
    defined = re.findall(r"^#define (\w+) (?:float|half|bfloat|int|uint|long|ulong|char|uchar)$", source, re.MULTILINE)
    types = "|".join([*DTYPES, "uint", "ulong", *defined])
    declared = re.finditer(rf"([\w ]*)\b(?:{types})\s*(?:const\s*)?[*&]\s*\w+\s*[=,;)\[]", _without_comments(source))
    spaces = ("device", "constant", "threadgroup", "thread")
    return [form[0].strip() for form in declared if not set(spaces) & set(form[1].split())]


def unknown_functions(source: str) -> set[str]:
    """What is called and is neither the source's own nor in the shim: C++ has more functions at hand than Metal."""
    code, shim = re.sub(r"\[\[.*?\]\]", "", _without_comments(source)), _shim().decode()
    called = set(re.findall(r"\b([a-z]\w*)\s*\(", code))
    own = set(re.findall(r"(?:inline \w+|kernel void) (\w+)\(", code))
    known = set(re.findall(r"inline \w+ (\w+)", shim))
    return called - own - known - {"if", "for", "while", "decltype", "uint", "ulong", *DTYPES}


def _compiled(source: str, kernels: dict[str, list[Parameter]], flags: Sequence[str]) -> Path:
    """The library, or the program, of this source: compiled if it is not there yet (about a second)."""
    if homeless := without_address_space(source):
        raise SyntaxError(f"a pointer must have an address space: {', '.join(homeless)}")
    if unknown := unknown_functions(source):
        raise SyntaxError(f"the shim of Metal's library has no {', '.join(sorted(unknown))}")
    together = "true" if re.search(r"\b(simd_\w+|threadgroup_barrier)\s*\(", source) else "false"
    rest = [f"#define TOGETHER {together}", "#undef double", *map(_launcher, kernels.items())]
    text = "\n".join(['#line 1 "kernel"', _for_the_host(source), *rest])
    if "-DAS_PROGRAM" in flags:
        text += PROGRAM.replace("NAME", next(iter(kernels)))
    command = ["g++", "-x", "c++", "-std=c++20", "-ffp-contract=off", *STRICT, *flags, f"-I{SHIM}", "-"]
    key = hashlib.sha256(repr((command, text)).encode() + _shim()).hexdigest()[:16]
    made = CACHE / key
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = made.with_suffix(f".{os.getpid()}")
        run = subprocess.run([*command, "-o", str(unfinished)], input=text, capture_output=True, text=True)
        if run.returncode != 0:
            errors = [line for line in run.stderr.splitlines() if "error" in line]
            raise SyntaxError("\n".join(errors[:5]) or run.stderr)
        unfinished.rename(made)  # a whole library or none, whoever else compiles at the same time
    return made


@functools.cache
def _shim() -> bytes:
    return (SHIM / "metal_stdlib").read_bytes()


def _for_the_host(source: str) -> str:
    """A pointer to threadgroup memory is one as any other here: the word stays with the variables, which lie there."""
    return re.sub(r"\bthreadgroup\s+((?:const\s+)?\w+\s*\*)", r"\1", source)


def _launcher(kernel: tuple[str, list[Parameter]]) -> str:
    name, taken = kernel
    passed = []
    for parameter in taken:
        if parameter.position:
            passed.append(f"at.{parameter.position}")
        else:
            passed.append(
                f"{'*' if parameter.is_number else ''}static_cast<{parameter.type}*>(args[{parameter.place}])"
            )
    return f"""
static void body_of_{name}(void** args, const host::Position& at) {{ {name}({", ".join(passed)}); }}
extern "C" const char* launch_{name}(void** args, uint threads, uint size, uint order) {{
  return host::run(&body_of_{name}, args, threads, size, order, TOGETHER);
}}"""


PROGRAM = """
int main(int count, char** words) {
  void* args[31];
  for (int i = 3; i < count; ++i) {
    const size_t size = strtoul(words[i], nullptr, 10);
    args[i - 3] = malloc(size);
    if (fread(args[i - 3], 1, size, stdin) != size) return 3;
  }
  const char* fault = launch_NAME(args, strtoul(words[1], nullptr, 10), strtoul(words[2], nullptr, 10), 0);
  if (fault) fprintf(stderr, "error: %s\\n", fault);
  return fault ? 2 : 0;
}
"""
