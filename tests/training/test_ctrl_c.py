"""Ctrl-C, once and more often, at any moment of a training: whole steps are kept, and saved."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from training.test_training_folders import (
    DOCUMENTS,
    child,
    equal,
    finished,
    goes_on_to_the_end,
    on_linux,
    run,
    tiny_model,
    weights_of,
    whole,  # noqa: F401  (a fixture)
    without_time,
)

from mamba2_lab import weights
from mamba2_lab.training import run_folder
from mamba2_lab.training.ctrl_c import CtrlC, GivenUp


def press(times: int) -> None:
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


def pressing_in(step: int, times: int, *, measuring: bool = False):
    """A model, and Ctrl-C so many times amid its pass forward in that step, or amid the measurement after it."""
    model, passes = tiny_model(), []

    def hook(module, inputs) -> None:
        if model.training is measuring:
            return
        passes.append(1)
        if len(passes) == step + 1:
            press(times)

    model.layers[0].register_forward_pre_hook(hook)
    return model


def test_the_first_lets_the_step_end_and_saves_without_measuring(tmp_path, whole, capsys):  # noqa: F811
    model = pressing_in(2, 1)
    records = run(tmp_path, model, held_out=DOCUMENTS[:1])
    assert without_time(records) == whole[0][:3] and equal(weights_of(model), whole[1][3])
    assert run_folder.newest(tmp_path) == tmp_path / "step-000003"
    expected = f"stopped after 3 of 4 steps; what was learned is kept and saved in {tmp_path}\n"
    assert capsys.readouterr().out == expected
    goes_on_to_the_end(tmp_path, whole)


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_the_second_gives_the_step_up_and_saves_those_before_it(tmp_path, whole, capsys, step, times):  # noqa: F811
    model = pressing_in(step, times)
    assert without_time(run(tmp_path, model)) == whole[0][:step]
    assert equal(weights_of(model), whole[1][step])
    assert all(parameter.grad is None for parameter in model.parameters())
    kept = f"what was learned is kept and saved in {tmp_path}" if step else "nothing was learned yet"
    assert capsys.readouterr().out == f"stopped after {step} of 4 steps; {kept}\n"
    assert run_folder.newest(tmp_path) == (tmp_path / f"step-{step:06d}" if step else None)
    goes_on_to_the_end(tmp_path, whole)


def test_the_second_ends_a_measurement_and_the_step_before_it_is_saved(tmp_path, whole):  # noqa: F811
    model = pressing_in(2, 2, measuring=True)
    records = run(tmp_path, model, held_out=DOCUMENTS, evaluate_every=1)
    assert [record.bits_per_byte is None for record in records] == [True]
    assert equal(weights_of(model), whole[1][1]) and not model.training
    assert run_folder.newest(tmp_path) == tmp_path / "step-000001"


def test_the_second_ends_what_a_caller_does_after_a_step(tmp_path, whole):  # noqa: F811
    def look(record) -> None:
        if record.step == 0:
            press(1)
            time.sleep(0.01)
            press(1)
            raise AssertionError("it should not come here")

    assert without_time(run(tmp_path, on_step=look)) == whole[0][:1]
    goes_on_to_the_end(tmp_path, whole)


def test_one_that_comes_after_the_step_was_to_be_saved_saves_it_too(tmp_path, whole, capsys):  # noqa: F811
    """It was said to be saved, and was not."""
    assert len(run(tmp_path, save_every=0, on_step=lambda record: press(1))) == 1
    assert "saved in" in capsys.readouterr().out
    assert run_folder.newest(tmp_path) == tmp_path / "step-000001"
    goes_on_to_the_end(tmp_path, whole)


def test_what_must_be_whole_is_not_cut_by_any(tmp_path, whole, monkeypatch):  # noqa: F811
    step, save = torch.optim.AdamW.step, weights.save
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *a: (press(2), step(*a), press(2)))
    monkeypatch.setattr(weights, "save", lambda *a, **k: (press(3), save(*a, **k), press(3)))
    model = tiny_model()
    assert without_time(run(tmp_path, model)) == whole[0][:1]
    assert equal(weights_of(model), whole[1][1])
    monkeypatch.undo()
    goes_on_to_the_end(tmp_path, whole)


def test_where_it_cannot_be_saved_it_is_said(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save", full)
    with pytest.raises(OSError, match="step-000001: the checkpoint could not be written, and there is none before it"):
        run(tmp_path, pressing_in(0, 2 - 1))
    assert "saved" not in capsys.readouterr().out


def test_it_is_as_before_afterwards_and_in_other_threads_all_the_time(whole):  # noqa: F811
    handler, seen, result = signal.getsignal(signal.SIGINT), [], []
    thread = threading.Thread(
        target=lambda: result.extend(run(None, resume=False, on_step=lambda _: seen.append(handler)))
    )
    thread.start()
    while not seen:
        time.sleep(0.001)
    assert signal.getsignal(signal.SIGINT) is handler
    thread.join()
    assert without_time(result) == whole[0]
    run(None, resume=False, on_step=lambda _: seen.append(signal.getsignal(signal.SIGINT)))
    assert seen[-1] is not handler and signal.getsignal(signal.SIGINT) is handler


def test_work_is_given_up_once_and_only_where_it_may_be():
    ctrl_c = CtrlC()
    ctrl_c._pressed()
    with ctrl_c.may_be_given_up():
        pass
    ctrl_c._pressed()
    with pytest.raises(GivenUp), ctrl_c.may_be_given_up():
        raise AssertionError("it is given up before it begins")
    with pytest.raises(GivenUp), ctrl_c.may_be_given_up():
        raise AssertionError("and so is the next")


def test_a_third_does_not_disturb_what_ends_because_of_the_second():
    ctrl_c = CtrlC()
    ctrl_c._pressed()
    with ctrl_c.may_be_given_up():
        with pytest.raises(GivenUp):
            ctrl_c._pressed()
        ctrl_c._pressed()
    assert ctrl_c.presses == 3


# Real signals


@on_linux
def test_at_any_time_and_any_number_of_them_the_run_ends_in_peace_and_goes_on(tmp_path, whole):  # noqa: F811
    draw = random.Random(1)
    for i in range(8):
        folder = tmp_path / str(i)

        def work(folder: Path = folder) -> None:
            (tmp_path / "begun").touch()
            run(folder, on_step=lambda _: time.sleep(0.03), held_out=DOCUMENTS, evaluate_every=1)

        pid = child(work)
        while not (folder / run_folder.RECORDS_NAME).exists():
            time.sleep(0.001)
        for _ in range(draw.randint(1, 4)):
            time.sleep(draw.uniform(0, 0.06))
            os.kill(pid, signal.SIGINT)
        status = finished(pid)
        # A child that has left the training by then is interrupted as any other program is.
        assert status == 0 or len(run_folder.checkpoints(folder)) == 1
        own = run_folder.newest(folder)
        assert own is not None
        steps = len(own.parent.joinpath(run_folder.RECORDS_NAME).read_text().splitlines())
        assert own.name == f"step-{steps:06d}"
        records = run(folder)
        assert [record[:4] for record in without_time(records)] == [record[:4] for record in whole[0]]


@on_linux
def test_of_two_processes_both_stop_when_one_is_asked_to(tmp_path):
    """One that stopped alone would leave the other waiting for its part of a gradient."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> None:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
        os.environ["ACCELERATE_USE_CPU"] = "true"
        run(tmp_path, steps=1000, batch_size=2, save_every=0, on_step=lambda _: time.sleep(0.01))

    pids = [child(lambda rank=rank: work(rank)) for rank in (0, 1)]
    while not (tmp_path / run_folder.RECORDS_NAME).exists():
        time.sleep(0.01)
    os.kill(pids[1], signal.SIGINT)
    assert [finished(pid) for pid in pids] == [0, 0]
    own = run_folder.newest(tmp_path)
    assert own is not None and 0 < int(own.name.removeprefix("step-")) < 1000
