"""The command line does what the package does, and says what went wrong in one line."""

from pathlib import Path

import pytest

from mamba2_lab import Mamba2LM, cli, load_tokenizer, run_folder, stream
from mamba2_lab.data import Corpus, Document, pack
from mamba2_lab.tokenizer import BPETokenizer
from mamba2_lab.training import TrainingConfig


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


def test_generate_stops_where_it_is_told(capsys):
    assert cli.main(["generate", "def f(x):\n", "--temperature", "0", "--stop", "\n", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("\n") == 2  # that of the prompt and the last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--temperature", "-1"], "mamba2-lab generate: temperature must be a finite number, 0 (greedy)"),
        (["generate", "--model", "no such model"], "mamba2-lab generate: no model at 'no such model'"),
        (["generate", "--device", "tpu"], "mamba2-lab generate: device must be 'cpu', 'cuda' or 'mps'; got 'tpu'"),
        (["train", "--folder", "unused", "--steps", "0"], "mamba2-lab train: --steps must be above 0; got 0"),
        (["train", "--folder", "unused", "--data", "/no/such"], "mamba2-lab train: path must be a file or a folder"),
        (["train", "--folder", "unused", "--tokenizer", "7"], "mamba2-lab train: vocab_size must be at least 257"),
    ],
)
def test_an_error_is_one_line(capsys, arguments, message):
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(message) and captured.err.count("\n") == 1
    assert captured.out == ""


def test_train_takes_every_setting_and_leaves_a_model_that_writes(tmp_path, capsys, monkeypatch):
    (tmp_path / "corpus").mkdir()
    for i in range(30):
        (tmp_path / "corpus" / f"{i}.py").write_text(f"x{i} = {i}\n" * 20, encoding="utf-8")
    taken = []
    fit = cli.fit
    monkeypatch.setattr(
        cli, "fit", lambda model, tokens, config, **rest: taken.append(config) or fit(model, tokens, config, **rest)
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
    assert cli.main(["generate", "x", "--model", str(saved), "--max-new-tokens", "3", "--device", "cpu"]) == 0


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
    as_in = f", as in the run to resume at {path}; got "
    said = refusal(tmp_path, capsys)
    assert said == f"--folder must be new, or --resume given; {path.parent} holds a run, at step-000001\n"
    resumed = ["--resume", "--steps", "2"]
    assert refusal(tmp_path, capsys, *resumed, "--batch-size", "2") == f"--batch-size must be 1{as_in}2\n"
    said = refusal(tmp_path, capsys, *resumed, "--learning-rate", "0.1")
    assert said == f"--learning-rate must be 0.003{as_in}0.1\n"
    assert refusal(tmp_path, capsys, *resumed, "--seed", "1") == f"--seed must be 0{as_in}1\n"
    for tokenizer in ("bytes", "264"):
        said = refusal(tmp_path, capsys, *resumed, "--tokenizer", tokenizer)
        assert said == f"--tokenizer must be the one saved in the run to resume at {path}; got another\n"
    said = refusal(tmp_path, capsys, *resumed, "--preset", "large")
    assert said.startswith(f"{path}: expected a checkpoint of the model of --preset, with d_model=512, n_layer=16, ")
    said = refusal(tmp_path, capsys, *resumed, "--pattern", "*.md")
    assert said.startswith(f"the text of --data and --packages must be as in the run to resume at {path}; got others")
    said = refusal(tmp_path, capsys, *resumed, "--accumulation", "3")
    assert said == "--accumulation must be a divisor of --batch-size = 1; got 3\n"
    monkeypatch.setattr("mamba2_lab.training.can_compile", lambda device: False)
    monkeypatch.setattr(cli, "_read_corpus", lambda options: pytest.fail("the text was read"))
    said = refusal(tmp_path, capsys, *resumed, "--compile")
    assert said == "--compile needs a C++ compiler on cpu; found none on this machine\n"


def test_a_training_that_is_stopped_before_its_first_step_is_no_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "fit", lambda *_, **__: [])
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
    monkeypatch.setattr(cli, "text_files", lambda path, pattern: own)
    monkeypatch.setattr(cli, "installed_packages", lambda: packages)
    monkeypatch.setattr(
        cli, "pack", lambda documents, tokenizer: packed.extend(documents) or pack(documents, tokenizer)
    )
    quick_train(tmp_path, "--packages")
    assert [document.name for document in packed] == ["a", "p/b.py"]


@pytest.mark.parametrize(("sections", "status"), [([True, True], 0), ([True, False, True], 1)])
def test_doctor_ends_with_status_1_if_a_section_finds_a_fault(capsys, monkeypatch, sections, status):
    asked = []
    monkeypatch.setattr(
        "mamba2_lab.doctor.examine",
        lambda wanted: asked.append(wanted) or [(f"section {well}", well) for well in sections],
    )
    assert cli.main(["doctor", "--device", "cpu"]) == status
    assert asked == ["cpu"]
    out = capsys.readouterr().out
    assert out.startswith("section True\n\n")
    assert out.endswith("Something is wrong: see the lines in bold.\n" if status else "All is well.\n")


@pytest.mark.parametrize("command", [[], ["train"], ["generate"], ["doctor"]])
def test_help_explains_every_option(capsys, command):
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: mamba2-lab")
    assert "None" not in text and "==" not in text


def test_the_command_is_installed_under_its_name():
    text = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert 'mamba2-lab = "mamba2_lab.cli:main"' in text
