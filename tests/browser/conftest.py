"""A real browser and a real JupyterLab. Without Chromium these tests are skipped, and say how to have them run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from browser.real_lab import ARGUMENTS, Watch, find_chromium, jupyterlab

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
WIDTH, HEIGHT = 1300, 1000

# Notebooks of a few lines, for what the chapters do not hold.
SMALL_NOTEBOOKS = {
    "strip": """\
import time
from mamba2_lab.widgets import TokenStrip

strip = TokenStrip(label="amount")
strip
---
for start in range(0, 3000, 50):
    numbers = range(start, start + 50)
    strip.append([f"{i} " if i % 40 else f"{i}\\n" for i in numbers], [(i % 20) / 20 for i in numbers])
    time.sleep(0.05)
strip.settle()
""",
    "colours": """\
from mamba2_lab.widgets import TokenStrip

strip = TokenStrip([f"{i}\\n" for i in range(200)], [0.0] * 200, label="weight", scale="signed")
strip
---
turns = []

def turn(change):
    turns.append(change.new)
    strip.colour([(-1.0) ** len(turns) * (i % 3) / 2 for i in range(200)])

strip.observe(turn, "selected")
""",
    "explorer": """\
from mamba2_lab.widgets import FadingExplorer

FadingExplorer()
""",
    "playground": """\
from mamba2_lab.widgets import Playground

Playground("small", length=100_000)
""",
    "debugger": """\
from pathlib import Path

import torch

from mamba2_lab import Mamba2LM, inspect, load_tokenizer
from mamba2_lab.scan import recurrence
from mamba2_lab.widgets import StateDebugger

model, tokenizer = Mamba2LM.from_pretrained("small"), load_tokenizer("small")
ids = tokenizer.encode(Path(recurrence.__file__).read_text(encoding="utf-8"))[:512]
debugger = StateDebugger(inspect.trace(model, torch.tensor(ids)), [tokenizer.decode([i]) for i in ids])
debugger
""",
    "hybrid": """\
import torch

from mamba2_lab import MambaLM, inspect
from mamba2_lab.widgets import StateDebugger

mixers = {
    "mamba1": {"d_state": 8},
    "mamba2": {"d_state": 16, "headdim": 32},
    "mamba3": {"d_state": 64, "headdim": 16, "dt_min": 0.1, "dt_max": 1.0},
    "attention": {"num_heads": 4},
}
model = MambaLM(d_model=32, n_layer=4, mixers=list(mixers), **mixers, seed=0)
text = "def keep(memory, what):\\n    return memory + [what]\\n"
StateDebugger(inspect.trace(model, torch.tensor(list(text.encode()))), list(text))
""",
}


@pytest.fixture(scope="session")
def chromium() -> str:
    pytest.importorskip("playwright", reason="the tests in a browser need playwright: pip install playwright")
    path = find_chromium()
    if path is None:
        pytest.skip(
            "the tests in a browser need Chromium (Debian: apt-get install chromium) or Chrome on the PATH, "
            "or its path in MAMBA2_LAB_CHROMIUM"
        )
    return path


@pytest.fixture(scope="module")  # not longer: while Playwright runs, no test of this process can use asyncio.run
def browser(chromium: str) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of JupyterLab over copies of the notebooks: opening one may write into it."""
    folder = tmp_path_factory.mktemp("lab")
    root = folder / "root"
    root.mkdir()
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(path, root)
    for name, text in SMALL_NOTEBOOKS.items():
        cells = [nbformat.v4.new_code_cell(part) for part in text.split("---\n")]
        nbformat.write(nbformat.v4.new_notebook(metadata=KERNEL, cells=cells), root / f"{name}.ipynb")
    with jupyterlab(root, folder) as address:
        yield address


@pytest.fixture
def page(browser) -> Iterator[object]:
    """An empty page that reaches this machine only."""
    with browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}) as context:
        page = context.new_page()
        page.watch = Watch(page)
        yield page


@pytest.fixture
def free_page(browser) -> Iterator[object]:
    """One that is not watched: what a watched page sends when it is left does not get out."""
    with browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}) as context:
        yield context.new_page()
