"""The command line does what the package does, and says what went wrong in one line."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mamba2_lab
from mamba2_lab import Mamba2LM, MambaLM, cli, load_tokenizer, stream
from mamba2_lab.benchmark import suite
from mamba2_lab.cli import program, train
from mamba2_lab.data import Corpus, Document, pack
from mamba2_lab.text import BPETokenizer
from mamba2_lab.training import TrainingConfig, run_folder
from mamba2_lab.weights import PRECISIONS
from mamba2_lab.weights.stored import storage_of


def test_generate_writes_the_prompt_and_what_the_stream_gives(capsys):
    options = "--seed 3 --max-new-tokens 30 --temperature 0.8 --top-k 20 --top-p 0.9 --min-p 0.01".split()
    assert cli.main(["generate", "def f(", *options, "--repetition-penalty", "1.1", "--device", "cpu"]) == 0
    model, tokenizer = Mamba2LM.from_pretrained("medium"), load_tokenizer("medium")
    tokens = stream(
        model,
        [tokenizer.end_of_text, *tokenizer.encode("def f(")],
        max_new_tokens=30,
        temperature=0.8,
        top_k=20,
        top_p=0.9,
        min_p=0.01,
        repetition_penalty=1.1,
        seed=3,
        stop=tokenizer.end_of_text,
        tokenizer=tokenizer,
    )
    assert capsys.readouterr().out == "def f(" + "".join(token.text for token in tokens) + "\n"


@pytest.mark.parametrize("weights", PRECISIONS)
def test_generate_writes_with_the_weights_that_are_asked_for(weights, capsys, monkeypatch):
    loaded, load = [], MambaLM.from_pretrained
    monkeypatch.setattr(MambaLM, "from_pretrained", lambda *a, **o: loaded.append(load(*a, **o)) or loaded[-1])
    asked = ["--model", "small", "--max-new-tokens", "12", "--temperature", "0", "--device", "cpu"]
    assert cli.main(["generate", "def f(", *asked, "--weights", weights]) == 0
    model, tokenizer = Mamba2LM.from_pretrained("small", **PRECISIONS[weights]), load_tokenizer("small")
    ids = [tokenizer.end_of_text, *tokenizer.encode("def f(")]
    tokens = stream(model, ids, max_new_tokens=12, temperature=0.0, stop=tokenizer.end_of_text, tokenizer=tokenizer)
    assert capsys.readouterr().out == "def f(" + "".join(token.text for token in tokens) + "\n"
    storage, dtype = (weights, "float32") if weights in ("int8", "int4") else (None, weights)
    assert (storage_of(loaded[0]), loaded[0].dtype) == (storage, getattr(torch, dtype))


def test_generate_stops_where_it_is_told(capsys):
    assert cli.main(["generate", "def f(x):\n", "--temperature", "0", "--stop", "\n", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("\n") == 2  # that of the prompt and the last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("generate --temperature -1", "--temperature must be a finite number, 0 (greedy) or more; got -1"),
        ("generate --temperature nan", "--temperature must be a finite number, 0 (greedy) or more; got nan"),
        ("generate --temperature hot", "--temperature must be a number; got 'hot'"),
        ("generate --top-k 0", "--top-k must be at least 1; got 0"),
        ("generate --top-k 2.5", "--top-k must be a whole number; got 2.5"),
        ("generate --top-p 0", "--top-p must be in (0, 1]; got 0"),
        ("generate --min-p 2", "--min-p must be in [0, 1]; got 2"),
        ("generate --repetition-penalty 0", "--repetition-penalty must be a finite number above 0; got 0"),
        ("generate --max-new-tokens -1", "--max-new-tokens must be 0 or more; got -1"),
        ("generate --max-new-tokens many", "--max-new-tokens must be a whole number; got 'many'"),
        ("generate --seed 1.5", "--seed must be a whole number"),
        ("generate --stop=", "--stop must be a text of at least one character, in UTF-8; got ''"),
        ("generate --stop=\udcff", "--stop must be a text of at least one character, in UTF-8; got '\\udcff'"),
        ("generate def\udcff", "the prompt must be text in UTF-8; got 'def\\udcff'"),
        ("generate --model no-such-model", "no model at 'no-such-model'"),
        ("generate --device tpu", "--device must be 'cpu', 'cuda' or 'mps'; got 'tpu'"),
        ("generate --device meta", "--device must be 'cpu', 'cuda' or 'mps'; got 'meta'"),
        ("convert small out --to onnx", "--to must be one of ours, official, transformers, mlx, gguf; got 'onnx'"),
        ("convert small out --to mlx --dtype q8_0", "--dtype must be one of float32, float16, bfloat16 for mlx; got"),
        ("convert small out --to gguf", "the target must be the name of a file, NAME.gguf; got 'out'"),
        (
            "convert small /dev/null --to ours",
            "the target must be a new folder or an empty one, for something is there",
        ),
        ("convert no-such-model out --to ours", "no model at 'no-such-model'"),
        ("doctor --device tpu", "--device must be 'cpu', 'cuda' or 'mps'; got 'tpu'"),
        ("train --folder unused --steps 0", "--steps must be above 0; got 0"),
        ("train --folder unused --steps all", "--steps must be a whole number; got 'all'"),
        ("train --folder unused --precision fp8", "--precision must be one of fp32, bf16, fp16; got 'fp8'"),
        ("train --folder unused --accumulation 3", "--accumulation must be a divisor of --batch-size = 8; got 3"),
        ("train --folder unused --data /no/such", "--data must be a file or a folder that is there; got '/no/such'"),
        ("train --folder unused --tokenizer 7", "--tokenizer must be of 257 to 2147483647 tokens; got 7"),
    ],
)
def test_an_error_is_one_line_in_the_words_of_the_flags(capsys, arguments, message):
    assert cli.main(arguments.split(" ")) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"mamba2-lab {arguments.split()[0]}: {message}") and captured.err.count("\n") == 1
    assert "None" not in captured.err.replace("a whole number or None", "")
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "mamba2-lab: the following arguments are required: COMMAND"),
        ("generate def f", "mamba2-lab generate: unrecognized arguments: f"),
        ("generate --topk 3", "mamba2-lab generate: unrecognized arguments: --topk"),
        ("generate --top-k", "mamba2-lab generate: argument --top-k: expected one argument"),
        ("train", "mamba2-lab train: the following arguments are required: --folder"),
        ("train --folder unused --preset huge", "mamba2-lab train: argument --preset: invalid choice: 'huge'"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line_too(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message) and captured.err.endswith("--help)\n") and captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("x: DefaultCPUAllocator: can't allocate memory:\n9 bytes")]
)
def test_a_lack_of_memory_is_one_line(capsys, monkeypatch, error):
    monkeypatch.setattr("mamba2_lab.cli.doctor.examine", lambda wanted: raising(error))
    assert cli.main(["doctor"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("mamba2-lab doctor: more memory is needed than there is") and message.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("mamba2_lab.cli.doctor.examine", lambda wanted: raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["doctor"])


def raising(error: BaseException):
    raise error
    yield


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mamba2-lab {mamba2_lab.__version__}\n"


# Streams


QUICK = ["--device", "cpu", "--temperature", "0", "--max-new-tokens", "4"]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("def f(é):\n".encode(), "def f(é):\n"),
        ("\ufeffdef f(é):\r\n\r\n".encode(), "def f(é):\n\n"),  # as Windows pipes it
        (b"", ""),
        (b"-", "-"),
    ],
)
def test_a_prompt_of_a_dash_is_read_from_standard_input(capsys, monkeypatch, given, read):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="ascii"))
    assert cli.main(["generate", "-", *QUICK]) == 0
    piped = capsys.readouterr().out
    if read == "-":  # the only text that cannot be given as an argument
        assert piped.startswith("-")
        return
    assert cli.main(["generate", read, *QUICK]) == 0
    assert piped == capsys.readouterr().out


def test_standard_input_that_is_no_text_or_closed_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 "), encoding="utf-8"))
    assert cli.main(["generate", "-", *QUICK]) == 1
    line = "mamba2-lab generate: standard input must be text in UTF-8; got 0xe9 at byte 3\n"
    assert capsys.readouterr() == ("", line)
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["generate", "-", *QUICK]) == 1
    assert capsys.readouterr().err.startswith("mamba2-lab generate: standard input is closed")


@pytest.mark.parametrize(("error", "status"), [(ValueError("odd logits"), 1), (KeyboardInterrupt(), 130)])
def test_what_ends_a_text_before_its_time_leaves_its_line_ended(capsys, monkeypatch, error, status):
    """What was held back, as it might have begun a stop, is said too."""
    options = ["--model", "small", "--temperature", "0", "--device", "cpu", "--max-new-tokens", "6"]
    assert cli.main(["generate", "def f(", *options]) == 0
    whole = capsys.readouterr().out
    advance, calls = MambaLM.advance, []

    def breaking_off(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            raise error
        return advance(*arguments, **options)

    monkeypatch.setattr(MambaLM, "advance", breaking_off)
    assert cli.main(["generate", "def f(", *options, "--stop", whole[6:10] + "!"]) == status
    captured = capsys.readouterr()
    assert captured.out == whole[:10] + "\n"
    assert captured.err == ("mamba2-lab generate: odd logits\n" if status == 1 else "")


def test_a_character_that_the_end_cuts_is_shown_as_broken(capsys, monkeypatch):
    monkeypatch.setattr(MambaLM, "advance", lambda self, tokens, cache, use_up: (one_token(0xC3), cache))
    assert cli.main(["generate", "a", *QUICK, "--model", "small"]) == 0
    assert capsys.readouterr().out.endswith("\ufffd\n")


def one_token(token: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([token]), 257) * 100.0


def test_a_settings_error_comes_before_the_prompt_is_echoed(capsys):
    assert cli.main(["generate", "def f(", "--max-new-tokens", "-1"]) == 1
    assert capsys.readouterr().out == ""


def test_output_that_cannot_hold_a_character_is_told_in_one_line(capsys, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cli.main(["generate", "def é(", *QUICK]) == 1
    assert written.getvalue() == b"\n"
    line = (
        "mamba2-lab generate: standard output is ascii and cannot take 'é'; PYTHONIOENCODING=utf-8 lets it take every"
    )
    assert capsys.readouterr().err == f"{line} text\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["generate", "def f(", *QUICK], ["--help"]], ids=["generate", "help"])
def test_a_full_disk_is_told_in_one_line(capsys, monkeypatch, arguments):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(arguments) == 1
    message = capsys.readouterr().err
    assert "No space left on device" in message and message.count("\n") == 1


def test_help_into_a_closed_pipe_is_quiet(capsys, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert cli.main(["--help"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")
@pytest.mark.parametrize("way", ["ctrl-c", "closed pipe"])
def test_generate_ends_quietly_in_the_middle_of_a_text(way):
    command = [sys.executable, "-m", "mamba2_lab", "generate", "def f(", "--device", "cpu", "--stop", "never so"]
    with subprocess.Popen(
        [*command, "--max-new-tokens", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(8).startswith("def f(")
        if way == "ctrl-c":
            process.send_signal(signal.SIGINT)
            assert process.stdout.read().endswith("\n")
        else:
            process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == (130 if way == "ctrl-c" else 141)


# The commands


def test_train_takes_every_setting_and_leaves_a_model_that_writes(tmp_path, capsys, monkeypatch):
    (tmp_path / "corpus").mkdir()
    for i in range(30):
        (tmp_path / "corpus" / f"{i}.py").write_text(f"x{i} = {i}\n" * 20, encoding="utf-8")
    taken = []
    fit = train.fit
    monkeypatch.setattr(
        train, "fit", lambda model, tokens, config, **rest: taken.append(config) or fit(model, tokens, config, **rest)
    )
    settings = {
        "steps": 2, "batch_size": 4, "length": 8, "learning_rate": 0.01, "warmup_steps": 1, "weight_decay": 0.2,
        "clip_norm": 0.5, "seed": 5, "precision": "bf16", "accumulation": 2, "save_every": 1, "evaluate_every": 1,
    }  # fmt: skip
    arguments = [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    folder = tmp_path / "run"
    where = ["--data", str(tmp_path / "corpus"), "--folder", str(folder), "--device", "cpu", "--checkpoint-blocks"]
    assert cli.main(["train", *arguments, *where]) == 0
    assert taken == [TrainingConfig(**settings, checkpoint_blocks=True)]
    assert "bits per byte on held-out files" in capsys.readouterr().out
    (saved,) = run_folder.checkpoints(folder)
    written = []
    for model in (saved, folder):
        assert cli.main(["generate", "x", "--model", str(model), "--max-new-tokens", "9", "--seed", "1"]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1]


def quick_train(tmp_path, *options: str, status: int = 0) -> Path:
    """The checkpoint of a run of one step on three texts, one of them held out."""
    words = " ".join(f"word{i} is {i * i}" for i in range(60))
    (tmp_path / "own").mkdir(exist_ok=True)
    for name in ("notes.md", "more.md", "code.py"):
        (tmp_path / "own" / name).write_text(f"# {name}\n{words}\n", encoding="utf-8")
    quick = "--steps 1 --batch-size 1 --length 8 --device cpu".split()
    where = ["--data", str(tmp_path / "own"), "--folder", str(tmp_path / "run")]
    assert cli.main(["train", *quick, *where, *options]) == status
    saved = run_folder.newest(tmp_path / "run")
    assert saved is not None, "no checkpoint"
    return saved


def test_train_learns_a_tokenizer_from_the_files_it_was_given(tmp_path, capsys):
    tokenizer = load_tokenizer(quick_train(tmp_path, "--pattern", "*.md", "--tokenizer", "265"))
    assert tokenizer.vocab_size == 265
    assert len(tokenizer.encode("word")) < 4 and tokenizer.decode(tokenizer.encode("né")) == "né"
    assert "265 tokens; 2 files" in capsys.readouterr().out


def test_a_run_goes_on_with_its_own_tokenizer_and_not_with_one_learned_anew(tmp_path, capsys, monkeypatch):
    first = quick_train(tmp_path, "--tokenizer", "265", "--seed", "3")
    saved = load_tokenizer(first).to_dict()
    monkeypatch.setattr(BPETokenizer, "train", lambda *_: pytest.fail("a tokenizer was learned"))
    assert quick_train(tmp_path, "--resume", "--steps", "2", "--seed", "3").name == "step-000002"
    assert f"going on from {first}" in capsys.readouterr().out
    assert quick_train(tmp_path, "--resume", "--steps", "3", "--seed", "3", "--tokenizer", "265").name == "step-000003"
    assert load_tokenizer(tmp_path / "run" / "step-000003").to_dict() == saved


def refusal(tmp_path, capsys, *options: str) -> str:
    """What is said when the run of `quick_train` is not gone on with."""
    quick_train(tmp_path, *options, status=1)
    captured = capsys.readouterr()
    assert captured.err.startswith("mamba2-lab train: ") and captured.err.count("\n") == 1
    assert [path.name for path in run_folder.checkpoints(tmp_path / "run")] == ["step-000001"]
    return captured.err.removeprefix("mamba2-lab train: ")


def test_what_cannot_be_gone_on_with_is_refused_in_the_words_of_the_command(tmp_path, capsys, monkeypatch):
    path = quick_train(tmp_path, "--tokenizer", "265")
    capsys.readouterr()
    run, as_in = str(path.parent), f", as in the run to resume at {path}; got "
    said = refusal(tmp_path, capsys)
    assert said == f"--folder must be new, or --resume asked for: it holds a run, at step-000001; got {run!r}\n"
    resumed = ["--resume", "--steps", "2"]
    for flag, own, other in [("batch-size", 1, 2), ("learning-rate", 0.003, 0.1), ("seed", 0, 1)]:
        assert refusal(tmp_path, capsys, *resumed, f"--{flag}", str(other)) == f"--{flag} must be {own}{as_in}{other}\n"
    for tokenizer, kind in [("bytes", "ByteTokenizer"), ("264", "BPETokenizer")]:
        said = refusal(tmp_path, capsys, *resumed, "--tokenizer", tokenizer)
        assert said == f"--tokenizer must be that of the run to resume at {path}; got 'another {kind}'\n"
    said = refusal(tmp_path, capsys, *resumed, "--preset", "large")
    assert said.startswith(f"{path}: expected a checkpoint of this model, with d_model=512, ")
    assert "n_layer=16" in said.partition("; found d_model=128, ")[0]
    said = refusal(tmp_path, capsys, *resumed, "--pattern", "*.md")
    assert said.startswith(f"the text of --data and --packages must be those of the run to resume at {path}, cut")
    monkeypatch.setattr("mamba2_lab.training.process.can_compile", lambda device: False)
    monkeypatch.setattr(train, "_read_corpus", lambda options: pytest.fail("the text was read"))
    said = refusal(tmp_path, capsys, *resumed, "--compile")
    assert said == "--compile must be off where a C++ compiler is missing, as it is here; got True\n"


def test_a_training_that_is_stopped_before_its_first_step_is_no_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *_, **__: [])
    with pytest.raises(AssertionError, match="no checkpoint"):
        quick_train(tmp_path)
    captured = capsys.readouterr()
    assert captured.err == "" and "let it write" not in captured.out


def test_train_takes_a_published_tokenizer(tmp_path):
    published = BPETokenizer.train(["a rose is a rose is a rose"], 260)._backend
    folder = tmp_path / "published"
    folder.mkdir()
    published.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|end_of_text|>"}', encoding="utf-8")
    assert load_tokenizer(quick_train(tmp_path, "--tokenizer", str(folder))).vocab_size == published.get_vocab_size()


def test_train_adds_packages_without_copies_of_what_is_held_out(tmp_path, monkeypatch):
    lines = "".join(f"the line number {i} of a text that is long enough\n" for i in range(12))
    own = Corpus((Document("a", "a\n" * 50),), (Document("kept", lines),))
    packages = Corpus((Document("p/b.py", "b = 1\n" * 50), Document("p/copy.py", lines)), (Document("p/c.py", "c\n"),))
    packed = []
    monkeypatch.setattr(train, "text_files", lambda path, pattern: own)
    monkeypatch.setattr(train, "installed_packages", lambda: packages)
    monkeypatch.setattr(
        train, "pack", lambda documents, tokenizer: packed.extend(documents) or pack(documents, tokenizer)
    )
    quick_train(tmp_path, "--packages")
    assert [document.name for document in packed] == ["a", "p/b.py"]


@pytest.mark.parametrize(("sections", "status"), [([True, True], 0), ([True, False, True], 1)])
def test_doctor_ends_with_status_1_if_a_section_finds_a_fault(capsys, monkeypatch, sections, status):
    asked = []
    monkeypatch.setattr(
        "mamba2_lab.cli.doctor.examine",
        lambda wanted: asked.append(wanted) or [(f"section {well}", well) for well in sections],
    )
    assert cli.main(["doctor", "--device", "cpu"]) == status
    assert asked == ["cpu"]
    out = capsys.readouterr().out
    assert out.startswith("section True\n\n")
    assert out.endswith("Something is wrong: see the lines in bold.\n" if status else "All is well.\n")


@pytest.mark.parametrize(
    "command", [[], ["train"], ["generate"], ["evaluate"], ["convert"], ["doctor"], ["bench"], ["course"]]
)
def test_help_explains_every_option(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: mamba2-lab")
    assert "None" not in text and "==" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in suite.SUITE) or command != ["bench"]  # none is torn at a hyphen


def test_the_command_is_installed_under_its_name():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'mamba2-lab = "mamba2_lab.__main__:main"' in text


def test_a_command_keeps_freed_memory_for_the_process_is_its_own(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(program, "keep_freed_memory", lambda: asked.append("kept"))
    monkeypatch.setattr("mamba2_lab.cli.doctor.examine", lambda wanted: asked.append("examined") or [])
    assert cli.main(["doctor"]) == 0
    assert asked == ["kept", "examined"]
