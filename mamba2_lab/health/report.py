"""Whether this machine computes the right numbers: operation by operation, then the model, its training, its draws.

Every device is held against float64 on the CPU, with the same inputs, and it is told whether a device is wrong or one
of the package's faster ways. What comes out is a report in Markdown, to be read in a terminal or pasted into an issue.
Checked by emulation on Linux; not run on Apple hardware.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from mamba2_lab import words
from mamba2_lab.health import choice, operations, whole_model
from mamba2_lab.health.check import Finding
from mamba2_lab.machine import devices, facts, freed_memory, threads
from mamba2_lab.machine import verdicts as proofs

PACKAGES = ("mamba2-lab", "numpy", "safetensors", "tokenizers", "accelerate")


def examine(wanted: str | None = None) -> Iterator[tuple[str, bool]]:
    """The report, section by section as it is ready, and whether all is well in each.

    Args:
        wanted: a device to examine beside the CPU; None examines every one that this machine has.

    Raises:
        ValueError: if `wanted` names no device, or one that this machine does not have.
    """
    names = [name for name in ("cpu", "cuda", "mps") if devices.is_available(name)]
    if wanted is not None:
        names = list(dict.fromkeys(["cpu", str(choice.choose(wanted).device)]))
    yield f"## This machine\n\n```\n{words.table(_machine(names))}\n```", True
    for title, checks in (("Operations", operations.CHECKS), ("The model", whole_model.CHECKS)):
        rows = [check.on(names) for check in checks]
        agrees = all(finding.agrees for row in rows for finding in row)
        yield f"### {title}\n\n{table(names, rows)}\n\n{verdicts(names, rows)}", agrees
    if found := proofs.report():  # after all of it: by then they were asked for
        told = [[each.what, each.given, "yes" if each.is_taken else "no", each.reason] for each in found]
        yield f"### Kernels of our own\n\n{words.markdown(['for', 'given', 'taken', 'because it'], told)}", True


def _machine(names: Sequence[str]) -> list[tuple[str, str]]:
    rows = [*choice.described(), ("processor", facts.processor())]
    for name in names:
        size = facts.memory(name)
        rows.append((f"{name} memory", "unknown" if size is None else f"{size / 2**30:.1f} GiB"))
    rows += [*threads.report(), freed_memory.report()]
    rows.append(("packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES)))
    if os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK", "0") != "0":
        fallback = "PYTORCH_ENABLE_MPS_FALLBACK is set: what mps lacks runs on the CPU, unannounced"
        rows.append(("beware", fallback))
    return rows


def table(names: Sequence[str], rows: Sequence[Sequence[Finding]]) -> str:
    """A row per thing, a column per device: the largest difference from float64 on the CPU, relative."""
    header = ["largest relative difference", "allowed", *names]
    return words.markdown(header, [[row[0].what, f"{row[0].allowed:.0e}", *map(_cell, row)] for row in rows])


def _cell(finding: Finding) -> str:
    text = f"{finding.error:.1e}" if finding.error else "exact"
    return text if finding.agrees else f"**{text}**"


def verdicts(names: Sequence[str], rows: Sequence[Sequence[Finding]]) -> str:
    """A line for each device that is right, and for each finding that is not."""
    lines = []
    for name, findings in zip(names, zip(*rows, strict=True), strict=True):
        wrong = [_verdict(name, finding) for finding in findings if not finding.agrees]
        lines += wrong or [f"- {name}: all {len(findings)} agree with float64 on the CPU"]
    return "\n".join(lines)


def _verdict(name: str, finding: Finding) -> str:
    error = f"by {finding.error:.1e} where {finding.allowed:.0e} is allowed: {finding.where}"
    if not finding.wrong_ways:
        return f"- **{name} is wrong at {finding.what}**, {error}"
    ways = " or ".join(finding.wrong_ways)
    return (
        f"- **a faster way goes wrong on {name} at {finding.what}**, {error}. As it is defined {name} computes it "
        f"right: the fault is in a way of {ways}, or in what that alone asks of {name}"
    )
