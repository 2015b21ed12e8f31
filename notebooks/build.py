"""Write the notebooks from their sources, and check that the two belong together.

    python notebooks/build.py                  every notebook
    python notebooks/build.py 00_start_here    this one
    python notebooks/build.py --check          write nothing, say what is wrong

A notebook has two files. notebooks/source/NAME.py is its text, in jupytext's py:percent format: it is
edited and reviewed. notebooks/NAME.ipynb is what a reader opens: the same cells with their outputs. This
script runs the cells of the first from top to bottom and writes the second, without anything that would
differ from one run to the next for no reason (random cell ids, times, versions) or mean nothing on
another machine (widget state).
"""

import argparse
import hashlib
import os
import re
import sys
import time
from html.parser import HTMLParser
from math import inf
from pathlib import Path
from queue import Empty

import jupytext
import nbformat
from jupyter_client.channels import AsyncZMQSocketChannel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parent
CELL_TIMEOUT = 900  # seconds, for one cell
POLL_SECONDS = 0.25
LARGEST = 600_000  # bytes; beyond this a notebook opens and diffs slowly, and GitHub stops showing it
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STANDS_HERE = "(an interactive widget stands here when the notebook runs)"

# Where files lie on the machine that ran the notebook is of no use to a reader, and tells who ran it.
MACHINE_PATH = re.compile(
    r"(?:(?:site|dist)-packages|ipykernel_\d|[A-Za-z]:\\+Users\\"
    r"|(?<![\w.~-])/(?:home|Users|root|tmp|private|var/folders|mnt|workspace)/"
    rf"|{re.escape(str(NOTEBOOKS.parent))})[^\s\"'<>]*"
)
DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[\w+/=\n]+")
MARKDOWN_IMAGE_WITHOUT_ALT = re.compile(r"!\[\s*\]\(")


# Run


def poll_in_short_steps() -> None:
    """Cure a stall of nbclient: wait for a kernel's messages in short steps, never in one long wait.

    When a cell prints under an Output widget, nbclient answers the kernel on the very socket on which it
    waits for the cell's end. ZeroMQ announces a message once, as an edge; sending can swallow that edge,
    and the wait then sleeps on a message that already lies there. The cell seems to hang until its
    timeout (nbclient issue 312). That happened in 1 to 8 % of the cells that print under an Output
    widget, and in none of 1,200 once the waits were short, for each new wait looks at the socket before
    it sleeps.

    It changes jupyter_client for the whole process: neither nbclient nor nbmake lets one choose the channel.
    """
    wait_once = AsyncZMQSocketChannel.get_msg

    async def get_msg(self: AsyncZMQSocketChannel, timeout: float | None = None) -> dict:
        deadline = inf if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            try:
                return await wait_once(self, timeout=min(left, POLL_SECONDS))
            except Empty:
                if left <= POLL_SECONDS:
                    raise

    AsyncZMQSocketChannel.get_msg = get_msg


def run(notebook: NotebookNode, folder: Path) -> None:
    """Run every cell in place, in a fresh kernel whose working directory is `folder`."""
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,  # how printed text was cut into messages is chance
        record_timing=False,
    ).execute()


# Read, tidy, write


def read_source(source: Path) -> NotebookNode:
    """The cells of a py:percent source, without outputs."""
    notebook = jupytext.read(source, fmt="py:percent")
    for cell in notebook.cells:
        cell.metadata = kept_metadata(cell)
    name_cells(notebook)
    return notebook


def as_jupytext_writes(source: Path) -> str:
    """The text of a source in jupytext's own form, down to the blank lines between cells.

    JupyterLab refuses to open a notebook that is newer than its source and differs from it even so little.
    """
    filters = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all"}
    return jupytext.writes(read_source(source), {"extension": ".py", "format_name": "percent", **filters})


def kept_metadata(cell: NotebookNode) -> NotebookNode:
    """A cell's tags, the only metadata that the author writes."""
    return NotebookNode({key: value for key, value in cell.metadata.items() if key == "tags"})


def name_cells(notebook: NotebookNode) -> None:
    """Give each cell an id made from its text, so that an edited cell changes its own id and no other."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def tidy(notebook: NotebookNode) -> None:
    """Keep what a reader sees: cells, tags, outputs. A note stands for a widget, which needs its kernel."""
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        cell.metadata = kept_metadata(cell)
        for output in cell.get("outputs", []):
            if output.get("data", {}).pop(WIDGET_VIEW, None) and set(output.data) <= {"text/plain"}:
                output.data["text/plain"] = WIDGET_STANDS_HERE


def write_whole(text: str, path: Path) -> None:
    """Write under another name and rename, so that `path` never holds half a notebook."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def build(source: Path, path: Path) -> None:
    """Run `source` and write the notebook at `path`; an error in a cell leaves the old one as it was."""
    started = time.monotonic()
    write_whole(as_jupytext_writes(source), source)
    notebook = read_source(source)
    run(notebook, path.parent)
    tidy(notebook)
    write_whole(nbformat.writes(notebook) + "\n", path)
    size, seconds = path.stat().st_size, time.monotonic() - started
    print(f"{path.name}: {len(notebook.cells)} cells, {size / 1000:.0f} kB, {seconds:.1f} s", flush=True)


# Check


def check_all(folder: Path = NOTEBOOKS) -> list[str]:
    """Everything that is wrong with the notebooks in `folder` and their sources, a line each."""
    sources = {path.stem: path for path in sorted((folder / "source").glob("*.py"))}
    notebooks = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    problems = [] if sources else [f"no notebook sources in {folder / 'source'}"]
    for name in sorted(sources.keys() - notebooks):
        problems.append(f"source/{name}.py has no notebook {name}.ipynb: build it")
    for name in sorted(notebooks.keys() - sources):
        problems.append(f"{name}.ipynb has no source source/{name}.py")
    for name in sorted(sources.keys() & notebooks):
        problems += check(sources[name], notebooks[name])
    return problems


def check(source: Path, path: Path) -> list[str]:
    """Everything that is wrong with the notebook at `path`, written from `source`, a line each."""
    notebook = nbformat.read(path, as_version=4)
    problems = differences(read_source(source), notebook)
    if source.read_text(encoding="utf-8") != as_jupytext_writes(source):
        problems.append("its source is not in the form that jupytext writes, so JupyterLab may refuse it: build it")
    problems += leftovers(notebook)
    for number, cell in enumerate(notebook.cells, start=1):
        problems += [f"cell {number}: {problem}" for problem in cell_problems(cell)]
    size = path.stat().st_size
    if size > LARGEST:
        problems.append(f"{size:,} bytes, expected at most {LARGEST:,}")
    return [f"{path.name}: {problem}" for problem in problems]


def differences(source: NotebookNode, notebook: NotebookNode) -> list[str]:
    """Where the stored notebook is not the one its source describes."""
    if len(source.cells) != len(notebook.cells):
        return [f"{len(notebook.cells)} cells, expected {len(source.cells)} as in its source: build it again"]
    problems = []
    for number, (expected, found) in enumerate(zip(source.cells, notebook.cells, strict=True), start=1):
        if found.cell_type != expected.cell_type:
            problems.append(f"cell {number}: type {found.cell_type}, in its source {expected.cell_type}")
        if found.source != expected.source:
            problems.append(f"cell {number}: its text differs from its source: build it again")
        if found.metadata.get("tags", []) != expected.metadata.get("tags", []):
            problems.append(f"cell {number}: its tags differ from its source: build it again")
    return problems


def leftovers(notebook: NotebookNode) -> list[str]:
    """What running or saving a notebook leaves behind, and a build removes."""
    problems = []
    if "widgets" in notebook.metadata:
        problems.append("widget state is stored in its metadata")
    for number, cell in enumerate(notebook.cells, start=1):
        if stray := sorted(cell.metadata.keys() - {"tags"}):
            problems.append(f"cell {number}: metadata {', '.join(stray)}, expected none but tags")
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.get("outputs", [])):
            problems.append(f"cell {number}: a widget view is stored, which shows nothing without its kernel")
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source]
    if counts != list(range(1, len(counts) + 1)):
        problems.append("its code cells were not run once each from top to bottom: build it")
    return problems


def cell_problems(cell: NotebookNode) -> list[str]:
    """Errors, images that a screen reader cannot read, and paths of the machine that ran the cell."""
    problems = []
    if cell.cell_type == "markdown" and (
        MARKDOWN_IMAGE_WITHOUT_ALT.search(cell.source) or has_image_without_alt(cell.source)
    ):
        problems.append("an image without alt text")
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            problems.append(f"it ended in {output.ename}: {output.evalue}")
        if output_lacks_alt(output):
            problems.append("an image output without alt text")
        for found in MACHINE_PATH.findall(output_text(output)):
            problems.append(f"an output shows the path {found!r} of the machine that ran it")
    return problems


def output_text(output: NotebookNode) -> str:
    """What a reader can read in an output: its text, without images."""
    parts = [output.get("text", ""), *output.get("traceback", [])]
    parts += [str(data) for mime, data in output.get("data", {}).items() if not mime.startswith("image/")]
    return DATA_URI.sub("", "\n".join(parts))


def output_lacks_alt(output: NotebookNode) -> bool:
    """Whether an image lacks text: alt="..." in HTML, {mime: {"alt": "..."}} in the metadata elsewhere.

    An output that has HTML is judged by it alone, because that is what JupyterLab shows.
    """
    html = output.get("data", {}).get("text/html", "")
    if html:
        return has_image_without_alt(html)
    return any(
        not output.metadata.get(mime, {}).get("alt", "").strip()
        for mime in output.get("data", {})
        if mime.startswith("image/")
    )


def has_image_without_alt(html: str) -> bool:
    found = ImagesWithoutAlt()
    found.feed(html)
    return found.any


class ImagesWithoutAlt(HTMLParser):
    any = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img" and not (dict(attrs).get("alt") or "").strip():
            self.any = True


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks from their sources, or check them.")
    parser.add_argument("names", nargs="*", help="such as 00_start_here; without a name, every notebook")
    parser.add_argument("--check", action="store_true", help="write nothing, check every notebook")
    arguments = parser.parse_args()
    if arguments.check:
        problems = check_all()
        print("\n".join(problems) or "every notebook is as it should be")
        return 1 if problems else 0

    sources = {path.stem: path for path in sorted((NOTEBOOKS / "source").glob("*.py"))}
    names = [Path(name).stem for name in arguments.names] or list(sources)
    if unknown := [name for name in names if name not in sources]:
        parser.error(f"names: expected some of {', '.join(sources)}; found {', '.join(unknown)}")
    poll_in_short_steps()
    failed = False
    for name in names:
        try:
            build(sources[name], NOTEBOOKS / f"{name}.ipynb")
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{name}.ipynb: not written, because a cell failed\n{error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
