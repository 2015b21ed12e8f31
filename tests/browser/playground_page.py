"""A playground in a page, of JupyterLab or by itself: what a reader does with it."""

from __future__ import annotations

import re
import time

from browser.real_lab import picture

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

    def fields(self, name: str):
        return self.page.locator(f'.widget-label:text-is("{name}") + input')

    def fill(self, name: str, value: object, column: int = 0) -> None:
        field = self.fields(name).nth(column)
        field.fill(str(value))
        field.press("Tab")

    def values(self, name: str) -> list[str]:
        return [field.input_value() for field in self.fields(name).all()]

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

    found.fill("new tokens", "2.5")
    found.press("Generate")
    page.get_by_role("alert").filter(has_text="new tokens must be a whole number; got 2.5").wait_for()

    found.fill("new tokens", 5)
    # At once: Playwright's `fill` types line by line, which takes minutes.
    page.get_by_label("prompt").evaluate(
        "(field, text) => { field.value = text; field.dispatchEvent(new Event('input', { bubbles: true })); }",
        "def area(radius):\n    return 3.14 * radius ** 2\n" * 3000,
    )
    found.press("Generate")
    page.get_by_text(re.compile(r"Reading the prompt with \w+, \d+%")).wait_for()
    found.press("Stop")
    page.get_by_text("Stopped while the prompt was read").wait_for()
    in_kernel = int(re.search(r"took (\d+) ms to stop", found.status.inner_text())[1])
    print(f"{name}: stopped reading in {in_kernel} ms in the kernel")
    assert in_kernel <= STOP_MILLISECONDS
