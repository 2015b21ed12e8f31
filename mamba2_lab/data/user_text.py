"""A reader's own text as a corpus: one file, or a folder of them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

from mamba2_lab.checks import Refusal, require
from mamba2_lab.data.python_source import MAX_BYTES, Corpus, Document, by_hash, collect


def text_files(path: str | Path, pattern: str = "*", max_bytes: int = MAX_BYTES) -> Corpus:
    """The text of a file, or of the files of a folder and those below it; hidden ones are left out.

    Text is UTF-8, or UTF-16 where the file begins with the mark that says so (Windows writes it); line ends become \\n.
    Other files, and any larger than max_bytes, are listed under `unreadable`. Of a folder with more than max_bytes only
    that much is read: files are taken in the order of a hash of their names, a fair sample.

    One file in twenty is held out, by the rule of `standard_library`. Where that leaves one side empty (a single file,
    or a few) the last twentieth of each file is held out instead, from a line break on if there is one nearby.

    Args:
        path: a file or a folder.
        pattern: which files of a folder, "*.md" say.
        max_bytes: of all documents together.

    Raises:
        FileNotFoundError: if there is nothing at path.
        ValueError: if no text is found there.
    """
    path = Path(path).expanduser()
    _require_there(path)
    files = _files_below(path, pattern) if path.is_dir() else {path.name: path}
    corpus = collect(by_hash(files), lambda file: read_text_file(file, max_bytes), max_bytes)
    documents = corpus.train + corpus.held_out
    other = f", and not only such files as {', '.join(corpus.unreadable[:5])}" if corpus.unreadable else ""
    kind = f"text in UTF-8 or marked UTF-16, at most {max_bytes} bytes a file"
    require(bool(documents), "path", f"a file or a folder that holds {kind}{other}", str(path))
    if corpus.train and corpus.held_out:
        return corpus
    return _hold_out_ends(documents, corpus.unreadable)


def files_at(paths: Iterable[str | Path], pattern: str = "*") -> dict[str, Path]:
    """The files that `text_files` would read at each path, one after another, by the path that finds them; each once,
    however many ways lead there. None is opened.

    Raises:
        FileNotFoundError: if there is nothing at a path.
    """
    found: dict[Path, tuple[str, Path]] = {}
    for path in (Path(path).expanduser() for path in paths):
        _require_there(path)
        below = sorted(_files_below(path, pattern).values()) if path.is_dir() else [path]
        for file in below:
            found.setdefault(file.resolve(), (file.as_posix(), file))
    return dict(found.values())


def _require_there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(Refusal("path", "a file or a folder that is there", str(path)))


def _files_below(folder: Path, pattern: str) -> dict[str, Path]:
    named = ((path.relative_to(folder), path) for path in folder.rglob(pattern) if path.is_file())
    return {name.as_posix(): path for name, path in named if not any(part.startswith(".") for part in name.parts)}


def read_text_file(path: Path, max_bytes: int = MAX_BYTES) -> str | None:
    """The text of a file, as `text_files` says; None if it is too large, in another encoding, or no text."""
    try:
        if path.stat().st_size > max_bytes:
            return None
        content = path.read_bytes()
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\0" in text else text.replace("\r\n", "\n").replace("\r", "\n")


def _hold_out_ends(documents: tuple[Document, ...], unreadable: tuple[str, ...]) -> Corpus:
    """Each document without its last twentieth, and that twentieth."""
    cuts = [(document, _cut(document.text)) for document in documents]
    train = tuple(Document(document.name, document.text[:cut]) for document, cut in cuts if cut)
    held_out = tuple(Document(f"{document.name} (end)", document.text[cut:]) for document, cut in cuts)
    return Corpus(train, held_out, unreadable)


def _cut(text: str) -> int:
    """Where the last twentieth begins: after a line break in the twentieth before, else to the character."""
    before, end = len(text) * 18 // 20, len(text) * 19 // 20
    return text.rfind("\n", before, end) + 1 or end
