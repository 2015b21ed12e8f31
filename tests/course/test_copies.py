"""The reader's copies: without outputs and outcomes, made once, never overwritten; nothing taken away is lost."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import build
import nbformat
import pytest

from mamba2_lab import cli
from mamba2_lab.course import copies

ROOT = Path(__file__).resolve().parents[2]
NAMES = [path.stem for path in sorted((build.NOTEBOOKS / "source").glob("*.py"))]


@pytest.fixture
def folder(tmp_path) -> Path:
    copies.make(tmp_path / "mine")
    return tmp_path / "mine"


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def test_a_copy_has_the_cells_of_its_source_and_no_outputs(folder):
    assert sorted(path.stem for path in folder.glob("*.ipynb")) == NAMES
    for name in NAMES:
        copy, source = read(folder / f"{name}.ipynb"), build.read_source(build.NOTEBOOKS / "source" / f"{name}.py")
        nbformat.validate(copy)
        assert len(copy.cells) == len(source.cells)
        for cell, written in zip(copy.cells, source.cells, strict=True):
            assert cell.cell_type == written.cell_type and not cell.get("outputs") and not cell.get("execution_count")
            tells = written.cell_type == "markdown" and "answer" in written.metadata.get("tags", [])
            assert cell.source == (copies.folded(written.source) if tells else written.source)


def test_what_is_folded_waits_for_a_click():
    folded = copies.folded("It is **3**.")
    assert folded.startswith("<details><summary>") and folded.endswith("\n\nIt is **3**.\n\n</details>")


def test_what_is_there_is_never_overwritten(folder):
    path = folder / "05_chunks.ipynb"
    path.write_text("the reader's", encoding="utf-8")
    (folder / "03_choosing_what_to_remember.ipynb").unlink()
    made = copies.make(folder)
    assert path.read_text(encoding="utf-8") == "the reader's"
    assert made.new == ["03_choosing_what_to_remember"] and len(made.kept) == len(NAMES) - 1


@pytest.mark.parametrize("chapter", ["5", "05", "05_chunks", "05_chunks.ipynb"])
def test_a_chapter_is_brought_back_and_the_readers_is_kept(folder, chapter):
    path = folder / "05_chunks.ipynb"
    fresh = [cell.source for cell in read(path).cells]
    kept = []
    for text in ("first", "second"):  # within a second, perhaps
        path.write_text(text, encoding="utf-8")
        kept.append(copies.bring_back(folder, chapter)[1])
    assert [(place / path.name).read_text(encoding="utf-8") for place in kept] == ["first", "second"]
    assert [cell.source for cell in read(path).cells] == fresh
    path.unlink()
    assert copies.bring_back(folder, chapter) == ("05_chunks", None)
    assert path.exists()


def test_to_start_over_takes_answers_and_guesses_away_and_loses_none(folder):
    (folder / "answers" / "segsum.py").write_text("mine", encoding="utf-8")
    (folder / "guesses.json").write_text("{}", encoding="utf-8")
    (folder / "notes.txt").write_text("not of the course", encoding="utf-8")
    kept = copies.start_over(folder)
    assert (kept / "answers" / "segsum.py").read_text(encoding="utf-8") == "mine"
    assert (kept / "guesses.json").exists() and (kept / "05_chunks.ipynb").exists()
    assert [path.name for path in (folder / "answers").iterdir()] == ["README.md"]
    assert (folder / "notes.txt").exists() and not (folder / "guesses.json").exists()


def test_the_command_says_what_it_did(tmp_path, capsys):
    folder = tmp_path / "my course"
    assert cli.main(["course", str(folder)]) == 0
    assert f"{len(NAMES)} notebooks made" in capsys.readouterr().out
    assert cli.main(["course", str(folder)]) == 0
    assert f"{len(NAMES)} were there and are as you left them" in capsys.readouterr().out
    assert cli.main(["course", str(folder), "--again", "5"]) == 0
    assert "05_chunks.ipynb is as it was in the beginning; yours lies in " in capsys.readouterr().out
    assert cli.main(["course", str(folder), "--start-over"]) == 0
    assert "the course begins anew; what you had lies in " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{folder}", "--again", "55"], "--again must be the number of a chapter, such as 00, 01"),
        ([str(build.NOTEBOOKS)], "holds the course's own notebooks; name a folder for copies of your own"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(tmp_path, capsys, arguments, told):
    assert cli.main(["course", *(text.format(folder=tmp_path) for text in arguments)]) == 1
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_wheel_carries_the_sources_and_makes_the_same_copies(tmp_path):
    """Built as `pip wheel` builds one, of the few files that this is about."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "notebooks" / "source", project / "notebooks" / "source")
    shutil.copytree(
        ROOT / "mamba2_lab" / "course", project / "mamba2_lab" / "course", ignore=shutil.ignore_patterns("__pycache__")
    )
    (project / "mamba2_lab" / "__init__.py").write_text("", encoding="utf-8")
    build_it = "import setuptools.build_meta as backend; print(backend.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build_it], cwd=project, check=True, capture_output=True)
    (wheel,) = project.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        carried = [name for name in archive.namelist() if name.startswith("mamba2_lab/course/notebooks/")]
        assert sorted(Path(name).stem for name in carried) == NAMES
        assert sum(archive.getinfo(name).compress_size for name in carried) < 200_000
        for name in carried:
            assert archive.read(name) == (ROOT / "notebooks" / "source" / Path(name).name).read_bytes()


def test_without_jupytext_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert cli.main(["course", str(tmp_path / "mine")]) == 1
    assert 'the course needs JupyterLab: pip install "mamba2-lab[lab]"' in capsys.readouterr().err
