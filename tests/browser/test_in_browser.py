"""What a reader does in a real JupyterLab: run a notebook, press buttons, move sliders, click tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from browser.playground_page import PATIENCE, InPage, use
from browser.real_lab import Notebook, picture

from mamba2_lab.plots.debugger import across


@pytest.fixture
def notebook(page, lab) -> Iterator:
    """Opens notebooks; afterwards their kernels are gone, and nothing went wrong unseen."""
    opened = {}  # by name: one that is opened again is the same notebook, with the same kernel

    def open_it(name: str) -> Notebook:
        opened[name] = Notebook(page, lab, name)
        return opened[name]

    yield open_it
    for one in opened.values():
        assert one.errors() == []
        assert one.log() == [], "something hid in JupyterLab's Log Console"
        one.shut_down()
    assert page.watch.errors == []
    assert page.watch.outside == []


def test_notebook_09_in_jupyterlab(notebook, page):
    """Its playground, and what that needs: the whole of it is run elsewhere."""
    opened = notebook("09_generation.ipynb")
    for text in ("FAST = ", "header = "):
        opened.run(opened.cell(text))
    settings, *_ = opened.source(opened.cell("settings = {")).splitlines()
    playground = opened.cell("playground = Playground(")
    opened.run(playground, f"{settings}\n{opened.source(playground)}")
    use(page, "playground_jupyterlab")


def test_a_page_that_is_loaded_anew_shows_the_text_so_far_and_goes_on(notebook, page):
    opened = notebook("playground.ipynb")
    opened.run_all()
    found = InPage(page)
    found.press("Generate")
    found.wait_for_chips(100)
    opened.save()
    notebook("playground.ipynb")  # leaves the page, and opens the notebook in another one
    began = time.perf_counter()
    chips = found.chips()
    chips.nth(99).wait_for(state="attached")
    print(f"\n{1000 * (time.perf_counter() - began):.0f} ms until the text so far is there")
    assert not page.get_by_text("It ended by hand").is_visible(), "the run goes on"
    found.wait_for_chips(chips.count() + 50)
    found.press("Stop")
    page.get_by_text("It ended by hand").wait_for()
    made = int(re.search(r"after ([\d,]+) new tokens", found.status.inner_text())[1].replace(",", ""))
    last = chips.last.get_attribute("aria-label")
    assert last.startswith(f"token {made - 1}, "), "nothing is missing, and nothing is there twice"


def test_an_explorer_follows_its_slider(notebook, page):
    opened = notebook("05_chunks.ipynb")
    explorer = opened.cell("ChunkStepper(words")
    opened.run_to(explorer)
    opened.run(explorer)
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


def test_a_widget_whose_kernel_has_ended_is_back_once_its_cell_is_run_again(free_page, lab):
    """As the notebooks say beside each of them."""
    opened = Notebook(free_page, lab, "explorer.ipynb")
    opened.run_all()
    opened.save()
    opened.shut_down()
    opened = Notebook(free_page, lab, "explorer.ipynb")
    opened.output(0).get_by_text("model not found").wait_for()
    opened.run(0)
    opened.output(0).get_by_role("slider").first.wait_for()
    opened.shut_down()


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


def background(chip) -> str:
    return chip.evaluate("chip => getComputedStyle(chip).backgroundColor")


def test_new_colours_leave_the_reader_where_she_is(notebook, page):
    notebook("colours.ipynb").run_all()
    page.set_default_timeout(PATIENCE)
    chips = page.locator('.token-strip [role="option"]')
    page.evaluate("window.firstChip = document.querySelector('.token-strip [role=option]')")
    page.locator(".token-strip").evaluate("list => { list.scrollTop = 900; }")
    chips.nth(50).click()
    page.locator("[aria-label=\"token 50, '50↵', weight -1.0\"]").wait_for()
    purple, clear, half = (background(chips.nth(i)) for i in (50, 51, 52))
    scrolled = page.locator(".token-strip").evaluate("list => list.scrollTop")
    assert scrolled > 0
    page.keyboard.press("ArrowDown")
    page.locator("[aria-label=\"token 50, '50↵', weight 1.0\"]").wait_for()
    orange = background(chips.nth(50))
    assert len({purple, orange, clear, half}) == 4
    assert clear == background(chips.nth(51)) and clear.endswith(", 0)"), "zero has no colour"
    assert chips.nth(51).get_attribute("aria-selected") == "true"
    assert chips.nth(50).get_attribute("title") == "50: '50↵', weight 1.0"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "token 51, '51↵', weight 0.0"
    assert page.evaluate("window.firstChip.isConnected"), "the chips were built anew"
    assert page.locator(".token-strip").evaluate("list => list.scrollTop") == pytest.approx(scrolled, abs=40)


class Debugger:
    """A state debugger as it stands in a page."""

    def __init__(self, page) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE)
        self.chips = page.locator('.token-strip [role="option"]')
        self.images = page.locator(".jupyter-widgets figure img")
        page.wait_for_function("document.querySelectorAll('.jupyter-widgets figure img').length === 3")

    def seen(self) -> list[str]:
        """The film, the rows and the charts."""
        return [self.images.nth(i).get_attribute("src") for i in range(3)]

    def pick(self, name: str, value: int) -> None:
        field = self.page.locator(f'.widget-label:has-text("{name} (") + input')
        field.fill(str(value))
        field.press("Tab")

    def after(self, act, said: str) -> list[bool]:
        """Do something and wait until a figure's text speaks of it: which figures are others then."""
        before = self.seen()
        began = time.perf_counter()
        act()
        self.page.locator(f'figure img[alt*="{said}"]').wait_for(state="attached")
        print(f"{1000 * (time.perf_counter() - began):4.0f} ms until the page says: {said}")
        self.page.wait_for_function(SETTLED)
        return [one != other for one, other in zip(before, self.seen(), strict=True)]


SETTLED = """() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === "idle" &&
    [...document.querySelectorAll(".jupyter-widgets figure img")].every(image => image.complete)"""


def test_the_state_debugger(notebook, page):
    notebook("debugger.ipynb").run_all()
    print()
    view = Debugger(page)
    assert view.chips.count() == 512
    page.locator(".token-strip").scroll_into_view_if_needed()
    assert view.after(view.chips.nth(300).click, "head 0; token 300, ") == [True, True, False]
    first = view.seen()
    colours = [background(view.chips.nth(i)) for i in range(280, 301)]
    for token in (301, 302, 303):
        assert view.after(lambda: page.keyboard.press("ArrowRight"), f"head 0; token {token}, ") == [True, True, False]
    assert [background(view.chips.nth(i)) for i in range(280, 301)] != colours, "the text is coloured by the row"
    assert background(view.chips.nth(304)).endswith(", 0)"), "what comes later is not read"
    for token in (302, 301, 300):
        view.after(lambda: page.keyboard.press("ArrowLeft"), f"head 0; token {token}, ")
    assert view.seen() == first, "the same token is the same picture"

    assert view.after(lambda: view.pick("head", 3), "layer 0, head 3: ") == [True, True, True]
    page.get_by_text("Half-life of layer 0, head 3:").wait_for()
    assert view.after(lambda: view.pick("layer", 5), "layer 5, head 3: ") == [True, True, True]
    page.get_by_text("Half-life of layer 5, head 3:").wait_for()

    page.get_by_role("button", name="Lock this token").click()
    page.get_by_role("button", name="Token 300 is locked").wait_for()
    assert view.after(view.chips.nth(420).click, "head 3; token 420, ") == [True, True, False]
    page.get_by_text("locked: token 300, ").wait_for()
    marks = page.locator(".jupyter-widgets figure ~ i")
    assert marks.count() == 2
    chart = view.images.nth(2).bounding_box()
    for mark, token in zip(marks.all(), (420, 300), strict=True):
        left = mark.bounding_box()["x"] + 1 - chart["x"]
        assert left / chart["width"] == pytest.approx(across(token, 512), abs=0.003)
    for label in page.locator(".widget-label:visible, .jupyter-button:visible").all():
        assert label.evaluate("e => e.scrollWidth <= e.clientWidth"), f"{label.inner_text()!r} is cut off"
    page.set_viewport_size({"width": 1300, "height": 1700})  # all of it on one picture
    view.images.nth(2).scroll_into_view_if_needed()
    picture(page, "debugger_jupyterlab")


FIGURES = """begins => JSON.stringify(begins) === JSON.stringify(
    [...document.querySelectorAll(".jupyter-widgets figure img")].map(image => image.alt.split(" ")[0]))"""


def test_the_state_debugger_shows_what_each_kind_of_layer_has(notebook, page):
    notebook("hybrid.ipynb").run_all()
    view = Debugger(page)
    page.get_by_text("Layer 0 is Mamba-1:").wait_for()
    page.wait_for_function(FIGURES, arg=["The", "Bars:", "Bars"])  # film, rows and charts
    view.pick("channel", 63)
    page.get_by_text("numbers of channel 63 fades").wait_for()
    view.pick("layer", 2)
    page.get_by_text("Half-life of layer 2, head 3:").wait_for()
    page.locator('figure img[alt^="A dial for each of 16 pairs"]').wait_for(state="attached")
    page.wait_for_function(FIGURES, arg=["The", "Bars:", "A", "Bars"])
    view.chips.nth(40).click()
    page.get_by_role("button", name="Lock this token").click()
    view.chips.nth(11).click()
    page.locator('figure img[alt*="dashed, where it points at locked token 40"]').wait_for(state="attached")
    chart, figure = view.images.nth(3).bounding_box(), page.locator(".jupyter-widgets figure").nth(3).bounding_box()
    for mark in page.locator(".jupyter-widgets figure ~ i").all():
        line = mark.bounding_box()
        assert 0 < line["y"] - chart["y"] < 0.06 * chart["height"], "from the first chart"
        assert line["y"] + line["height"] < figure["y"] + 0.95 * figure["height"], "to the foot of the last one"
    for width in (1400, 1000):
        page.set_viewport_size({"width": width, "height": 1900})
        picture(page, f"debugger_mamba3_{width}")
    view.pick("layer", 3)
    page.get_by_text("Layer 3 is attention: head 3 looks back").wait_for()
    page.wait_for_function(FIGURES, arg=["Bars:"])
