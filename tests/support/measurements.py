"""A measurement for the tests of records, tables and figures."""

from typing import Any

from mamba2_lab import benchmark
from mamba2_lab.benchmark import Measurement, Timing


def a_record(**changes: Any) -> Measurement:
    fields = {"measure": "scan", "contestant": "ours", "settings": {"l": 8}, "timing": Timing(2e-3, 1e-3, 3e-3, 9)}
    return Measurement(**{**fields, **benchmark.here("cpu"), **changes})
