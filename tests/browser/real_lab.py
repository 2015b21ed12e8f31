"""JupyterLab and Voilà as a reader meets them, driven by Playwright in Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

# Chromium asks its maker for many things at start; none of them is wanted here.
ARGUMENTS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()
ARGUMENTS.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # nor what a page asks of the internet
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKEN = "lab"
START_SECONDS = 120  # a machine that does much else may take long; nothing is measured by it


def find_chromium() -> str | None:
    """The browser named by MAMBA2_LAB_CHROMIUM, or one on the PATH."""
    return os.environ.get("MAMBA2_LAB_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def private_environment(folder: Path) -> dict[str, str]:
    """Settings, workspaces and running servers of their own: nothing of the reader's Jupyter is read or changed."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    lab_names = ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    return {**os.environ, **{name: str(folder / name.lower()) for name in (*names, *lab_names)}, "MAMBA2_LAB_FAST": "1"}


def settings_for_tests(environment: dict[str, str], theme: str) -> None:
    """Every cell in the page, no news, no saving by itself."""
    chosen = {
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "apputils-extension/themes": {"theme": theme},
        "docmanager-extension/plugin": {"autosave": False},
    }
    for name, values in chosen.items():
        path = Path(environment["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")


@contextmanager
def serving(command: list[str], url: str, environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen]:
    """Run a server until the block ends; yield it as soon as it answers. What it prints goes into `server.log`."""
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_for(url, server, folder / "server.log")
            yield server
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=30).close()
            return
        except urllib.error.HTTPError:
            return  # it answers, if only that there is no such page
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no answer at {url}: {error}\n{log.read_text()[-3000:]}") from error
            time.sleep(0.2)


@contextmanager
def jupyterlab(root: Path, folder: Path, theme: str = "JupyterLab Light") -> Iterator[str]:
    """JupyterLab over the notebooks in `root`; yields its address."""
    environment, port = private_environment(folder), free_port()
    settings_for_tests(environment, theme)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}", "--allow-root"]
    command += [f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={TOKEN}"]
    command += ["--LabApp.expose_app_in_browser=True"]  # or a script could not ask for its commands
    with serving(command, f"http://127.0.0.1:{port}/api?token={TOKEN}", environment, folder):
        yield f"http://127.0.0.1:{port}/lab?token={TOKEN}&reset"


@contextmanager
def make_lab(repository: Path, course: Path, folder: Path) -> Iterator[str]:
    """What `make lab` opens, with the reader's copies in `course`; yields its address."""
    environment, port = private_environment(folder), free_port()
    settings_for_tests(environment, "JupyterLab Light")
    options = f"--no-browser --ServerApp.port={port} --IdentityProvider.token={TOKEN}"
    options += " --LabApp.expose_app_in_browser=True"
    command = ["make", "-C", str(repository), "-o", ".venv/lab-installed", "lab"]  # with what is installed
    command += [f"COURSE={course}", f"LAB_ARGS={options}"]
    with serving(command, f"http://127.0.0.1:{port}/api?token={TOKEN}", environment, folder):
        yield f"http://127.0.0.1:{port}/lab?token={TOKEN}&reset"


class Watch:
    """What a page did that it should not: requests to the internet, which are blocked, and errors of scripts."""

    def __init__(self, page: Page) -> None:
        self.outside: list[str] = []
        self.errors: list[str] = []
        page.route(re.compile(r"^(?!(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:)"), self._block)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def _block(self, route: Route) -> None:
        self.outside.append(route.request.url)
        route.abort()


class Notebook:
    """One notebook, open in JupyterLab."""

    def __init__(self, page: Page, lab: str, name: str) -> None:
        self.page = page
        page.goto(lab)
        page.wait_for_function("window.jupyterapp !== undefined", timeout=1000 * START_SECONDS)
        page.evaluate("window.jupyterapp.restored")
        self._command("docmanager:open", {"path": name})
        page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell")
        page.evaluate("window.jupyterapp.shell.collapseLeft()")
        self._idle()

    def run_to(self, number: int) -> None:
        """Run its first cells, up to this one, and wait until they are done."""
        self.page.evaluate("i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", number + 1)
        self._command("notebook:run-all-above")
        self._idle()

    def run_all(self, timeout: float = 600) -> None:
        """Run every cell, and wait until the kernel has nothing to do."""
        self._command("notebook:run-all-cells", timeout=timeout)
        self._idle()

    def cell(self, text: str) -> int:
        """The number of the one cell that has this in its source."""
        found = self.page.evaluate(
            """text => window.jupyterapp.shell.currentWidget.content.widgets
                .flatMap((cell, i) => cell.model.sharedModel.getSource().includes(text) ? [i] : [])""",
            text,
        )
        assert len(found) == 1, f"{len(found)} cells have {text!r}"
        return found[0]

    def run(self, number: int, source: str | None = None) -> None:
        """Run a cell, with other source if that is given, and wait until it is done."""
        self.page.evaluate(
            """([number, source]) => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = number;
                if (source !== null) notebook.activeCell.model.sharedModel.setSource(source);
            }""",
            [number, source],
        )
        self._command("notebook:run-cell")
        self._idle()

    def source(self, number: int) -> str:
        """What stands in a cell."""
        script = "i => window.jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel.getSource()"
        return self.page.evaluate(script, number)

    def output(self, number: int) -> Locator:
        """What a cell shows below its source."""
        cell = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").nth(number)
        return cell.locator(".jp-OutputArea-output")

    def restart(self) -> None:
        """A new kernel, which knows nothing."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self._idle()

    def save(self) -> None:
        """Write it into its file, outputs and all."""
        self._command("docmanager:save")

    def _command(self, name: str, arguments: dict | None = None, timeout: float = 60) -> None:
        self.page.set_default_timeout(1000 * timeout)
        self.page.evaluate(
            "([name, arguments]) => window.jupyterapp.commands.execute(name, arguments).then(() => null)",
            [name, arguments or {}],
        )

    def _idle(self) -> None:
        self.page.wait_for_function(
            """() => {
                const kernel = window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
                const prompts = [...document.querySelectorAll(".jp-InputPrompt")];
                const waiting = prompts.some(prompt => prompt.textContent.includes("*"));
                return kernel?.status === "idle" && !waiting;
            }""",
            timeout=1000 * START_SECONDS,
        )

    def errors(self) -> list[str]:
        """What cells have ended in, and what was printed as an error."""
        kinds = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
        return self.page.locator(kinds).all_inner_texts()

    def shut_down(self) -> None:
        """End its kernel."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def log(self) -> list[str]:
        """JupyterLab's Log Console, where exceptions in callbacks and threads would hide."""
        self._command("logconsole:open", {"source": None})
        self.page.wait_for_selector(".jp-LogConsolePanel")
        return self.page.locator(".jp-LogConsolePanel .jp-OutputArea-output").all_inner_texts()


def picture(page: Page, name: str) -> None:
    """Keep a picture of the page if MAMBA2_LAB_SCREENSHOTS names a folder."""
    if folder := os.environ.get("MAMBA2_LAB_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
