"""A run can be killed at any moment and goes on as if nothing had been; many processes do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from support.small_models import small_model
from support.trainings import stopping_at

from mamba2_lab import Mamba2LM, load_tokenizer, training
from mamba2_lab.data import Document, pack
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import TrainingConfig, bits_per_byte, fit, run_folder
from mamba2_lab.training.step import Learner

DOCUMENTS = tuple(Document(f"{i}.py", f"def f{i}(x):\n    return {i} * x\n" * 8) for i in range(12))
TOKENS = pack(DOCUMENTS, ByteTokenizer())
CONFIG = {"steps": 9, "batch_size": 4, "length": 24, "warmup_steps": 2, "learning_rate": 0.01}


def run(model: Mamba2LM | None = None, folder: Path | None = None, resume: bool = False, **changes) -> list:
    model = small_model() if model is None else model
    config = TrainingConfig(**{**CONFIG, **changes})
    return fit(model, TOKENS, config, folder=folder, resume=resume, tokenizer=ByteTokenizer(), progress=False)


def losses(records) -> list[tuple]:
    return [(record.step, record.loss, record.learning_rate, record.gradient_norm) for record in records]


# Going on


def test_a_run_that_was_stopped_and_resumed_gives_the_same_losses_and_weights_to_the_last_bit(tmp_path, monkeypatch):
    whole, stopped = small_model(), small_model()
    expected = losses(run(whole))
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", stopping_at(3))
        assert losses(run(stopped, tmp_path)) == expected[:4]
    fresh = small_model(seed=7)  # resuming does not depend on what the model was
    assert losses(run(fresh, tmp_path, resume=True)) == expected
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, fresh.get_parameter(name)), name


def test_resuming_in_an_empty_folder_begins(tmp_path):
    assert losses(run(folder=tmp_path / "new", resume=True)) == losses(run())


def test_the_checkpoint_is_a_model_that_loads_with_its_tokenizer(tmp_path):
    model = small_model()
    run(model, tmp_path)
    (saved,) = run_folder.checkpoints(tmp_path)
    assert saved.name == "step-000009"
    loaded = Mamba2LM.from_pretrained(saved)
    assert all(torch.equal(weight, loaded.get_parameter(name)) for name, weight in model.named_parameters())
    assert isinstance(load_tokenizer(saved), ByteTokenizer)


def test_checkpoints_come_every_so_many_steps_and_the_newest_alone_is_kept(tmp_path, monkeypatch):
    written = []
    write = run_folder.write

    def noting(folder, step, *rest):
        path = write(folder, step, *rest)
        written.append((step, [path.name for path in run_folder.checkpoints(folder)]))
        return path

    monkeypatch.setattr(run_folder, "write", noting)
    run(folder=tmp_path, save_every=4)
    assert written == [(step, [f"step-{step:06d}"]) for step in (4, 8, 9)]


def test_every_step_leaves_a_line_of_json(tmp_path):
    records = run(folder=tmp_path)
    lines = (tmp_path / run_folder.RECORDS_NAME).read_text(encoding="utf-8").splitlines()
    assert [training.Record(**json.loads(line)) for line in lines] == records


def test_held_out_documents_are_measured_when_due_and_at_the_end():
    model = small_model()
    config = TrainingConfig(**CONFIG, evaluate_every=4)
    records = fit(model, TOKENS, config, held_out=DOCUMENTS[:2], tokenizer=ByteTokenizer(), progress=False)
    assert [record.step for record in records if record.bits_per_byte is not None] == [3, 7, 8]
    assert records[-1].bits_per_byte == bits_per_byte(model, DOCUMENTS[:2], ByteTokenizer())
    assert losses(records) == losses(run()), "measuring must not change the training"


def test_each_record_is_handed_over_once_it_is_kept(tmp_path):
    """What is handed over can be read on disk by then, and so can the checkpoint that was due."""
    seen = []

    def look(record):
        lines = (tmp_path / run_folder.RECORDS_NAME).read_text(encoding="utf-8").splitlines()
        seen.append((record, len(lines), [path.name for path in run_folder.checkpoints(tmp_path)]))

    config = TrainingConfig(**{**CONFIG, "steps": 3}, save_every=2)
    records = fit(small_model(), TOKENS, config, folder=tmp_path, on_step=look, progress=False)
    checkpoints = [[], ["step-000002"], ["step-000003"]]
    assert seen == [(records[i], i + 1, checkpoints[i]) for i in range(3)]


def test_the_model_can_be_looked_at_after_each_step_and_what_is_raised_there_ends_the_training():
    model, measured = small_model(), []

    def look(record):
        measured.append(bits_per_byte(model, DOCUMENTS[:1], ByteTokenizer()))
        if record.step == 4:
            raise RuntimeError("seen enough")

    with pytest.raises(RuntimeError, match="seen enough"):
        fit(model, TOKENS, TrainingConfig(**CONFIG), on_step=look, progress=False)
    assert measured == sorted(measured, reverse=True) and len(set(measured)) == 5
    assert measured[-1] == bits_per_byte(model, DOCUMENTS[:1], ByteTokenizer())
    assert not model.training


# Saving memory


def test_gradients_of_recomputed_blocks_equal_those_of_kept_ones():
    batch = TOKENS.random_batch(2, 30, torch.Generator().manual_seed(0))
    gradients = []
    for recompute in (False, True):
        model = small_model()
        model.checkpoint_blocks = recompute
        training.next_token_loss(model(batch.input_ids, document_ids=batch.document_ids), batch.targets).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        assert torch.equal(gradient, gradients[1][name]), name


def test_recomputed_blocks_are_computed_twice_and_only_in_training(monkeypatch):
    model, calls = small_model(), []
    model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    config = TrainingConfig(**{**CONFIG, "steps": 1}, checkpoint_blocks=True)
    fit(model, TOKENS, config, progress=False)
    assert len(calls) == 2 and not model.checkpoint_blocks


def test_training_with_recomputed_blocks_gives_the_same_losses():
    assert losses(run(checkpoint_blocks=True)) == losses(run())


def test_a_batch_in_parts_gives_the_losses_of_the_whole_batch():
    for part, whole in zip(losses(run(accumulation=2)), losses(run()), strict=True):
        assert part == pytest.approx(whole, rel=1e-4)


# What may go wrong


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path):
    run(folder=tmp_path)
    with pytest.raises(ValueError, match="folder must be new, or resume .*: it holds a run, at step-000009; got"):
        run(folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", 0.02), ("seed", 1), ("weight_decay", 0.2), ("betas", (0.8, 0.9))]
)
def test_a_run_is_resumed_with_its_own_settings_only(tmp_path, name, value):
    run(folder=tmp_path)
    model = small_model(seed=7)
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"{name} must be .*, as in the run to resume at .*step-000009; got"):
        run(model, tmp_path, resume=True, **{name: value})
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())


def test_a_run_older_than_a_setting_is_resumed_with_its_default(tmp_path):
    run(folder=tmp_path)
    facts = tmp_path / "step-000009" / "run.json"
    written = json.loads(facts.read_text())
    del written["training"]["final_share"]
    facts.write_text(json.dumps({name: written[name] for name in ("step", "training", "scaler")}))
    run(folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="final_share must be 0.1, as in the run to resume"):
        run(folder=tmp_path, resume=True, final_share=0.5)


def test_a_run_is_resumed_with_its_own_model_only(tmp_path):
    run(folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"step-000009: expected a checkpoint of this model, .*d_state=4"):
        run(small_model(d_state=4), tmp_path, resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", run_folder.OPTIMIZER_NAME, run_folder.RUN_NAME])
def test_a_damaged_checkpoint_is_an_error_that_names_the_file(tmp_path, name):
    run(folder=tmp_path)
    path = tmp_path / "step-000009" / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=rf"step-000009/{name}: expected .*; found"):
        run(folder=tmp_path, resume=True)


def test_lost_records_are_an_error(tmp_path):
    run(folder=tmp_path)
    (tmp_path / run_folder.RECORDS_NAME).write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"records.jsonl: expected a record of each .* 9 steps; found 0"):
        run(folder=tmp_path, resume=True)


def test_a_full_disk_is_a_clear_error_and_the_checkpoint_before_stays_whole(tmp_path, monkeypatch):
    save_file = safetensors.torch.save_file
    calls = []

    def full(tensors, path, **options):
        calls.append(path)
        if len(calls) > 2:  # the first checkpoint has two files
            Path(path).write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        save_file(tensors, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        expected = r"step-000008: the checkpoint could not be written, step-000004 is whole: .*No space left"
        with pytest.raises(OSError, match=expected):
            run(folder=tmp_path, save_every=4)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["step-000004"]
    assert losses(run(folder=tmp_path, resume=True, save_every=4)) == losses(run())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True}, "resume needs the folder of the run; got folder=None"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16; got 'fp8'"),
        ({"precision": "fp16"}, "precision must be 'fp32' or 'bf16' on the cpu, .*; got 'fp16'"),
        ({"accumulation": 3}, "accumulation must be a divisor of batch_size = 4; got 3"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_a_model_that_failed_to_train_computes_as_before(monkeypatch):
    """accelerate wraps the forward pass for half precision, and must take the wrapping off again."""
    model, ids = small_model(), torch.tensor([[1, 2, 3]])
    expected = model(ids)

    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Learner, "update", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(model, precision="bf16")
    assert torch.equal(model(ids), expected)


def test_gradients_left_by_a_caller_do_not_reach_the_training():
    model = small_model()
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    assert losses(run(model)) == losses(run())


def test_held_out_documents_need_a_tokenizer():
    with pytest.raises(ValueError, match="held_out documents need the tokenizer"):
        fit(small_model(), TOKENS, TrainingConfig(**CONFIG), held_out=DOCUMENTS, progress=False)


def test_processes_with_different_tokens_are_refused(monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 2))
    monkeypatch.setattr(Accelerator, "gather", lambda self, mark: torch.stack([mark, mark + 1]))
    config = TrainingConfig(steps=2, batch_size=2, length=8)
    with pytest.raises(ValueError, match="tokens must be the same in every process; got 2 kinds"):
        fit(small_model(), pack(DOCUMENTS, ByteTokenizer()), config, progress=False)


# As a command: killed, and on two processes


@pytest.fixture
def command(tmp_path):
    """The training command on a little corpus, and where it writes."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for document in DOCUMENTS:
        (corpus / document.name).write_text(document.text, encoding="utf-8")
    settings = "--device cpu --steps 10 --save-every 3 --batch-size 4 --length 16 --warmup-steps 2".split()
    return ["-m", "mamba2_lab", "train", "--data", str(corpus), *settings, "--folder"]


def start(*arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )


def finish(process: subprocess.Popen) -> str:
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, output
    return output


def records_in(folder: Path) -> list[dict]:
    path = folder / run_folder.RECORDS_NAME
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def test_a_killed_process_resumes_to_the_same_losses_and_two_processes_reach_them_too(command, tmp_path):
    finish(start(*command, str(tmp_path / "whole")))
    expected = [record["loss"] for record in records_in(tmp_path / "whole")]
    assert len(expected) == 10

    process = start(*command, str(tmp_path / "killed"))
    while len(records_in(tmp_path / "killed")) < 5:
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    finish(start(*command, str(tmp_path / "killed"), "--resume"))
    assert [record["loss"] for record in records_in(tmp_path / "killed")] == expected

    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no".split()
    options = ["--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--main_process_port", "0"]
    output = finish(start(*launch, *options, *command, str(tmp_path / "two")))
    assert output.count("computing on") == output.count("2 processes") == 1, output
    found = [record["loss"] for record in records_in(tmp_path / "two")]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found != expected, "two halves of a batch round otherwise than one process does"
