"""A Hub of one's own: it speaks the Hugging Face Hub's protocol to the real `huggingface_hub` client, on this machine.

    hub = HubServer()                                     HF_ENDPOINT is hub.url
    commit = hub.put("owner/name", folder)                or a dictionary {"config.json": b"..."}
    hub.cut_after["model.safetensors"] = [1000]           the connection is cut once, after so many bytes
    hub.asked("GET")                                      which files were asked for, in order

Large files (by their suffix: the Hub calls them LFS) are redirected to a "CDN" under another host name, as they are
there. Which requests and headers the client uses is read from its source: file_download.py, hf_api.py, lfs.py,
_commit_api.py and utils/_http.py of huggingface_hub.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf", ".h5", ".msgpack")
TOKEN = "hf_a_token_of_the_tests"
Files = dict[str, bytes]


@dataclass
class Repository:
    """What lies under one id: the files of each commit, and what each branch or tag stands for."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def at(self, revision: str) -> tuple[str, Files] | None:
        commit = self.refs.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


@dataclass(frozen=True)
class Request:
    """One request as it came. file: of a repository, wherever its bytes were asked for."""

    method: str
    host: str
    path: str
    file: str | None
    range: str | None
    token: str | None
    sent: int  # bytes of the body that were sent


class HubServer:
    """Repositories, and what goes wrong with them."""

    def __init__(self) -> None:
        self._port = 0
        self.empty()
        self.start()

    def empty(self) -> None:
        """No repository, no request, and nothing goes wrong."""
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.objects: dict[str, bytes] = {}  # large files, by their SHA-256
        self.cut_after: dict[str, list[int]] = {}  # by file: after how many bytes each next answer is cut
        self.gone: set[str] = set()  # files that are listed, and are not there
        self.sizes: dict[str, int] = {}  # by file: a size that is not its own
        self.etags: dict[str, str] = {}  # by file: an etag that is not its own
        self.damaged: set[str] = set()  # files that do not come as they were put there
        self.listed: list[str] = []  # names that a listing holds besides
        self.without_ranges = False  # whole files are sent, whatever range was asked for
        self.refused_uploads: set[str] = set()  # large files that cannot be stored, by their SHA-256

    def start(self) -> None:
        """Be there, at the same place as before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self._port = self._server.server_port
        self.url, self.cdn = f"http://127.0.0.1:{self._port}", f"http://localhost:{self._port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Refuse every connection."""
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def offline(self) -> Iterator[None]:
        """As long as this lasts, nobody is there."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def put(self, hub_id: str, files: Path | Mapping[str, bytes], revision: str = "main", **of: bool) -> str:
        """A commit that holds these files and no others: its hash. `of`: private, gated."""
        if isinstance(files, Path):
            paths = [path for path in files.rglob("*") if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        repository = self.repositories.setdefault(hub_id, Repository())
        listed = "".join(f"{git_hash(content)} {name}\n" for name, content in sorted(files.items()))
        commit = hashlib.sha1(listed.encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.refs[revision] = commit
        for name, value in of.items():
            setattr(repository, name, value)
        return commit

    def files(self, hub_id: str) -> Files:
        """What lies there now."""
        repository = self.repositories[hub_id]
        return repository.commits[repository.refs["main"]]

    def asked(self, method: str = "GET") -> list[str]:
        """The files whose bytes ("GET") or headers ("HEAD") were asked for; a redirected one counts once."""
        found = [request for request in self.requests if request.method == method and request.file is not None]
        return [request.file for request in found if request.file and (method == "HEAD" or request.sent)]


def as_the_hub() -> HubServer:
    """A server that the client takes for the Hub in this process, with a cache of its own.

    The client reads its environment when it is imported, so this comes before. Programs that the tests start have the
    same Hub. Xet, the other protocol for large files, is told to stay out.
    """
    hub = HubServer()
    os.environ |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": tempfile.mkdtemp(prefix="hf-home-"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.pop(name, None)
    return hub


def is_large(name: str) -> bool:
    return name.endswith(LARGE)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """One request. Connections are closed after each, so that a server that stops is gone at once."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what matters."""

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined]

    def _answer(self) -> None:
        self.file: str | None = None
        self.sent = 0
        self.body = self._read_body()
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        try:
            for pattern, respond in _ROUTES:
                if found := re.fullmatch(pattern, f"{self.command} {url.path}"):
                    respond(self, *map(unquote, found.groups("main")))  # the revision, where none is named
                    return
            self._error(404, "no such place here")
        finally:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
            asked = (self.command, self.headers["Host"], self.path, self.file, self.headers.get("Range"), token)
            self.hub.requests.append(Request(*asked, self.sent))

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    # Reading

    def info(self, hub_id: str, revision: str) -> None:
        if (found := self._found(hub_id, revision, listing=True)) is None:
            return
        commit, files = found
        siblings = [{"rfilename": name} for name in [*files, *self.hub.listed]]
        if self.query.get("blobs"):
            siblings = [{"rfilename": file["path"], "blobId": file["oid"], **file} for file in self._listing(files)]
            for file in siblings:
                if "lfs" in file:
                    file["lfs"] = {**file["lfs"], "sha256": file["lfs"]["oid"]}
        private = self.hub.repositories[hub_id].private
        self._json({"id": hub_id, "modelId": hub_id, "private": private, "sha": commit, "siblings": siblings})

    def tree(self, hub_id: str, revision: str) -> None:
        if (found := self._found(hub_id, revision, listing=True)) is not None:
            self._json([{"type": "file", **file} for file in self._listing(found[1])])

    def _listing(self, files: Files) -> list[dict[str, Any]]:
        listing = []
        for name, content in {**files, **dict.fromkeys(self.hub.listed, b"")}.items():
            size = self.hub.sizes.get(name, len(content))
            file: dict[str, Any] = {"path": name, "size": size, "oid": git_hash(content)}
            if is_large(name):
                file["lfs"] = {"oid": sha256(content), "size": size, "pointerSize": 130}
            listing.append(file)
        return listing

    def resolve(self, hub_id: str, revision: str, name: str) -> None:
        if (found := self._found(hub_id, revision)) is None:
            return
        commit, files = found
        self.file = name
        if name not in files or name in self.hub.gone:
            self._error(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit})
            return
        content = files[name]
        size = self.hub.sizes.get(name, len(content))
        etag = self.hub.etags.get(name, sha256(content) if is_large(name) else git_hash(content))
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if is_large(name):
            self.hub.objects[sha256(content)] = content
            location = f"{self.hub.cdn}/cdn/{sha256(content)}/{quote(name, safe='')}"
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size)}
            self._send(302, b"", {**headers, **linked, "ETag": '"of the redirect"', "Location": location})
        else:
            self._content(content, headers)

    def cdn(self, digest: str, name: str) -> None:
        self.file = name
        content = self.hub.objects[digest]
        content = content[:-1] + bytes([content[-1] ^ 1]) if name in self.hub.damaged else content
        self._content(content, {"ETag": '"of the CDN"', "Accept-Ranges": "bytes"})

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        if (asked := self.headers.get("Range")) is None or self.hub.without_ranges:
            self._send(200, content, headers)
            return
        first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
        if first >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            whole = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self._send(206, content[first:], {**headers, "Content-Range": whole})

    def _found(self, hub_id: str, revision: str, listing: bool = False) -> tuple[str, Files] | None:
        """The commit and its files, unless an error was the answer. A gated repository shows its listing to all."""
        repository = self.hub.repositories.get(hub_id)
        known = self._is_known()
        if repository is None or (repository.private and not known):
            self._error(404 if known else 401, "Repository not found", "RepoNotFound")
        elif repository.gated and not listing:
            reason = f"Access to model {hub_id} is restricted. You must have access to it and be authenticated"
            self._error(403 if known else 401, reason, "GatedRepo")
        elif (found := repository.at(revision)) is None:
            self._error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        else:
            return found
        return None

    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    # Writing

    def who(self) -> None:
        if self._may_write():
            self._json({"type": "user", "name": "owner", "fullname": "An owner", "orgs": []})

    def create(self) -> None:
        if not self._may_write():
            return
        asked = json.loads(self.body)
        hub_id = f"{asked.get('organization') or 'owner'}/{asked['name']}"
        if hub_id in self.hub.repositories:
            self._json({"url": f"{self.hub.url}/{hub_id}", "error": "You already created this model repo"}, 409)
            return
        self.hub.put(hub_id, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.hub.repositories[hub_id].private = asked.get("private") or asked.get("visibility") == "private"
        self._json({"url": f"{self.hub.url}/{hub_id}"})

    def validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def preupload(self, hub_id: str, revision: str) -> None:
        if not self._may_write() or (found := self._found(hub_id, revision)) is None:
            return
        names = [file["path"] for file in json.loads(self.body)["files"]]
        modes = [{"path": name, "uploadMode": "lfs" if is_large(name) else "regular"} for name in names]
        there = {file["path"]: file.get("lfs", file)["oid"] for file in self._listing(found[1])}
        self._json({"files": [{**mode, "shouldIgnore": False, "oid": there.get(mode["path"])} for mode in modes]})

    def batch(self, hub_id: str) -> None:
        if not self._may_write():
            return
        wanted = json.loads(self.body)["objects"]
        actions = [{"upload": {"href": f"{self.hub.cdn}/lfs/{file['oid']}"}} for file in wanted]
        objects = [{**file, "actions": action} for file, action in zip(wanted, actions, strict=True)]
        self._json({"transfer": "basic", "objects": objects})

    def store(self, digest: str) -> None:
        if digest in self.hub.refused_uploads or sha256(self.body) != digest:
            self._error(403, "the storage is full")
            return
        self.hub.objects[digest] = self.body
        self._json({})

    def commit(self, hub_id: str, revision: str) -> None:
        if not self._may_write() or (found := self._found(hub_id, revision)) is None:
            return
        files = dict(found[1])
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        oid = self.hub.put(hub_id, files)
        self._json({"commitUrl": f"{self.hub.url}/{hub_id}/commit/{oid}", "commitOid": oid})

    def _may_write(self) -> bool:
        if not self._is_known():
            self._error(401, "Invalid username or password.")
        return self._is_known()

    # Sending

    def _json(self, answer: object, status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        said = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {"Content-Type": "application/json", **said}, counted=False)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], counted: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if status in (200, 206) and self.file is not None and (cuts := self.hub.cut_after.get(self.file)):
            body = body[: cuts.pop(0)]
        with contextlib.suppress(ConnectionError):  # the client has gone: nobody to tell
            self.wfile.write(body)
        self.sent = len(body) if counted else 0


_ID, _REVISION = r"([\w.-]+/[\w.-]+)", r"([^/]+)"
_ROUTES = [
    (rf"GET /api/models/{_ID}(?:/revision/{_REVISION})?", _Handler.info),
    (rf"GET /api/models/{_ID}/tree/{_REVISION}", _Handler.tree),
    (rf"(?:GET|HEAD) /{_ID}/resolve/{_REVISION}/(.+)", _Handler.resolve),
    (r"GET /cdn/(\w+)/(.+)", _Handler.cdn),
    (r"GET /api/whoami-v2", _Handler.who),
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"POST /api/models/{_ID}/preupload/{_REVISION}", _Handler.preupload),
    (rf"POST /{_ID}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /lfs/(\w+)", _Handler.store),
    (rf"POST /api/models/{_ID}/commit/{_REVISION}", _Handler.commit),
]
