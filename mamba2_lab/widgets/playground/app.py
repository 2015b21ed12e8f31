"""The playground as a page of its own, without code: `make playground`, `python -m mamba2_lab.widgets.playground.app`.

Voilà serves it from this machine to this machine, and to nobody without the token in the address that it prints, as
JupyterLab does. Each page has a kernel of its own, which ends with it: when the page is left, loaded anew or closed,
and also when the browser is killed. Arguments go to Voilà: --no-browser, --theme=dark, --port=8900, --token=mine.
"""

from __future__ import annotations

import html
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import nbformat
import tornado.web
import zmq
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.httputil import url_concat
from tornado.ioloop import IOLoop
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler

CELL = """\
from ipywidgets import VBox

from mamba2_lab import keep_freed_memory
from mamba2_lab.widgets import Playground
from mamba2_lab.widgets.playground.kept_fields import KeptFields

keep_freed_memory()  # the kernel is the page's own
playground = Playground()
VBox([KeptFields(playground.controls), playground])
"""
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
RETURN_SECONDS = 1  # a page that is there opens a lost connection anew at once
UNSEEN_SECONDS = 60  # for a kernel whose page was closed before it had opened a connection


class PageKernels(AsyncMappingKernelManager):
    """Kernels that end soon after their page has closed its connection, however it came to that."""

    def notify_disconnect(self, kernel_id: str) -> None:
        super().notify_disconnect(kernel_id)
        IOLoop.current().call_later(RETURN_SECONDS, self._end_unless_seen, kernel_id)

    async def _end_unless_seen(self, kernel_id: str) -> None:
        if kernel_id in self and not self.kernel_model(kernel_id)["connections"]:
            await self.shutdown_kernel(kernel_id)


class PageHandler(TornadoVoilaHandler):
    """Gives out the page."""

    @tornado.web.authenticated
    async def get(self, path: str | None = None) -> None:
        asked = parse_qsl(self.request.query)
        if "token" in dict(asked):  # a cookie has taken its place, for an address may be seen
            self.redirect(url_concat(self.base_url, [pair for pair in asked if pair[0] != "token"]))
            return
        self.xsrf_token  # noqa: B018  # sets the cookie that the page shows when it takes its leave; else that is refused
        await super().get(path)


class PlaygroundServer(Voila):
    """Voilà with a token, and with kernels that end with their pages."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.auto_token = True

    def init_handlers(self) -> list[Any]:
        return [
            (pattern, PageHandler if handler is TornadoVoilaHandler else handler, *rest)
            for pattern, handler, *rest in super().init_handlers()
        ]

    def launch_browser(self) -> None:
        """Open the page by way of a file that no other user can read: everyone sees the arguments of a process."""
        address = f"{self.connection_url}?{urlencode({'token': self.identity_provider.token})}"
        path = Path(self.connection_dir) / "open.html"
        path.write_text(f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">', encoding="utf-8")
        try:
            browser = webbrowser.get(self.browser or None)
        except webbrowser.Error as error:
            self.log.warning("No browser was found (%s): open the address above yourself.", error)
            return
        options = {"new": self.webbrowser_open_new}
        threading.Thread(target=browser.open, args=[path.as_uri()], kwargs=options, daemon=True).start()


def main(arguments: list[str]) -> None:
    """Serve the page until the process is stopped. A port that is taken is passed over for the next one."""
    config = Config()
    config.VoilaConfiguration.multi_kernel_manager_class = PageKernels
    config.PageKernels.cull_idle_timeout = config.PageKernels.cull_interval = UNSEEN_SECONDS
    config.KernelManager.shutdown_wait_time = 0.2  # seconds: a kernel that writes ends when it is killed
    if zmq.has("curve"):  # or whoever listens on a kernel's ports would read all that it tells its page
        config.PageKernels.transport_encryption = "auto"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Playground.ipynb"  # its name is the title of the page
        nbformat.write(nbformat.v4.new_notebook(metadata=KERNEL, cells=[nbformat.v4.new_code_cell(CELL)]), path)
        PlaygroundServer.launch_instance(argv=[str(path), "--show_tracebacks=True", *arguments], config=config)


if __name__ == "__main__":
    main(sys.argv[1:])
