"""Programs that are timed side by side compute the same, each in a process of its own; who is missing is named."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from support.small_models import small_model

from mamba2_lab import cli
from mamba2_lab.benchmark import measures, programs, read, suite
from mamba2_lab.benchmark.child import Child
from mamba2_lab.benchmark.measures import peers
from mamba2_lab.benchmark.programs import PROGRAMS, TOKEN, Contestant

VOCAB = 64
SHAPE: dict[str, Any] = {"d_model": 64, "vocab_size": VOCAB}  # rows that blocks of 32 divide
WITHIN = {"float32": 1e-5, "bfloat16": 5e-2, "int8": 0.12, "int4": 0.9}
THEIRS = {"F32": 1e-5, "F16": 5e-3, "Q8_0": 0.15, "Q4_0": 0.9}
IDS = torch.randint(0, VOCAB, (21,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    small_model(**SHAPE).cpu().save_pretrained(path)
    return path


def numbers(logits: Any) -> np.ndarray:
    """What a program gives, whatever its kind: torch's, MLX's, or where llama.cpp has them."""
    if hasattr(logits, "contents"):
        return np.ctypeslib.as_array(logits, (VOCAB,)).astype(np.float64)
    return np.array([float(number) for number in logits])


@torch.no_grad()
def error(found: Any, ids: list[int]) -> float:
    """Of the logits after these ids, relative to all of them."""
    expected = small_model(**SHAPE).cpu().double()(torch.tensor([ids]))[0, -1].numpy()
    return float(np.linalg.norm(numbers(found) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_reads_goes_on_and_begins_anew(folder: Path, name: str) -> None:
    for module in PROGRAMS[name].needs:
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            pytest.skip(f"{module} is not installed here")
    program = PROGRAMS[name].make(folder, torch.get_num_threads())
    within = {**WITHIN, **THEIRS}.get(name.rpartition(" ")[2], 1e-5)
    written = list(IDS)
    assert error(program.read(IDS), written) <= within
    for _ in range(3):
        written.append(TOKEN)
        assert error(program.step(TOKEN), written) <= within
    assert error(program.read(IDS[:1]), IDS[:1]) <= within, "the text before is forgotten"
    if within > 1e-5:
        assert error(program.read(IDS), IDS) > 1e-5, "its weights are rounded"


class Fake:
    """A program that tells, on a file, what it was asked."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.told = [f"threads {threads}"]

    def read(self, ids: list[int]) -> None:
        self.told.append(f"read {ids}")

    def step(self, token: int) -> None:
        self.told.append("step")


def test_a_program_does_what_its_process_is_told(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    fake = Fake(Path("model"), 3)
    monkeypatch.setitem(PROGRAMS, "fake", Contestant(lambda *_: fake))  # type: ignore[arg-type]
    lines = iter(["[5, 6]", "3", "[]"])
    monkeypatch.setattr(programs, "told", lambda: type("Lines", (), {"get": lambda self: next(lines)})())
    monkeypatch.setattr(programs, "keep_freed_memory", lambda: print("a library prints"))
    monkeypatch.setattr(programs.os, "dup2", lambda *_: None)
    with pytest.raises(StopIteration):
        programs.main("fake", "model", "3")
    assert fake.told == ["threads 3", "read [5, 6]", "step", "step", "step", "read []"]
    assert [line for line in capfd.readouterr().out.split() if line in ("ready", "done")] == ["ready", *["done"] * 3]


def test_processes_write_in_turns_and_end_with_the_measure(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(psutil.Process().children())
    some = {name: PROGRAMS[name] for name in ("ours, float32", "mlx-lm")}
    monkeypatch.setattr(programs, "PROGRAMS", some)
    works = measures.peers_decode("cpu", preset="130m", steps=2)
    assert list(works) == [name for name in some if name not in programs.absent(some)]
    assert [work() for work in works.values()] == ["done"] * len(works)
    assert len(set(psutil.Process().children()) - before) == len(works)
    del works
    assert set(psutil.Process().children()) <= before


def test_a_program_that_fails_says_why_and_leaves_nobody_behind(tiny: None, capfd: Any) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(RuntimeError, match=r"the process of mamba2_lab.benchmark.programs ended, with status 1"):
        Child(programs.__name__, "ours, float32", "no such folder", "1")
    assert "no such folder" in capfd.readouterr().err
    assert set(psutil.Process().children()) <= before


def test_a_process_ends_with_the_one_who_made_it() -> None:
    script = "import os\nfrom mamba2_lab.benchmark.neighbour import Neighbour\nother = Neighbour()\n"
    script += "other._child.tell()\nprint(other._child.process.pid, flush=True)\ninput()"
    maker = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    process = psutil.Process(int(maker.stdout.readline()))  # busy
    maker.kill()
    maker.communicate()
    process.wait(timeout=60)


class Answering:
    """In place of a process: it keeps what it is told."""

    def __init__(self, module: str, name: str, folder: str, threads: str) -> None:
        assert (Path(folder) / "config.json").exists()
        self.name, self.threads, self.told = name, threads, list[Any]()

    def tell(self, line: str) -> str:
        self.told.append(json.loads(line))
        return f"{self.name}: {self.told[-1]}"


@pytest.fixture
def no_processes(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "Child", Answering)
    reasons = {f"llama.cpp, {kind}": "No module named 'llama_cpp'" for kind in THEIRS}
    monkeypatch.setattr(
        peers.programs, "absent", lambda names: {name: reasons[name] for name in names if name in reasons}
    )


def test_all_read_the_same_prompt_and_write_as_many_tokens(no_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.sys, "platform", "darwin")
    here = ["ours, float32", "ours, bfloat16", "ours, int8", "ours, int4", "mlx-lm", "transformers"]
    prompts = {work().partition(": ")[::2] for work in measures.peers_prefill("cpu", preset="130m", l=9).values()}  # type: ignore[attr-defined]
    assert sorted(name for name, _ in prompts) == sorted(here)
    ((prompt,),) = ({prompt for _, prompt in prompts},)
    assert len(json.loads(prompt)) == 9 and max(json.loads(prompt)) < 40
    works: dict[str, Any] = measures.peers_decode("cpu", preset="130m", steps=5)
    assert {name: work() for name, work in works.items()} == {name: f"{name}: 5" for name in here}
    told = {tuple(map(str, work.func.__self__.told)) for work in works.values()}
    assert len(told) == 1 and len(json.loads(next(iter(told))[0])) == peers.SHORT
    assert {work.func.__self__.threads for work in works.values()} == {str(torch.get_num_threads())}


def test_away_from_a_mac_mlx_reads_no_prompt(no_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.sys, "platform", "linux")
    assert "mlx-lm" not in measures.peers_prefill("cpu", preset="130m", l=9)
    assert "one thread" in measures.peers_without_prefill()["mlx-lm"] and "mlx-lm" not in measures.peers_without()


def test_each_is_timed_alone_and_beside_a_busy_process(no_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        peers, "Neighbour", lambda: type("Busy", (), {"beside": lambda self, work: f"busy, {work()}"})()
    )
    works = measures.peers_beside("cpu", program="ours, float32", preset="130m", steps=4)
    assert {name: work() for name, work in works.items()} == {
        "alone": "ours, float32: 4",
        "beside a busy process": "busy, ours, float32: 4",
    }
    assert measures.peers_beside("cpu", program="llama.cpp, F32", preset="130m", steps=4) == {}


def test_who_is_missing_is_said_once_above_the_tables(
    no_processes: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    for name in ("peers-prefill", "peers-decode-laptop", "peers-prefill-laptop"):
        entry = suite.SUITE[name]
        monkeypatch.setitem(suite.SUITE, name, replace(entry, settings={**entry.settings, "n_layer": 1}))
    assert cli.main(["bench", "peers", "--device", "cpu", "--seconds", "0.001", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    missing = "without llama.cpp, F32; llama.cpp, F16; llama.cpp, Q8_0; llama.cpp, Q4_0: No module named 'llama_cpp'"
    assert printed.count(missing) == 1 and printed.index(missing) < printed.index("peers-decode: preset 130m")
    records = read(tmp_path / "out")
    assert {record.measure for record in records} == set(suite.PEERS)
    for record in records:
        assert record.timing is not None and record.tokens == record.settings.get("l", 1)
        assert record.versions.keys() - {"python", "torch", "transformers"} == {
            name for name in measures.PEERS if any(importlib.metadata.distributions(name=name))
        }
    assert "tokens/s" in printed and {r.settings["program"] for r in records if r.measure == "peers-beside"} == {
        "ours, float32"
    }


def test_a_module_that_cannot_be_imported_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(programs.INSTALLED_BY, "no_such_module", "no-such-package")
    monkeypatch.setitem(PROGRAMS, "theirs", Contestant(Fake, ("json", "no_such_module")))  # type: ignore[arg-type]
    assert programs.absent(["ours, float32", "theirs"]) == {
        "theirs": "ModuleNotFoundError: No module named 'no_such_module' (pip install no-such-package)"
    }


def test_a_family_of_measures_has_a_name() -> None:
    assert suite.chosen(["peers"], "cpu") == [*suite.PEERS]
    assert not suite.PEERS.keys() & set(suite.names_for("cpu")), "who names none is not asked for so much memory"
    assert suite.chosen(["decode", "generations"], "cpu") == ["decode", *suite.GENERATIONS]
    with pytest.raises(ValueError, match="is for cpu alone; got 'peers'"):
        suite.chosen(["peers"], "cuda")
    for entry in suite.PEERS.values():
        assert entry.calls == entry.settings.get("steps", 1)
