"""What a reader does, in a real JupyterLab and in Voilà: run a notebook, press buttons, move sliders, click tokens."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_lab import Notebook, free_port, picture, private_environment, serving

PATIENCE = 120_000  # milliseconds; nothing waits so long unless it hangs
STOP_MILLISECONDS = 200


class InPage:
    """A playground as it stands in a page."""

    def __init__(self, page) -> None:
        self.page = page
        self.runs = 0
        self.status = page.locator('[role="status"]').first
        page.set_default_timeout(PATIENCE)
        page.get_by_text(re.compile("is ready on")).wait_for()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def fill(self, name: str, value: object) -> None:
        field = self.page.locator(f'.widget-label:text-is("{name}") + input').first
        field.fill(str(value))
        field.press("Tab")

    def chips(self, strip: int = 0):
        return self.page.locator(".token-strip").nth(strip).locator('[role="option"]')

    def text(self) -> str:
        return "".join(self.chips().all_text_contents()).replace("↵", "")

    def wait_for_chips(self, count: int) -> None:
        self.chips().nth(count - 1).wait_for(state="attached")

    def wait_for_end(self, runs: int = 1) -> None:
        """Until the history holds so many runs more."""
        self.runs += runs
        self.page.wait_for_function("n => document.querySelectorAll('details > summary').length === n", arg=self.runs)

    def write(self, seed: int, count: int = 20) -> str:
        self.fill("seed", seed)
        self.fill("new tokens", count)
        self.press("Generate")
        self.wait_for_end()
        return self.text()


def use(page, name: str) -> None:
    """Everything that a playground is for; `name` is that of the pictures."""
    found = InPage(page)
    found.fill("new tokens", 2000)
    began = time.perf_counter()
    found.press("Generate")
    found.wait_for_chips(1)
    print(f"\n{name}: {1000 * (time.perf_counter() - began):.0f} ms from the click to the first token in the page")
    found.wait_for_chips(12)
    before = found.chips().count()
    found.wait_for_chips(before + 5)  # it grows

    began = time.perf_counter()
    found.press("Stop")
    found.wait_for_end()
    in_page = 1000 * (time.perf_counter() - began)
    said = found.status.inner_text()
    in_kernel = int(re.search(r"took (\d+) ms to stop", said)[1])
    print(f"{name}: stopped in {in_kernel} ms in the kernel, {in_page:.0f} ms in the page")
    rate = float(re.search(r"([\d,]+) tokens/s, the first after (\d+) ms", page.inner_text("body"))[1].replace(",", ""))
    assert in_kernel <= max(STOP_MILLISECONDS, 3 * 1000 / max(rate, 1)), "it stops with the token that it is at"
    made = found.chips().count()
    assert made < 2000 and "by hand" in said

    found.fill("new tokens", 15)
    found.press("Continue")
    found.wait_for_end()
    assert found.chips().count() == made + 15
    assert "none of them was read again" in found.status.inner_text()

    slider = page.get_by_role("slider").first
    readout = page.locator(".widget-readout").first
    assert readout.inner_text() == "0.70"
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function("e => e.textContent === '0.75'", arg=readout.element_handle())

    texts = [found.write(seed) for seed in (1, 2, 1)]
    assert texts[0] == texts[2] != texts[1]
    assert "temperature 0.75" in page.locator("details > summary").first.text_content()

    found.chips().nth(3).click()
    bars = page.locator('img[alt^="Bars: the probabilities of"]')
    bars.wait_for()
    assert "Token 3." in page.inner_text("body")
    page.keyboard.press("ArrowRight")
    page.get_by_text("Token 4.").wait_for()
    page.keyboard.press("End")
    page.get_by_text("Token 19.").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("token 19, '")
    page.locator(".token-strip").first.scroll_into_view_if_needed()
    picture(page, name)

    page.get_by_label("compare two settings, same seed").check()
    found.press("Generate")
    found.wait_for_end(runs=2)
    assert found.chips(0).all_text_contents() == found.chips(1).all_text_contents()
    picture(page, f"{name}_side_by_side")

    found.fill("new tokens", -1)
    found.press("Generate")
    page.get_by_role("alert").filter(has_text="length must be 1 token or more; got -1").wait_for()


@pytest.fixture
def notebook(page, lab) -> Iterator:
    """Opens notebooks; afterwards their kernels are gone, and nothing went wrong unseen."""
    opened = []

    def open_it(name: str) -> Notebook:
        opened.append(Notebook(page, lab, name))
        return opened[-1]

    yield open_it
    for one in opened:
        assert one.errors() == []
        assert one.log() == [], "something hid in JupyterLab's Log Console"
        one.shut_down()
    assert page.watch.errors == []
    assert page.watch.outside == []


def test_notebook_09_in_jupyterlab(notebook, page):
    notebook("09_generation.ipynb").run_all()
    use(page, "playground_jupyterlab")


def test_an_explorer_follows_its_slider(notebook, page):
    notebook("05_chunks.ipynb").run_all()
    slider = page.get_by_role("slider").first
    figure = page.locator(".jupyter-widgets img").first
    before = figure.get_attribute("src")
    slider.scroll_into_view_if_needed()
    slider.focus()
    began = time.perf_counter()
    slider.press("ArrowRight")
    page.wait_for_function("src => document.querySelector('.jupyter-widgets img').src !== src", arg=before)
    print(f"\n{1000 * (time.perf_counter() - began):.0f} ms from the key to the new figure")
    picture(page, "explorer_jupyterlab")


FRAMES = """() => {
    window.longest = 0;
    let last = performance.now();
    const look = now => {
        window.longest = Math.max(window.longest, now - last);
        last = now;
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""


def test_three_thousand_tokens(notebook, page):
    received = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    opened = notebook("strip.ipynb")
    page.evaluate(FRAMES)
    began = time.perf_counter()
    opened.run_all()
    chips = page.locator('.token-strip [role="option"]')
    chips.nth(2999).wait_for(state="attached")
    seconds, size = time.perf_counter() - began, sum(received)
    longest = page.evaluate("window.longest")
    print(
        f"\n3,000 tokens sent in 3 s: {seconds:.1f} s, {size / 1000:.0f} kB, longest pause of the page {longest:.0f} ms"
    )
    assert size < 1_000_000
    assert chips.nth(2999).get_attribute("aria-label") == "token 2999, '2999 ', amount 0.95"
    assert chips.count() == 3000
    chips.first.click()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("token 1, ")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("token 2999, ")


def test_the_app(page, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "mamba2_lab.widgets.app", "--no-browser", f"--port={port}"]
    with serving(command, f"http://127.0.0.1:{port}/static/", private_environment(tmp_path), tmp_path):
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}/")
        use(page, "playground_app")
    # Voilà's page asks a CDN for icons, which it does without here; nothing of ours asks for anything.
    assert all("fontawesome" in url or "font-awesome" in url for url in page.watch.outside), page.watch.outside
    # Nor is it ours that Voilà fails to load parts of JupyterLab's extensions, which it does not need either.
    not_ours = re.compile("ERR_FAILED|getter for the shared module is not a function")
    assert [error for error in page.watch.errors if not not_ours.search(error)] == []
    assert not Path(tmp_path / "Playground.ipynb").exists()
