"""The Hugging Face Hub, asked for a repository by its id: "owner/name", or "owner/name@revision".

All that touches the network is here, and goes through `huggingface_hub`: its cache (HF_HOME), its server (HF_ENDPOINT),
its token (`hf auth login`), its way to stay offline (HF_HUB_OFFLINE).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from mamba2_lab.checks import require
from mamba2_lab.machine.files import free_bytes
from mamba2_lab.words import in_bytes

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

Choice = Callable[[Collection[str]], Collection[str]]  # of all files of a repository, those that are needed


def fetch(hub_id: str, what: str, choose: Choice) -> Path:
    """The folder where the chosen files of a repository lie, downloaded now or before.

    What the cache has is not asked for again. Where the Hub cannot be reached, the cache has to do.

    Args:
        what: is looked for there, as errors call it.
        choose: which files are needed. It may raise FileNotFoundError for what is missing, before anything is fetched.

    Raises:
        FileNotFoundError: if there is no such repository, revision or file, it is gated, or the Hub cannot be reached.
        OSError: if the disk of the cache has no room for it, or the download breaks off.
    """
    from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
    from huggingface_hub.file_download import are_symlinks_supported

    name, _, revision = hub_id.partition("@")
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    try:
        with _explained(hub_id, what):
            listing = HfApi().model_info(name, revision=revision or None, files_metadata=True, timeout=timeout)
    except FileNotFoundError:
        raise
    except OSError as error:  # the Hub did not say no: it said nothing
        return _cached(hub_id, what, choose, error.__cause__ or error)
    files = {file.rfilename: file for file in listing.siblings or []}
    chosen = list(choose(files.keys()))
    known = [try_to_load_from_cache(name, file, revision=listing.sha) for file in chosen]
    missing = [files[file] for file, path in zip(chosen, known, strict=True) if not isinstance(path, str)]
    _require_room(hub_id, sum(_left(name, file) for file in missing))
    with _explained(hub_id, what):
        if are_symlinks_supported(constants.HF_HUB_CACHE):  # or the client would copy what it finds in the cache
            for file in filter(_is_large, missing):
                _download(name, file, str(listing.sha))
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=chosen, tqdm_class=_NoBar))


def _cached(hub_id: str, what: str, choose: Choice, why: BaseException) -> Path:
    """What was downloaded before, if that is enough."""
    from huggingface_hub import constants, errors, snapshot_download

    name, _, revision = hub_id.partition("@")
    unreachable = f"the Hub cannot be reached ({_said_by(why)})"
    try:
        found = snapshot_download(name, revision=revision or None, allow_patterns=[], local_files_only=True)
    except errors.LocalEntryNotFoundError:
        nowhere = f"no such folder, not in the cache at {constants.HF_HUB_CACHE}"
        raise FileNotFoundError(f"no {what} at {hub_id!r}: {nowhere}, and {unreachable}") from why
    try:
        choose({path.name for path in Path(found).iterdir()})
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; the cache has only a part of it, and {unreachable}") from why
    return Path(found)


def _require_room(hub_id: str, needed: int) -> None:
    """OSError unless the disk of the cache has it."""
    from huggingface_hub import constants

    if needed > (free := free_bytes(constants.HF_HUB_CACHE)):
        raise OSError(
            f"{hub_id} needs {in_bytes(needed)} on the disk of {constants.HF_HUB_CACHE}, where {in_bytes(free)} are "
            "free: make room, or set HF_HOME to a folder on another disk"
        )


def _left(name: str, file: RepoSibling) -> int:
    """How many bytes of a file are still to come."""
    size = file.size or 0
    if not _is_large(file):
        return size
    blob, part, _ = _paths(name, file)
    there = next((path.stat().st_size for path in (blob, part) if path.exists()), 0)
    return max(0, size - there)


def _is_large(file: RepoSibling) -> bool:
    """Whether the Hub keeps it apart, under its SHA-256."""
    return file.lfs is not None and re.fullmatch(r"[0-9a-f]{64}", file.lfs.sha256) is not None


def _paths(name: str, file: RepoSibling) -> tuple[Path, Path, Path]:
    """Of a large file in the client's cache: where it belongs, where it grows, and the lock that guards it."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    assert file.lfs is not None
    cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=name, repo_type="model")
    blob = cache / folder / "blobs" / file.lfs.sha256
    return blob, blob.with_name(f"{blob.name}.incomplete"), cache / ".locks" / folder / f"{blob.name}.lock"


def _download(name: str, file: RepoSibling, commit: str) -> None:
    """Put a large file into the cache, from where the last attempt ended; `snapshot_download` then finds it there.

    The client itself goes on only while a download lasts: what was there of a file when the program ended, it drops.
    This is plain HTTP, as the client uses where Xet is not installed.
    """
    from huggingface_hub import file_download as client
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]  # handed on unsaid

    assert file.lfs is not None
    blob, part, lock = _paths(name, file)
    for path in (part, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():  # another program was faster
            return
        with part.open("ab") as growing:
            if growing.tell() > file.lfs.size:
                growing.seek(0)
                growing.truncate()
            client.http_get(
                client.hf_hub_url(name, file.rfilename, revision=commit),
                growing,
                resume_size=growing.tell(),
                headers=build_hf_headers(),
                expected_size=file.lfs.size,
                displayed_filename=file.rfilename,
            )
        with part.open("rb") as whole:
            digest = hashlib.file_digest(whole, "sha256").hexdigest()
        if digest != file.lfs.sha256:
            part.unlink()
            raise OSError(
                f"{file.rfilename} came with SHA-256 {digest}, where the Hub says {file.lfs.sha256}, and was dropped"
            )
        os.replace(part, blob)


class _NoBar(tqdm):
    """For the small files: the large ones have shown theirs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "disable": True})


@contextlib.contextmanager
def _explained(hub_id: str, what: str) -> Iterator[None]:
    """What the client raises, in a sentence."""
    from huggingface_hub import constants, errors

    name, _, revision = hub_id.partition("@")
    nothing = f"no {what} at {hub_id!r}: no such folder"
    try:
        yield
    except errors.GatedRepoError as error:
        raise FileNotFoundError(
            f"{name} is gated: log in with `hf auth login` and accept its licence at {constants.ENDPOINT}/{name}, "
            "or download it and give its folder"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{nothing}, and no such repository on the Hub, or a private one, which `hf auth login` lets you see"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{name} has no revision {revision!r} on the Hub") from error
    except errors.HFValidationError as error:
        raise FileNotFoundError(f"{nothing}, and no id of a repository: {_said_by(error)}") from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(f"{hub_id} could not be fetched: {_said_by(error)}") from error
    except Exception as error:  # which kind, without a network, depends on the library that the client builds on
        raise OSError(
            f"{hub_id} could not be fetched whole: {_said_by(error)}; the next attempt fetches what is still missing"
        ) from error


def _said_by(error: BaseException) -> str:
    """In one line."""
    return " ".join(str(error).split()) or type(error).__name__


def upload(hub_id: str, files: Mapping[str, Path | bytes], private: bool) -> str:
    """Put files into a repository, which is made if it is not there, in one commit: all of them, or none. Its address.

    Raises:
        ValueError: if it should be private, and is there and public.
        OSError: if it fails, with what is there and what is not.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    additions = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    api = HfApi()
    try:
        url = api.create_repo(hub_id, private=private, exist_ok=True)
        is_public = api.model_info(hub_id).private is False
        if not (private and is_public):
            api.create_commit(hub_id, additions, commit_message="Upload a model with mamba2_lab")
    except Exception as error:
        raise OSError(f"{hub_id} could not be uploaded: {_said_by(error)}; {_arrived(hub_id, files)}") from error
    require(not (private and is_public), "hub_id", "a new repository or a private one, with `private`", hub_id)
    return str(url)


def require_login() -> None:
    """PermissionError if nobody is logged in, who could upload."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise PermissionError(
            "to upload, log in with `hf auth login`, by a token that may write, or set HF_TOKEN to one"
        )


def _arrived(hub_id: str, files: Mapping[str, Path | bytes]) -> str:
    """Which of these files the Hub has as they are here."""
    from huggingface_hub import HfApi

    try:
        listing = HfApi().model_info(hub_id, files_metadata=True).siblings or []
    except Exception as error:
        return f"the Hub did not say what is there ({_said_by(error)})"
    found = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in listing}
    there = [name for name, content in files.items() if found.get(name) in _digests(content)]
    missing = [name for name in files if name not in there]
    return f"there: {', '.join(there) or 'nothing'}; not there: {', '.join(missing) or 'nothing'}"


def _digests(content: Path | bytes) -> set[str]:
    """What the Hub may call a file of this content: by its SHA-256 if it is large, or else as git does."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    large, small = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while piece := file.read(2**20):
            large.update(piece)
            small.update(piece)
    return {large.hexdigest(), small.hexdigest()}
