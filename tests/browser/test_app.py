"""The playground as a page of its own: who may see it, what outlives a reload, and what ends with the page."""

from __future__ import annotations

import http.client
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import zmq
from browser.playground_page import PATIENCE, InPage, use
from browser.real_lab import ARGUMENTS, free_port, private_environment, serving

SOON = 5  # seconds


class App(NamedTuple):
    """The server of the page; each child of its process is a kernel."""

    port: int
    token: str
    process: psutil.Process
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def open(self, page) -> InPage:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{self.address}?token={self.token}")
        return InPage(page)

    def kernel(self) -> psutil.Process:
        """The only one."""
        (kernel,) = self.process.children()
        return kernel

    def answer(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        """What a stranger is told: the status, and where else to go."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers=headers)
        with connection.getresponse() as response:
            return response.status, response.headers.get("Location", "")


def seconds_until_gone(kernel: psutil.Process) -> float:
    began = time.perf_counter()
    kernel.wait(timeout=PATIENCE / 1000)
    took = time.perf_counter() - began
    print(f"\nthe kernel was gone after {took:.2f} s")
    return took


def write_without_end(found: InPage) -> None:
    found.fill("new tokens", 100_000)
    found.press("Generate")
    found.wait_for_chips(5)


@pytest.fixture(scope="module")
def app(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder, port = tmp_path_factory.mktemp("app"), free_port()
    command = [sys.executable, "-m", "mamba2_lab.widgets.playground.app", "--no-browser", f"--port={port}"]
    with serving(command, f"http://127.0.0.1:{port}/login", private_environment(folder), folder) as server:
        printed = re.search(rf":{port}/\?token=(\w+)", (folder / "server.log").read_text())
        assert printed is not None
        yield App(port, printed[1], psutil.Process(server.pid), folder / "server.log")


def test_everything_that_a_playground_is_for(app: App, page) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{app.address}?token={app.token}")
    assert page.url == app.address, "the token is not left in the address"
    use(page, "playground_app")
    # Voilà's page asks a CDN for icons, which it does without here; nothing of ours asks for anything.
    assert all("fontawesome" in url or "font-awesome" in url for url in page.watch.outside), page.watch.outside
    # Nor is it ours that Voilà fails to load parts of JupyterLab's extensions, which it does not need either.
    not_ours = re.compile("ERR_FAILED|getter for the shared module is not a function")
    assert [error for error in page.watch.errors if not not_ours.search(error)] == []

    page.get_by_text("History").click()
    with page.expect_download() as download:
        page.get_by_text("playground.txt").click()
    assert "def area(radius)" in Path(download.value.path()).read_text(encoding="utf-8")
    page.get_by_role("button", name="Reset", exact=True).click()
    page.get_by_text("The text and its state are gone").wait_for()  # saving a file does not leave the page

    page.set_viewport_size({"width": 420, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    sliders = page.get_by_role("slider").all()
    assert len(sliders) == 8, "four for each of two columns"
    for slider in sliders:
        # The handle moves along it.
        track = slider.locator("xpath=ancestor::div[contains(@class, 'noUi-target')]").bounding_box()
        assert track["x"] >= 0 and track["width"] > 80 and track["x"] + track["width"] < 420

    kernel = app.kernel()
    page.close()
    assert seconds_until_gone(kernel) < SOON


def test_a_page_that_is_left_ends_its_kernel_at_once_and_fields_outlive_it(app: App, free_page) -> None:
    page = free_page
    found = app.open(page)
    first = app.kernel()
    page.get_by_label("prompt").fill("import os\n\n# naïve")
    found.fill("seed", 7)
    page.get_by_label("compare two settings, same seed").check()
    found.fill("top-k", 5)
    found.fill("top-k", 9, column=1)
    page.get_by_label("model").select_option("small")
    page.get_by_text("small is ready on").wait_for()
    write_without_end(found)
    page.reload(wait_until="commit")
    assert seconds_until_gone(first) < SOON

    page.get_by_text("small is ready on").wait_for()
    second = app.kernel()
    assert second != first
    assert page.get_by_label("prompt").input_value() == "import os\n\n# naïve"
    assert page.get_by_label("compare two settings, same seed").is_checked()
    fields = {
        name: page.locator(f'.widget-label:text-is("{name}") + input') for name in ("seed", "top-k", "new tokens")
    }
    assert [field.input_value() for field in fields["top-k"].all()] == ["5", "9"]
    assert (fields["seed"].input_value(), fields["new tokens"].input_value()) == ("7", "100000")
    found.press("Generate")
    found.wait_for_chips(5)
    assert page.locator(".token-strip-lead").first.inner_text() == "import os\n\n# naïve"

    page.goto("about:blank")
    assert seconds_until_gone(second) < SOON
    page.go_back()
    page.get_by_text("small is ready on").wait_for()
    assert page.get_by_label("prompt").input_value() == "import os\n\n# naïve"
    third = app.kernel()
    page.close(run_before_unload=True)
    assert seconds_until_gone(third) < SOON
    assert "403 POST" not in app.log.read_text(encoding="utf-8"), "what the page says when it is left was refused"


def test_a_browser_that_is_killed_leaves_no_kernel(app: App, chromium: str, browser, tmp_path: Path) -> None:
    context = browser.browser_type.launch_persistent_context(tmp_path, executable_path=chromium, args=ARGUMENTS)
    write_without_end(app.open(context.new_page()))
    kernel = app.kernel()
    assert kernel.cpu_percent(0.5) > 20, "it writes"
    for process in psutil.process_iter(["cmdline"]):
        if f"--user-data-dir={tmp_path}" in (process.info["cmdline"] or []):
            process.kill()
    assert seconds_until_gone(kernel) < SOON


def test_who_has_no_token_gets_nothing(app: App, page) -> None:
    assert app.answer("GET", "/") == (302, "/login?next=%2F")
    assert app.answer("GET", "/?token=guessed")[1].startswith("/login")
    assert app.process.children() == [], "no kernel was started"

    addresses = []
    page.on("websocket", lambda socket: addresses.append(socket.url))
    write_without_end(app.open(page))
    kernel = re.search(r"/api/kernels/([\w-]+)/channels", addresses[0])[1]
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert app.answer("GET", f"/api/kernels/{kernel}/channels", **upgrade, **key)[0] == 403
    assert app.answer("GET", f"/api/kernels/{kernel}")[0] == 403
    assert app.answer("DELETE", f"/api/kernels/{kernel}")[0] == 403
    assert app.answer("POST", f"/voila/api/shutdown/{kernel}")[0] == 403
    assert app.kernel().is_running()
    assert overheard(app.kernel(), seconds=1) == []


def overheard(kernel: psutil.Process, seconds: float) -> list[bytes]:
    """What anyone on this machine can hear of what a kernel tells its page."""
    with zmq.Context() as context, context.socket(zmq.SUB) as listener:
        listener.subscribe("")
        for connection in kernel.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                listener.connect(f"tcp://127.0.0.1:{connection.laddr.port}")
        return listener.recv_multipart() if listener.poll(1000 * seconds) else []
