"""Print how fast `medium` writes in the playground's own page, and by `generate` in a process without one, in turn.

    python tests/browser/measure_page.py

As the page tells it: wall time, with Chromium on the same cores. Its share of the machine is printed beside.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does

from browser.playground_page import InPage
from browser.real_lab import ARGUMENTS, find_chromium, free_port, private_environment, serving
from playwright.sync_api import sync_playwright

from mamba2_lab import MambaLM, keep_freed_memory, load_tokenizer

TOKENS, ROUNDS = 400, 7
PROMPT, SETTINGS = "def area(radius):\n    ", {"temperature": 0.7, "seed": 0}


def main() -> None:
    keep_freed_memory()
    model, tokenizer = MambaLM.from_pretrained("medium"), load_tokenizer("medium")
    ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(PROMPT)]])
    alone, in_page, of_browser = [], [], []
    with playground_page() as page:
        for _ in range(ROUNDS + 1):  # the first is for whoever has to warm up
            began = time.perf_counter()
            model.generate(ids, max_new_tokens=TOKENS, **SETTINGS)
            alone.append(TOKENS / (time.perf_counter() - began))
            share, rate = written_in(page)
            in_page.append(rate)
            of_browser.append(share)
    print(f"medium, {TOKENS} tokens, medians of {ROUNDS} and their range")
    for name, rates in (("in the page", in_page[1:]), ("generate alone", alone[1:])):
        print(f"{name:16}{statistics.median(rates):5.0f} tokens/s ({min(rates):.0f} to {max(rates):.0f})")
    print(f"meanwhile Chromium took {statistics.median(of_browser[1:]):.0%} of a core")


@contextmanager
def playground_page() -> Iterator[InPage]:
    """The page that `make playground` opens, in a browser that is not seen."""
    port = free_port()
    command = [sys.executable, "-m", "mamba2_lab.widgets.playground.app", "--no-browser", f"--port={port}"]
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = Path(made)
        with serving(command, f"http://127.0.0.1:{port}/login", private_environment(folder), folder):
            token = re.search(rf":{port}/\?token=(\w+)", (folder / "server.log").read_text())
            assert token is not None
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(f"http://127.0.0.1:{port}/?token={token[1]}")
            found = InPage(page)
            found.fill("new tokens", TOKENS)
            yield found
            browser.close()


def written_in(page: InPage) -> tuple[float, float]:
    """Cores that Chromium took while one text was written, and the tokens per second that the page shows for it."""
    processes = [one for one in psutil.Process().children(recursive=True) if "chrom" in one.name()]
    before, began = seconds_of(processes), time.perf_counter()
    page.press("Generate")
    page.wait_for_end()
    share = (seconds_of(processes) - before) / (time.perf_counter() - began)
    rates = re.findall(r"([\d,]+) tokens/s, the first after \d+ ms", page.page.inner_text("body"))
    return share, float(rates[0].replace(",", ""))


def seconds_of(processes: list[psutil.Process]) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in processes if one.is_running())


if __name__ == "__main__":
    main()
