"""An answer that passed is a file of the reader's, and later notebooks use it; a broken one stops nothing."""

import linecache
import math
import statistics
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from mamba2_lab.course import answer, exercise, kept

MASK = """\
def decay_mask(log_decay):
    return torch.exp(segsum(log_decay))  # mine
"""
SEGSUM = """\
def segsum(log_decay):
    l = log_decay.shape[-1]
    table = log_decay[..., :, None].expand(*log_decay.shape, l).tril(-1).cumsum(dim=-2)
    return table.masked_fill(future(l), -math.inf)


def future(l):
    return torch.ones(l, l, dtype=torch.bool).triu(1)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A reader's folder, and nothing shown."""
    (tmp_path / "answers").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "answers"


@pytest.fixture
def said(monkeypatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr("mamba2_lab.course.display.display", lambda message: texts.append(repr(message)))
    return texts


class Notebook:
    """Cells that are run one after another, as in a kernel."""

    count = 0

    def __init__(self) -> None:
        self.names: dict = {"__name__": "__main__"}

    def run(self, source: str) -> dict:
        Notebook.count += 1
        file = f"<cell {Notebook.count}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec", dont_inherit=True), self.names)
        return self.names


def solved() -> dict:
    notebook = Notebook()
    notebook.run("import math\nimport torch\nfrom mamba2_lab.course import exercise\n")
    notebook.run(SEGSUM.replace("def segsum", "@exercise('segsum')\ndef segsum").partition("\n\n\n")[2])
    notebook.run("@exercise('segsum')\n" + SEGSUM.partition("\n\n\n")[0])
    return notebook.run("@exercise('decay_mask')\n" + MASK)


def test_a_passed_answer_is_a_readable_file_of_its_own(folder, said):
    solved()
    assert [path.name for path in sorted(folder.iterdir())] == ["decay_mask.py", "segsum.py"]
    assert said[-1].endswith("Your function is used from here on. It is kept in `answers/decay_mask.py`.")
    comment, _, text = (folder / "decay_mask.py").read_text(encoding="utf-8").partition("\n")
    assert comment.startswith("# Your answer to the exercise decay_mask.")
    head = 'import torch\nfrom mamba2_lab.course import answer\n\nsegsum = answer("segsum")\n\n\n'
    assert text == head + MASK
    _, _, text = (folder / "segsum.py").read_text(encoding="utf-8").partition("\n")
    own, helper = SEGSUM.split("\n\n\n")
    assert text == f"import math\nimport torch\n\n\n{helper}\n\n{own}\n"


def test_it_is_there_in_another_kernel(folder, said):
    solved()
    script = "from mamba2_lab.course import answer; a = answer('decay_mask'); "
    script += "print(a.adopted, a.__wrapped__.__code__.co_filename)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=folder.parent)
    yours, used = done.stdout.splitlines()
    assert yours == "decay_mask: yours. It is taken from `answers/decay_mask.py`."
    assert used == f"True {folder / 'decay_mask.py'}"


def test_an_exercise_that_is_open_again_uses_it(said):
    solved()

    def decay_mask(log_decay): ...

    found = exercise("decay_mask")(decay_mask)
    assert found.adopted
    told = "decay_mask: passed before. Your kept answer, `answers/decay_mask.py`, is used from here on."
    assert said[-1] == told


def test_a_wrong_answer_does_not_take_its_place(folder, said):
    solved()
    before = (folder / "decay_mask.py").read_bytes()

    def decay_mask(log_decay):
        return log_decay

    assert exercise("decay_mask")(decay_mask).adopted
    assert "Until it is, your kept answer, `answers/decay_mask.py`, takes its place." in said[-1]
    assert (folder / "decay_mask.py").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def decay_mask(log_decay:\n", "cannot be used: running it raised `SyntaxError: "),
        ("import no_such_module\n", "running it raised `ModuleNotFoundError: No module named 'no_such_module'`."),
        ("raise SystemExit(3)\n", "running it raised `SystemExit: 3`."),
        ("other = 1\n", "it defines no function `decay_mask`."),
        ("\xff\xfe", "it defines no function|running it raised"),
        ("def decay_mask(log_decay):\n    return log_decay\n", "does not pass its check any more: "),
        ("def decay_mask(log_decay): ...\n", "it is not answered there."),
        ("from mamba2_lab.course import answer\ndecay_mask = answer('decay_mask')\n", "it defines no function"),
    ],
)
def test_a_broken_file_is_told_of_and_stops_nothing(folder, said, text, told):
    (folder / "decay_mask.py").write_text(text, encoding="utf-16" if text == "\xff\xfe" else "utf-8")
    found = answer("decay_mask")
    assert not found.adopted and found(torch.zeros(2)).tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert any(part in said[-1] for part in told.split("|")), said
    assert said[-1].endswith("Mend the file, or delete it.")

    def decay_mask(log_decay): ...

    assert not exercise("decay_mask")(decay_mask).adopted
    assert "The reference takes its place until you write it." in said[-1] and "Mend the file" in said[-1]


def test_answers_that_ask_for_each_other_end(folder, said):
    for name, other in (("segsum", "decay_mask"), ("decay_mask", "segsum")):
        text = f"from mamba2_lab.course import answer\n{other} = answer({other!r})\n\n\n"
        (folder / f"{name}.py").write_text(f"{text}def {name}(log_decay):\n    return {other}(log_decay)\n")
    assert not answer("segsum").adopted


def test_where_nobody_keeps_answers_nothing_is_written(folder, said):
    folder.rmdir()
    solved()
    assert list(folder.parent.iterdir()) == []
    assert said[-1].endswith("Your function is used from here on.")
    assert (
        not answer("decay_mask").adopted and said[-1] == "decay_mask: the reference. It is an exercise of notebook 04."
    )


def test_an_answer_with_a_tensor_of_the_notebook_is_used_and_not_kept(folder, said):
    notebook = Notebook()
    notebook.run("import torch\nfrom mamba2_lab.course import exercise\none = torch.ones(())\n")
    notebook.run("@exercise('half_life')\ndef half_life(log_decay):\n    return (one / 2).log() / log_decay\n")
    assert said[-1].startswith(
        "half_life: passed. Your function is used from here on. For later notebooks it is not kept:"
    )
    assert "it uses `one` of this notebook, a Tensor." in said[-1]
    assert list(folder.iterdir()) == []


def test_imports_are_written_as_they_were_made():
    names = {
        "math": math,
        "F": torch.nn.functional,
        "nn": torch.nn,
        "middle": statistics.median,
        "limit": 3,
        "none": None,
    }
    source = "def use(x):\n    return F, nn, math, middle, limit, none, len(x)\n"
    linecache.cache["<use>"] = (len(source), None, source.splitlines(keepends=True), "<use>")
    exec(compile(source, "<use>", "exec"), names)
    assert isinstance(names["use"], types.FunctionType)
    assert kept.written(names["use"]) == (
        "import math\nimport torch.nn.functional as F\n"
        "from statistics import median as middle\nfrom torch import nn\n\n"
        "limit = 3\nnone = None\n\n\n" + source
    )
