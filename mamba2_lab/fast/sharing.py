"""What loops need that Python does not have: addresses, counters that threads share, and waiting for one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from mamba2_lab.machine.helpers import CAN_SLEEP


def loop(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function when it is first called, without Python's lock; kept on the disk, where there is a place."""

    def compiled(function: Callable[..., Any]) -> Any:
        flags: dict[str, Any] = {"fastmath": set(fastmath), "nogil": True, "error_model": "numpy"}
        try:
            return njit(cache=True, **flags)(function)
        except RuntimeError:  # no folder can be written
            return njit(**flags)(function)

    return compiled


# Sums may be added up in any order, so that several parts of one can be made at the same time. NaN and infinity stay.
ANY_ORDER = ("reassoc", "contract", "nsz", "arcp")
in_any_order = loop(*ANY_ORDER)
in_order = loop("contract", "nsz")


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """The pointer of an address, which is an integer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], array, [args[1]], boundscheck=False)


@intrinsic
def take(typingctx: Any, counters: Any, index: Any) -> Any:
    """Add 1 to a counter, so that no other thread gets the same: what it was."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature, args)
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counters, types.intp), generate


@intrinsic
def read(typingctx: Any, counters: Any, index: Any) -> Any:
    """A counter as it is now, and with it everything that other threads wrote before they moved it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", 8)

    return types.int64(counters, types.intp), generate


if CAN_SLEEP:
    _let_others_run: Any = types.ExternalFunction("sched_yield", types.int32())
    _sleep: Any = types.ExternalFunction("usleep", types.int32(types.uint32))
else:
    _let_others_run, _sleep = njit(lambda: None), njit(lambda microseconds: None)
LOOKS = 2000  # at a counter before a thread lets others run
TURNS = 20  # of others before it sleeps
MICROSECONDS = 50  # that it sleeps


@in_any_order
def wait(counters: Any, index: Any, least: Any) -> None:
    """Until a counter has come so far. Briefly by looking; then a thread gives its core away."""
    looks = 0
    while read(counters, index) < least:  # type: ignore[call-arg]
        looks += 1
        if looks > LOOKS + TURNS:
            _sleep(MICROSECONDS)
        elif looks > LOOKS:
            _let_others_run()
