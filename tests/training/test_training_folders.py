"""Folders of trainings that are killed, copied, damaged and begun again: nothing is lost, and nothing is mixed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.small_models import small_model

from mamba2_lab import Mamba2LM
from mamba2_lab.data import Document, pack
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import BPETokenizer, ByteTokenizer
from mamba2_lab.training import Record, TrainingConfig, fit, learning_rate, process, run_folder
from mamba2_lab.training.folder_lock import LOCK_NAME
from mamba2_lab.weights import runs

TOKENIZER = ByteTokenizer()
DOCUMENTS = [Document(f"{i}.py", f"def f{i}(x):\n    return {i} * x\n" * 3) for i in range(3)]
TOKENS = pack(DOCUMENTS, TOKENIZER)
SETTINGS = {"steps": 4, "batch_size": 1, "length": 8, "warmup_steps": 1, "learning_rate": 0.01, "save_every": 2}


def tiny_model(seed: int = 0) -> Mamba2LM:
    return small_model(seed, n_layer=1, d_model=8, d_state=4, headdim=4)


def run(
    folder: Path | None,
    model: Mamba2LM | None = None,
    *,
    resume: bool = True,
    tokens=TOKENS,
    tokenizer=TOKENIZER,
    **rest,
) -> list[Record]:
    options = {name: rest.pop(name) for name in ("on_step", "held_out") if name in rest}
    return fit(
        tiny_model() if model is None else model,
        tokens,
        TrainingConfig(**{**SETTINGS, **rest}),
        folder=folder,
        resume=resume,
        tokenizer=tokenizer,
        progress=False,
        **options,
    )


def weights_of(model: Mamba2LM) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def equal(weights: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, weights, others))


def without_time(records: list[Record]) -> list[tuple]:
    return [(r.step, r.loss, r.learning_rate, r.gradient_norm, r.bits_per_byte) for r in records]


def in_file(folder: Path) -> list[tuple]:
    lines = (folder / run_folder.RECORDS_NAME).read_text(encoding="utf-8").splitlines()
    return without_time([Record(**json.loads(line)) for line in lines])


class EndedError(Exception):
    """What ends a run in the middle."""


def run_until(step: int, folder: Path, **options) -> None:
    """A run that dies after that many steps."""

    def die(record: Record) -> None:
        if record.step + 1 == step:
            raise EndedError

    with pytest.raises(EndedError):
        run(folder, on_step=die, **options)


@pytest.fixture(scope="module")
def whole() -> tuple[list[tuple], list[list[torch.Tensor]]]:
    """The records of a run that nothing disturbed, and its weights after 0, 1, ... 4 steps."""
    model = tiny_model()
    weights = [weights_of(model)]
    records = run(None, model, resume=False, on_step=lambda _: weights.append(weights_of(model)))
    return without_time(records), weights


def goes_on_to_the_end(folder: Path, whole) -> None:
    """A resume gives what the undisturbed run gave, to the last bit."""
    expected, weights = whole
    model = tiny_model()
    assert without_time(run(folder, model)) == expected
    assert in_file(folder) == expected
    assert equal(weights_of(model), weights[-1])


def contents(folder: Path) -> dict[str, object]:
    """Everything below a folder: what it is, its permissions, and what it holds."""

    def describe(path: Path) -> object:
        if path.is_symlink():
            return os.readlink(path)
        return (path.stat().st_mode, path.read_bytes() if path.is_file() else None)

    return {str(path.relative_to(folder)): describe(path) for path in sorted(folder.rglob("*"))}


def condition(model: Mamba2LM) -> list[dict]:
    """Modes, wrapped and compiled functions: all that a training may set on the modules beside their weights."""
    return [{k: v for k, v in vars(m).items() if not k.startswith(("_buf", "_mod", "_par"))} for m in model.modules()]


# A folder where a run died before its first checkpoint


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_begins_anew_where_one_died_before_its_first_checkpoint(tmp_path, whole, capsys, resume):
    run_until(1, tmp_path)
    dead = in_file(tmp_path)
    assert without_time(run(tmp_path, resume=resume)) == whole[0] == in_file(tmp_path)
    aside = tmp_path / "records-without-checkpoint.jsonl"
    assert [json.loads(line)["loss"] for line in aside.read_text().splitlines()] == [record[1] for record in dead]
    assert f"the records of a run that left no checkpoint are now in {aside}" in capsys.readouterr().out


def test_what_was_set_aside_is_not_written_over(tmp_path):
    run_until(1, tmp_path)
    run_until(1, tmp_path)
    run(tmp_path)
    names = {path.name for path in tmp_path.glob("records*")}
    assert names == {"records.jsonl", "records-without-checkpoint.jsonl", "records-without-checkpoint-2.jsonl"}


# What is not the run's own


def put_aside(kind: str, folder: Path) -> None:
    """Something that somebody may keep in the folder of a run that has a checkpoint after step 2."""
    mine = folder / "step-000002"
    elsewhere = folder.parent / "elsewhere"
    match kind:
        case "a copy with another name":
            for name in ("step-000002 copy", "step-000002.keep", "step-000003", "step-000002-2", "step-000009-2"):
                shutil.copytree(mine, folder / name)
        case "a folder with another name":
            shutil.copytree(mine, folder / "step-best")
        case "a link to a checkpoint":
            shutil.copytree(mine, elsewhere)
            (folder / "step-000004").symlink_to(elsewhere)
            (folder / "step-000001").symlink_to(mine)
        case "a link to nothing":
            (folder / "step-000004").symlink_to(folder.parent / "gone")
        case "notes":
            (folder / "notes.txt").write_text("seed 3 was better")
            (folder / "step-000001").write_text("a file")
        case "notes in a checkpoint":
            (mine / "notes.txt").write_text("this one speaks German")
            (mine / "figures").mkdir()
        case "a folder of the next name":
            (folder / "step-000004").mkdir()
            (folder / "step-000004" / "notes.txt").write_text("what I expect of step 4")
        case "an empty folder of the next name":
            (folder / "step-000004").mkdir()
        case "a file of the next name":
            (folder / "step-000004").write_text("what I expect of step 4")
        case "a checkpoint of another run":
            run(elsewhere, tiny_model(5), steps=6, learning_rate=0.02, save_every=3)
            shutil.copytree(elsewhere / "step-000006", folder / "step-000006")
        case "what a kill left of a checkpoint":
            (folder / ".step-000002.unfinished").mkdir()


KEPT = [
    "a copy with another name",
    "a folder with another name",
    "a link to a checkpoint",
    "a link to nothing",
    "notes",
    "notes in a checkpoint",
    "a folder of the next name",
    "an empty folder of the next name",
    "a file of the next name",
    "a checkpoint of another run",
    "what a kill left of a checkpoint",
]


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("when", ["before a resume", "while it runs"])
def test_what_somebody_keeps_in_the_folder_stays_and_disturbs_nothing(tmp_path, whole, kind, when):
    folder, kept = tmp_path / "run", {}

    def put(record: Record) -> None:
        if record.step == 2:
            before = contents(folder)
            put_aside(kind, folder)
            kept.update({name: what for name, what in contents(folder).items() if name not in before})

    if when == "while it runs":
        assert without_time(run(folder, on_step=put)) == whole[0]
    else:
        with contextlib.suppress(EndedError):
            run(folder, on_step=lambda record: (put(record), run_until_is_over(record)))
    goes_on_to_the_end(folder, whole)
    goes_on_to_the_end(folder, whole)  # a run that has its steps is resumed to itself
    assert kept
    now = contents(folder)
    assert {name: now.get(name) for name in kept} == kept
    own = [path for path in run_folder.checkpoints(folder) if str(path.relative_to(folder)) not in kept]
    assert len(own) == 1 and run_folder.newest(folder) == own[0]
    if "next name" in kind or "link to" in kind:
        assert own[0].name == "step-000004-2"


def run_until_is_over(record: Record) -> None:
    if record.step == 2:
        raise EndedError


def test_a_link_in_the_place_of_a_checkpoint_is_not_gone_on_with_nor_removed(tmp_path, whole):
    """What it leads to may be anybody's."""
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run_until(3, folder)
    shutil.move(folder / "step-000002", elsewhere)
    (folder / "step-000002").symlink_to(elsewhere)
    before = contents(elsewhere)
    assert run_folder.newest(folder) is None
    goes_on_to_the_end(folder, whole)  # from the beginning
    assert os.readlink(folder / "step-000002") == str(elsewhere) and contents(elsewhere) == before
    assert [path.name for path in run_folder.checkpoints(folder)] == ["step-000004"]


def test_checkpoints_are_ordered_by_their_steps(tmp_path):
    """As texts "step-1000000" comes before "step-999999"."""
    run(tmp_path)
    for step in (999_999, 1_000_000, 20):
        path = tmp_path / f"step-{step:06d}"
        shutil.copytree(tmp_path / "step-000004", path)
        rewrite(path, name=path.name, step=step)
    assert [path.name for path in run_folder.checkpoints(tmp_path)] == [
        "step-000004", "step-000020", "step-999999", "step-1000000",
    ]  # fmt: skip


def rewrite(path: Path, **changes) -> None:
    """Give a checkpoint other facts."""
    facts = {**run_folder.read_facts(path), **changes}
    runs.write_facts(path, facts)


# A resume that is refused


def other_tokens():
    return pack([*DOCUMENTS, Document("new.py", "y = 2\n")], TOKENIZER)


def other_borders():
    """The same ids, but the second document goes on with the first one's text."""
    document_ids = TOKENS.document_ids.clone()
    document_ids[document_ids == 1] = 0
    return type(TOKENS)(TOKENS.ids, document_ids)


BPE = BPETokenizer.train(["def f(x): return x"] * 3, 257)
REFUSED = {
    "batch_size": ({"batch_size": 2}, r"batch_size must be 1, as in the run to resume at .*step-000002; got 2"),
    "length": ({"length": 9}, "length must be 8"),
    "learning_rate": ({"learning_rate": 0.02}, r"learning_rate must be 0\.01"),
    "seed": ({"seed": 1}, "seed must be 0"),
    "betas": ({"betas": (0.8, 0.9)}, r"betas must be \(0\.9, 0\.95\)"),
    "precision": ({"precision": "bf16"}, "precision must be 'fp32'"),
    "accumulation": ({"batch_size": 2, "accumulation": 2}, "batch_size must be 1"),
    "compile": ({"compile": True}, "compile must be False"),
    "steps": ({"steps": 1}, r"steps must be at least 2, which the run to resume at .*step-000002 has made; got 1"),
    "tokens": (
        {"tokens": other_tokens},
        "tokens must be those of the run .*step-000002, .*; got '[0-9a-f]{64}'",
    ),
    "borders": ({"tokens": other_borders}, "tokens must be those of the run to resume"),
    "tokenizer": ({"tokenizer": BPE}, "tokenizer must be that of the run to resume .*; got 'another BPETok"),
    "no tokenizer": ({"tokenizer": None}, "tokenizer must be that of the run to resume .*; got None"),
    "model": ({"model": lambda: small_model(n_layer=2)}, "step-000002: expected a checkpoint of this model, with d_mo"),
    "dtype": ({"model": lambda: tiny_model().double()}, r"optimizer.safetensors: .*float64; found .*float32"),
    "fp16": ({"precision": "fp16"}, "precision must be"),
    "folder": ({"resume": False}, "folder must be new, or resume asked for: it holds a run, at step-000002; got"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_resume_leaves_model_and_folder_as_they_were(tmp_path, whole, monkeypatch, case):
    monkeypatch.setattr(process, "can_compile", lambda device: True)
    changes, message = REFUSED[case]
    options = {name: value() if callable(value) else value for name, value in changes.items()}
    run_until(3, tmp_path)
    refuses(tmp_path, message, **options)
    goes_on_to_the_end(tmp_path, whole)


def refuses(folder: Path, message: str, model: Mamba2LM | None = None, kind=ValueError, **options) -> None:
    """The error, and that nothing has changed."""
    model = tiny_model(7) if model is None else model
    model.train()
    model.layers[0].eval()
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    before, weights, state = contents(folder), weights_of(model), condition(model)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    with pytest.raises(kind, match=message) as caught:
        run(folder, model, **options)
    assert str(caught.value).count("\n") == 0
    assert contents(folder) == before and equal(weights_of(model), weights) and condition(model) == state
    assert equal([parameter.grad for parameter in model.parameters()], gradients)


def flip(path: Path, at: float) -> None:
    """One bit, at that share of the file."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


CHECKPOINT_FILES = [
    "config.json", "model.safetensors", "mamba2_lab_tokenizer.json", "optimizer.safetensors", "run.json",
]  # fmt: skip
DAMAGES: dict[str, Callable[[Path], object]] = {
    "first": lambda path: flip(path, 0),
    "early": lambda path: flip(path, 0.31),
    "late": lambda path: flip(path, 0.83),
    "last": lambda path: flip(path, 1),
    "shorter": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n x"),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.fixture(scope="module")
def checkpoint_after_two_steps(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_until(3, folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_a_damaged_file_of_a_checkpoint_is_named_before_anything_changes(
    checkpoint_after_two_steps, tmp_path, name, damage
):
    folder = tmp_path / "run"
    shutil.copytree(checkpoint_after_two_steps, folder)
    DAMAGES[damage](folder / "step-000002" / name)
    refuses(folder, f"step-000002/{name}: expected .*; found", kind=CheckpointError)


@pytest.mark.parametrize("at", [0.0, 0.1, 0.3, 0.5, 0.6])
def test_damaged_records_are_named_and_those_behind_the_checkpoint_do_not_matter(
    checkpoint_after_two_steps, tmp_path, whole, at
):
    """There are records of three steps, and the checkpoint is after two."""
    folder = tmp_path / "run"
    shutil.copytree(checkpoint_after_two_steps, folder)
    flip(folder / "records.jsonl", at)
    refuses(folder, r"records.jsonl: (line [12]: )?expected .*; found", kind=CheckpointError)
    shutil.copy(checkpoint_after_two_steps / "records.jsonl", folder / "records.jsonl")
    flip(folder / "records.jsonl", 0.9)
    with (folder / "records.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    goes_on_to_the_end(folder, whole)


def as_of_an_older_version(folder: Path) -> None:
    (path,) = run_folder.checkpoints(folder)
    facts = run_folder.read_facts(path)
    old = {name: facts[name] for name in ("step", "training", "scaler")}
    (path / "run.json").write_text(json.dumps(old, indent=1) + "\n")


def test_a_run_of_an_older_version_goes_on_and_says_what_could_not_be_checked(tmp_path, whole, capsys):
    run_until(3, tmp_path)
    as_of_an_older_version(tmp_path)
    goes_on_to_the_end(tmp_path, whole)
    assert "step-000002 was written by an older version: nothing tells whether its files" in capsys.readouterr().out
    assert run_folder.read_facts(tmp_path / "step-000004")["data"] == TOKENS.digest()


@pytest.mark.parametrize(
    ("line", "found"),
    [('{"step": 1, "los', r'{"step": 1, "los'), ('{"step": 7}', "7"), ("[1]", r"\[1\]"), ("3", "3"), ("", "")],
)
def test_a_damaged_record_of_an_older_version_is_named_with_its_line(tmp_path, line, found):
    run_until(3, tmp_path)
    as_of_an_older_version(tmp_path)
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    (tmp_path / "records.jsonl").write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    message = f"records.jsonl: line 2: expected the record of step 1; found '?{found}"
    refuses(tmp_path, message, kind=CheckpointError)


def test_the_newest_checkpoint_that_lost_its_facts_is_not_passed_over(tmp_path):
    """An older one beside it would be resumed from without a word."""
    run_until(3, tmp_path)
    shutil.copytree(tmp_path / "step-000002", tmp_path / "kept")
    run(tmp_path)
    shutil.move(tmp_path / "kept", tmp_path / "step-000002")
    (tmp_path / "step-000004" / "run.json").unlink()
    refuses(tmp_path, "step-000004/run.json: expected a file; found none", kind=CheckpointError)


# What may change in the middle of a run


def test_a_run_may_be_made_longer_and_the_rates_of_the_steps_to_come_follow(tmp_path):
    first = run(tmp_path)
    records = run(tmp_path, steps=7, save_every=1)
    assert without_time(records[:4]) == without_time(first)
    longer = TrainingConfig(**{**SETTINGS, "steps": 7})
    assert [r.learning_rate for r in records[4:]] == [learning_rate(step, longer) for step in (4, 5, 6)]
    assert [path.name for path in run_folder.checkpoints(tmp_path)] == ["step-000007"]
    assert run_folder.read_facts(tmp_path / "step-000007")["training"]["steps"] == 7


def test_a_run_may_save_and_measure_more_often_and_recompute_blocks(tmp_path, whole):
    run_until(3, tmp_path)
    measuring = {"evaluate_every": 1, "held_out": DOCUMENTS[:1]}
    model = tiny_model()
    records = run(tmp_path, model, save_every=1, checkpoint_blocks=True, **measuring)
    assert [r[:4] for r in without_time(records)] == [r[:4] for r in whole[0]]
    assert equal(weights_of(model), whole[1][-1])
    assert [r.bits_per_byte is not None for r in records] == [False, False, True, True]


def test_betas_may_be_given_as_a_list(tmp_path):
    run_until(3, tmp_path, betas=[0.8, 0.9])
    assert len(run(tmp_path, betas=(0.8, 0.9))) == 4


def test_a_run_is_measured_on_its_own_documents_or_on_none(tmp_path):
    """Bits per byte of other texts would stand beside those that they do not compare with."""
    measuring = {"held_out": DOCUMENTS[:2], "evaluate_every": 1}
    run_until(3, tmp_path, **measuring)
    refuses(tmp_path, "held_out must be documents of those texts that the run .*step-000002", held_out=DOCUMENTS[1:])
    run_until(4, tmp_path, save_every=1)  # measured on none, and yet it knows what it was measured on
    refuses(tmp_path, "held_out must be documents of .*step-000004", held_out=DOCUMENTS[:1], steps=5)
    records = run(tmp_path, steps=5, **measuring)
    assert [r.bits_per_byte is not None for r in records] == [True, True, False, False, True]


# One training at a time


def test_a_second_training_in_the_folder_is_refused_and_the_first_one_goes_on(tmp_path, whole):
    refused = []

    def start_another(record: Record) -> None:
        def another() -> None:
            try:
                run(tmp_path, precision="bf16")
            except ValueError as error:
                refused.append(str(error))

        other = threading.Thread(target=another)
        other.start()
        other.join()

    assert without_time(run(tmp_path, on_step=start_another)) == whole[0]
    assert len(refused) == 4
    expected = f"folder must be free, but is in use by process {os.getpid()} on "
    assert all(text.startswith(expected) for text in refused)
    assert not (tmp_path / LOCK_NAME).exists()


# An exception between any two lines

LIBRARIES = ("torch.optim.adam", "torch.autograd.grad_mode", "torch.amp.autocast_mode")
MODULES = (
    *("training.loop", "training.step", "training.process", "training.optimiser", "training.loss", "training.records"),
    *("training.restoring", "training.keeping", "training.run_folder", "training.resuming", "training.folder_lock"),
    *("training.ctrl_c", "machine.files", "weights.loading", "weights.places", "weights.runs", "weights.files"),
    *("weights.build", "weights.layouts.ours"),
)
TRACED = {sys.modules[name].__file__ for name in (*(f"mamba2_lab.{name}" for name in MODULES), *LIBRARIES)}
Place = tuple[str, int, int]  # a file, a line of it, and how many times the line was reached before


def traced(call: Callable[[], object], at: Place | None = None) -> list[Place]:
    """Call, with a KeyboardInterrupt at that place. The places that were passed, each line's first, middle, last."""
    passed: dict[tuple[str, int], int] = {}

    def look(frame, event, _):
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            line = (frame.f_code.co_filename, frame.f_lineno)
            passed[line] = passed.get(line, 0) + 1
            if at == (*line, passed[line] - 1):
                raise KeyboardInterrupt
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        call()
    except KeyboardInterrupt:
        assert at is not None
    finally:
        sys.settrace(before)
    return sorted((*line, times) for line, count in passed.items() for times in {0, count // 2, count - 1})


def leaving_the_block(place: Place) -> bool:
    """Python passes the line of a `with` again before it ends it. No signal raises there: they are being caught."""
    file, line, times = place
    return times > 0 and "contextlib.ExitStack() as" in Path(file).read_text(encoding="utf-8").splitlines()[line - 1]


@pytest.mark.parametrize("resume", [False, True])
def test_an_exception_between_any_two_lines_leaves_all_whole(tmp_path, whole, resume):
    """Every fortieth of the places is tried: of a run that begins, and of one that goes on."""
    expected, weights = whole
    beginning = tmp_path / "beginning"
    if resume:
        run_until(3, beginning)
    else:
        beginning.mkdir()
    folder = shutil.copytree(beginning, tmp_path / "run")
    places = [p for p in traced(lambda: run(folder, resume=resume)) if not leaving_the_block(p)]
    assert len(places) > 400
    handler = signal.getsignal(signal.SIGINT)
    for place in places[::40]:
        shutil.rmtree(folder)
        shutil.copytree(beginning, folder)
        model = tiny_model(7 if resume else 0)
        model.train()
        state, untouched = condition(model), weights_of(model)
        traced(lambda model=model: run(folder, model, resume=resume), place)
        assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"), place
        assert any(equal(weights_of(model), some) for some in [untouched, *weights]), place
        assert condition(model) == state and signal.getsignal(signal.SIGINT) is handler, place
        assert all(parameter.grad is None for parameter in model.parameters()), place
        goes_on_to_the_end(folder, whole)
        names = {path.name for path in folder.iterdir()} - {"step-000002", "records-without-checkpoint.jsonl"}
        assert names == {"records.jsonl", "step-000004"}, place


def test_an_update_that_fails_half_way_is_taken_back(monkeypatch, whole):
    """Out of memory in the optimiser, say, when it has changed some of the weights."""
    step = torch.optim.AdamW.step

    def half(self, *arguments):
        if self.state:  # not the first one
            with torch.no_grad():
                self.param_groups[0]["params"][0].add_(1)
            raise RuntimeError("out of memory")
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", half)
    model = tiny_model()
    with pytest.raises(RuntimeError, match="out of memory"):
        run(None, model, resume=False)
    assert equal(weights_of(model), whole[1][1])


# Real signals. A child of this process has its torch already, and needs no seconds to begin.

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="forks a process with torch in it")


def child(work: Callable[[], object]) -> int:
    """Do that in another process: its id."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def finished(pid: int, seconds: float = 60) -> int:
    """The exit status of a child, which is killed if it does not end."""
    end = time.monotonic() + seconds
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(ended[1])


@on_linux
def test_runs_that_are_killed_at_any_time_are_resumed_to_the_same_end(tmp_path, whole):
    draw = random.Random(0)
    for i in range(5):
        folder = tmp_path / str(i)
        for _ in range(3):
            pid = child(lambda folder=folder: run(folder, on_step=lambda _: time.sleep(0.02)))
            time.sleep(draw.uniform(0, 0.5))
            os.kill(pid, signal.SIGKILL)
            finished(pid)
        goes_on_to_the_end(folder, whole)
        assert run_folder.newest(folder) == folder / "step-000004"


@on_linux
def test_a_process_owns_its_folder_until_it_dies(tmp_path, whole):
    def hold() -> None:
        run(tmp_path, on_step=lambda _: time.sleep(60))

    pid = child(hold)
    while not (tmp_path / "records.jsonl").exists():
        time.sleep(0.01)
    refuses(tmp_path, f"folder must be free, but is in use by process {pid} on ")
    os.kill(pid, signal.SIGKILL)
    finished(pid)
    assert (tmp_path / LOCK_NAME).exists(), "so that it is not this file that says who owns the folder"
    goes_on_to_the_end(tmp_path, whole)


# Anything in any order


def test_a_fuzz_of_folders_never_loses_and_never_mixes(tmp_path, whole, capsys):
    """A run is begun, interrupted, copied, damaged and resumed at random. It ends as the undisturbed run, or is refused
    in our words and can then be put right by what the words say; what somebody keeps there is never touched."""
    draw = random.Random(18)
    for number in range(12):
        folder, kept = tmp_path / str(number), {}
        folder.mkdir()
        for act in range(5):
            interrupt(folder, draw)
            if draw.random() < 0.5:
                keep_something(folder, draw, f"{act}", kept)
            spare = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}
            if draw.random() < 0.5:
                victim = hurt(folder, draw, kept)
                before, model = contents(folder), tiny_model(9 if victim else 0)  # else it begins
                weights = weights_of(model)
                try:
                    assert without_time(run(folder, model)) == whole[0]
                except CheckpointError as error:
                    assert victim is not None and victim.name in str(error) and "; found" in str(error)
                    assert contents(folder) == before and equal(weights_of(model), weights)
                    if victim.is_dir():
                        victim.rmdir()
                    victim.write_bytes(spare[victim])
        goes_on_to_the_end(folder, whole)
        now = contents(folder)
        assert {name: now.get(name) for name in kept} == kept


def interrupt(folder: Path, draw: random.Random) -> None:
    """Go on with the run, or begin it, for a few steps, and end it in one way or another."""
    end_at = draw.randrange(5)
    kind = draw.choice([EndedError, KeyboardInterrupt, OSError])

    def end(record: Record) -> None:
        if record.step >= end_at:
            raise kind("enough")

    with contextlib.suppress(kind):
        run(folder, on_step=end)
    if draw.random() < 0.3:
        with (folder / "records.jsonl").open("a") as file:
            file.write('{"step": 4, "loss"')


def keep_something(folder: Path, draw: random.Random, name: str, kept: dict) -> None:
    before = contents(folder)
    own = run_folder.checkpoints(folder)
    if own and draw.random() < 0.7:
        shutil.copytree(
            draw.choice(own),
            folder / draw.choice([f"{own[-1].name}-{name}9", f"{name} copy", f"step-00000{name}.keep"]),
        )
    else:
        target = folder / draw.choice(["step-000001", "step-000003", "step-000004-7", f"step-{name}"])
        if not os.path.lexists(target):
            draw.choice([lambda: target.mkdir(), lambda: target.write_text("mine"), lambda: target.symlink_to("..")])()
    kept.update({key: what for key, what in contents(folder).items() if key not in before})


def hurt(folder: Path, draw: random.Random, kept: dict) -> Path | None:
    """Damage a file of the newest checkpoint, or the records."""
    newest = run_folder.newest(folder)
    if newest is None:
        return None
    victim = draw.choice([newest / draw.choice(CHECKPOINT_FILES), folder / "records.jsonl"])
    DAMAGES[draw.choice(list(DAMAGES))](victim)
    return victim
