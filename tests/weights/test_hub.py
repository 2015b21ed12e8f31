"""Models by their id: the real client of the Hub, and a server on this machine that speaks its protocol."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest
from support.hub_server import TOKEN, HubServer, is_large
from support.published import ONE_OF_EACH, PUBLISHED
from support.saved_models import WEIGHTS, assert_same
from support.small_models import small_model

from mamba2_lab import Mamba2LM, MambaLM, load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import ByteTokenizer

CHUNK = 10 * 2**20  # bytes: the client writes what has come to the disk in pieces of this size
OTHER_FORMATS = ["ggml-model-q4_0.gguf", "tf_model.h5", "flax_model.msgpack", "training_args.bin", "optimizer.pt"]
CLUTTER = dict.fromkeys([*OTHER_FORMATS, "README.md", ".gitattributes", "onnx/model.onnx", "modeling.py"], b"no")
NOT_NEEDED = {"consolidated.safetensors", "params.json"}


@pytest.fixture
def at_the_hub(hub: HubServer, folder: Path) -> HubServer:
    """A Hub with one model, "owner/name": the small one."""
    small_model().save_pretrained(folder, tokenizer=ByteTokenizer())
    hub.put("owner/name", folder)
    return hub


def refused(hub_id: str = "owner/name") -> str:
    """The one sentence that says why it cannot be had."""
    with pytest.raises(OSError) as caught:
        Mamba2LM.from_pretrained(hub_id)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def in_the_cache() -> Path:
    return Path(os.environ["HF_HOME"], "hub")


@pytest.mark.parametrize("hub_id", ONE_OF_EACH)
def test_every_family_is_loaded_by_its_id_from_what_it_needs_and_nothing_else(hub, tmp_path, hub_id):
    PUBLISHED[hub_id].write(tmp_path / "there")
    there = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    hub.put(hub_id, {**there, **CLUTTER})
    model = MambaLM.from_pretrained(hub_id)
    assert_same(model, MambaLM.from_pretrained(tmp_path / "there"))
    assert sorted(hub.asked()) == sorted(there.keys() - NOT_NEEDED)
    hub.requests.clear()
    if "tokenizer.json" in there:
        text = "ab a  ab\n"
        assert load_tokenizer(hub_id).encode(text) == load_tokenizer(tmp_path / "there").encode(text)
    assert hub.asked() == []


def test_safetensors_are_fetched_where_there_are_pickles_too(at_the_hub, folder):
    more = dict.fromkeys(["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.safetensors"], b"no")
    at_the_hub.put("owner/name", {**at_the_hub.files("owner/name"), **more})
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
    assert sorted(at_the_hub.asked()) == sorted(path.name for path in folder.iterdir())


def test_a_tokenizer_is_fetched_without_the_weights(at_the_hub):
    assert load_tokenizer("owner/name").vocab_size == 257
    assert sorted(at_the_hub.asked()) == ["config.json", "mamba2_lab_tokenizer.json"]


def test_a_changed_file_is_fetched_anew_and_an_unchanged_one_is_not(at_the_hub, tmp_path):
    Mamba2LM.from_pretrained("owner/name")
    at_the_hub.requests.clear()
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
    assert at_the_hub.asked() == []
    other = small_model(seed=1)
    other.save_pretrained(in_the_cache() / "other")
    at_the_hub.put(
        "owner/name", {**at_the_hub.files("owner/name"), WEIGHTS: (in_the_cache() / "other" / WEIGHTS).read_bytes()}
    )
    assert_same(Mamba2LM.from_pretrained("owner/name"), other)
    assert at_the_hub.asked() == [WEIGHTS]


def test_a_revision_is_named_behind_the_id(at_the_hub, tmp_path):
    first = at_the_hub.put("owner/name", at_the_hub.files("owner/name"), revision="v1")
    small_model(seed=1).save_pretrained(tmp_path / "second")
    at_the_hub.put("owner/name", tmp_path / "second")
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model(seed=1))
    assert_same(Mamba2LM.from_pretrained("owner/name@v1"), small_model())
    assert load_tokenizer("owner/name@v1").vocab_size == 257  # which the newest commit has not
    with at_the_hub.offline():
        assert_same(Mamba2LM.from_pretrained("owner/name@v1"), small_model())
        assert_same(Mamba2LM.from_pretrained(f"owner/name@{first}"), small_model())
        assert_same(Mamba2LM.from_pretrained("owner/name"), small_model(seed=1))
    assert refused("owner/name@v2") == "owner/name has no revision 'v2' on the Hub"


def test_a_redirect_leads_to_the_weights_and_the_token_stays_with_the_hub(at_the_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    at_the_hub.repositories["owner/name"].private = True
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
    elsewhere = [request for request in at_the_hub.requests if at_the_hub.cdn.endswith(request.host)]
    assert [request.file for request in elsewhere] == [WEIGHTS]
    assert {request.token for request in elsewhere} == {None}
    assert {request.token for request in at_the_hub.requests if request not in elsewhere} == {TOKEN}


# Cut connections


@pytest.fixture(scope="module")
def large_model() -> Mamba2LM:
    """One whose weights the client writes in more than one piece."""
    return small_model(vocab_size=400_000)


@pytest.fixture(scope="module")
def large_folder(large_model: Mamba2LM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    large_model.save_pretrained(folder := tmp_path_factory.mktemp("large"))
    return folder


@pytest.fixture
def large(hub: HubServer, large_folder: Path) -> int:
    """How many bytes its weights are; it lies at "owner/large"."""
    hub.put("owner/large", large_folder)
    size = (large_folder / WEIGHTS).stat().st_size
    assert 2 * CHUNK < size < 3 * CHUNK
    return size


def requests_of_weights(hub: HubServer) -> list[tuple[str | None, int]]:
    """Which range was asked for, and how many bytes were sent."""
    found = [request for request in hub.requests if request.file == WEIGHTS and request.method == "GET"]
    return [(request.range, request.sent) for request in found if request.sent]


def test_a_cut_connection_is_taken_up_where_it_was_cut(hub, large, large_model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.cut_after[WEIGHTS] = [CHUNK + 1000, CHUNK + 1000]
    assert_same(Mamba2LM.from_pretrained("owner/large"), large_model)
    assert requests_of_weights(hub) == [
        (None, CHUNK + 1000),
        (f"bytes={CHUNK}-", CHUNK + 1000),
        (f"bytes={2 * CHUNK}-", large - 2 * CHUNK),
    ]


def test_a_program_that_ended_goes_on_where_it_was(hub, large, large_model, monkeypatch):
    def ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("huggingface_hub.file_download.time.sleep", ctrl_c)
        hub.cut_after[WEIGHTS] = [2 * CHUNK + 1000]
        Mamba2LM.from_pretrained("owner/large")
    assert_same(Mamba2LM.from_pretrained("owner/large"), large_model)
    assert requests_of_weights(hub)[1:] == [(f"bytes={2 * CHUNK}-", large - 2 * CHUNK)]
    assert not list(in_the_cache().rglob("*.incomplete"))


def test_a_server_that_knows_no_ranges_sends_it_all(hub, large, large_model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.cut_after[WEIGHTS], hub.without_ranges = [2 * CHUNK], True
    assert_same(Mamba2LM.from_pretrained("owner/large"), large_model)
    assert [sent for _, sent in requests_of_weights(hub)] == [2 * CHUNK, large]


def test_a_connection_that_is_cut_for_good_says_so(at_the_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    at_the_hub.cut_after[WEIGHTS] = [10] * 6
    said = refused()
    assert said.startswith("owner/name could not be fetched whole: ")
    assert said.endswith("; the next attempt fetches what is still missing")
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())


def test_weights_that_are_not_what_the_hub_says_are_dropped(at_the_hub):
    at_the_hub.damaged.add(WEIGHTS)
    assert "came with SHA-256" in refused()
    at_the_hub.damaged.clear()
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())


def test_leftovers_that_are_longer_than_the_file_begin_anew(at_the_hub, monkeypatch):
    test_a_connection_that_is_cut_for_good_says_so(at_the_hub, monkeypatch)
    blob = next(path for path in in_the_cache().glob("*/blobs/*") if len(path.name) == 64)
    leftover = blob.with_name(f"{blob.name}.incomplete")
    leftover.write_bytes(blob.read_bytes() + b"more")
    blob.unlink()
    shutil.rmtree(next(in_the_cache().glob("*/snapshots")))
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())


def test_where_there_are_no_links_the_cache_holds_a_file_once(at_the_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
    size = len(at_the_hub.files("owner/name")[WEIGHTS])
    held = [path for path in in_the_cache().rglob("*") if path.is_file() and path.stat().st_size == size]
    assert [path.name for path in held] == [WEIGHTS]


def test_two_that_load_at_once_fetch_once(at_the_hub):
    loaded: list[Mamba2LM] = []
    threads = [threading.Thread(target=lambda: loaded.append(Mamba2LM.from_pretrained("owner/name"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in loaded:
        assert_same(model, small_model())
    assert len(loaded) == 2 and at_the_hub.asked().count(WEIGHTS) == 1


def test_a_terminal_shows_how_far_the_weights_are(at_the_hub, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    Mamba2LM.from_pretrained("owner/name")
    assert WEIGHTS in terminal.getvalue() and "100%" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    Mamba2LM.from_pretrained("owner/name")
    assert terminal.getvalue() == "", "nothing was fetched"


# What cannot be had


def test_no_such_repository(hub):
    assert refused() == (
        "no model at 'owner/name': no such folder, and no such repository on the Hub, or a private one, which "
        "`hf auth login` lets you see"
    )
    assert refused("no id/of one").startswith("no model at 'no id/of one': no such folder, and no id of a repository: ")


def test_a_gated_repository_says_what_to_do(at_the_hub, monkeypatch):
    at_the_hub.repositories["owner/name"].gated = True
    for token in ("", TOKEN):  # nobody, and somebody who has not accepted the licence
        monkeypatch.setenv("HF_TOKEN", token)
        assert refused() == (
            f"owner/name is gated: log in with `hf auth login` and accept its licence at {at_the_hub.url}/owner/name, "
            "or download it and give its folder"
        )
    with pytest.raises(FileNotFoundError, match="owner/name is gated"):
        load_tokenizer("owner/name")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "owner/name has no model: expected a file config.json"),
        (WEIGHTS, "owner/name has no weights: expected model.safetensors or pytorch_model.bin"),
    ],
)
def test_what_a_repository_lacks_is_said_before_anything_is_fetched(at_the_hub, missing, said):
    files = at_the_hub.files("owner/name")
    del files[missing]
    assert refused().startswith(said)
    assert at_the_hub.asked() == at_the_hub.asked("HEAD") == []


@pytest.mark.parametrize("gone", ["config.json", WEIGHTS])
def test_a_file_that_is_listed_and_gone(at_the_hub, gone):
    at_the_hub.gone.add(gone)
    said = refused()
    assert said.startswith("owner/name could not be fetched: 404") and gone in said
    at_the_hub.gone.clear()
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())


def test_offline_what_was_fetched_before_is_enough(at_the_hub):
    Mamba2LM.from_pretrained("owner/name")
    with at_the_hub.offline():
        assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
        assert load_tokenizer("owner/name").vocab_size == 257


def test_offline_what_was_never_fetched_is_nowhere(at_the_hub):
    with at_the_hub.offline():
        said = refused()
    nowhere = f"no such folder, not in the cache at {in_the_cache()}, and the Hub cannot be reached ("
    assert said.startswith(f"no model at 'owner/name': {nowhere}")


def test_offline_a_part_of_a_model_is_none(at_the_hub):
    load_tokenizer("owner/name")
    with at_the_hub.offline():
        said = refused()
    assert said.startswith("owner/name has no weights: expected model.safetensors or pytorch_model.bin")
    assert "; the cache has only a part of it, and the Hub cannot be reached (" in said


def test_a_program_that_is_told_to_stay_offline_asks_nobody(at_the_hub):
    """In a process of its own: the client reads its environment, HF_ENDPOINT and HF_HOME too, when it is imported."""
    Mamba2LM.from_pretrained("owner/name")
    at_the_hub.requests.clear()
    code = (
        "import hashlib, json; from mamba2_lab import Mamba2LM\n"
        "weights = json.dumps([w.tolist() for w in Mamba2LM.from_pretrained('owner/name').parameters()])\n"
        "print(hashlib.sha256(weights.encode()).hexdigest())\n"
        "Mamba2LM.from_pretrained('owner/other')"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    weights = json.dumps([weight.tolist() for weight in small_model().parameters()])
    assert done.stdout == f"{hashlib.sha256(weights.encode()).hexdigest()}\n"
    said = f"no model at 'owner/other': no such folder, not in the cache at {in_the_cache()}, and the Hub cannot be "
    assert done.stderr.splitlines()[-1].startswith(f"FileNotFoundError: {said}reached (")
    assert at_the_hub.requests == []


# The disk


def test_a_disk_without_room_is_found_before_the_download(at_the_hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    needed = sum(map(len, at_the_hub.files("owner/name").values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, needed - 1))
    said = refused()
    assert said.startswith(f"owner/name needs {needed / 1000:.3g} kB on the disk of {in_the_cache()}, where ")
    assert said.endswith(" are free: make room, or set HF_HOME to a folder on another disk")
    assert at_the_hub.asked() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, needed))
    Mamba2LM.from_pretrained("owner/name")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 0))
    Mamba2LM.from_pretrained("owner/name")  # all of it is there
    files = at_the_hub.files("owner/name")
    at_the_hub.put(
        "owner/name", {**files, "config.json": files["config.json"] + b"\n", "mamba2_lab_tokenizer.json": b""}
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, len(files["config.json"]) + 1))
    Mamba2LM.from_pretrained("owner/name")  # the weights are those of the commit before


def test_what_a_broken_download_has_left_needs_no_room(hub, large, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="could not be fetched whole"):
        patched.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        hub.cut_after[WEIGHTS] = [2 * CHUNK, *[1] * 6]
        Mamba2LM.from_pretrained("owner/large")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, CHUNK))
    Mamba2LM.from_pretrained("owner/large")


# Strangers


def test_names_that_lead_out_of_a_repository_are_never_asked_for(at_the_hub):
    away = ["../../outside.safetensors", "/etc/passwd", "..\\outside.json", "x/../../config.json", "sub/config.json"]
    at_the_hub.listed += [*away, "model-00001-of-00002.safetensors/../../x", "evil.py", "pytorch_model.bin/x"]
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
    ours = {"config.json", "mamba2_lab_tokenizer.json", WEIGHTS}
    assert set(at_the_hub.asked()) | set(at_the_hub.asked("HEAD")) == ours
    snapshots = [path for path in in_the_cache().rglob("*") if "snapshots" in path.parts and not path.is_dir()]
    assert {path.name for path in snapshots} == ours


def test_an_index_that_leads_out_of_its_repository_is_refused(hub, tmp_path):
    small_model().save_pretrained(tmp_path)
    outside = in_the_cache() / "outside.safetensors"
    outside.parent.mkdir(parents=True)
    shutil.copy(tmp_path / WEIGHTS, outside)
    index = {"weight_map": dict.fromkeys(small_model().state_dict(), "../../../../outside.safetensors")}
    config = (tmp_path / "config.json").read_bytes()
    hub.put("owner/name", {"config.json": config, f"{WEIGHTS}.index.json": json.dumps(index).encode()})
    with pytest.raises(CheckpointError, match="expected the name of a"):
        Mamba2LM.from_pretrained("owner/name")


def test_sizes_that_no_disk_holds_are_not_fetched(at_the_hub):
    at_the_hub.sizes[WEIGHTS] = 2**62
    assert "owner/name needs 4,611,686,018 GB" in refused()
    assert at_the_hub.asked() == []


def test_a_size_that_is_not_the_files_own_is_found(at_the_hub):
    at_the_hub.sizes[WEIGHTS] = 10
    assert "file should be of size 10 but has size" in refused()


def test_a_repository_that_asks_for_its_code_to_be_run_is_not_obeyed(hub, tmp_path):
    PUBLISHED["state-spaces/mamba-130m-hf"].write(tmp_path / "there")
    there = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    mark = tmp_path / "it ran"
    code = f"open({str(mark)!r}, 'w')\n".encode()
    asks = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None], "AutoModelForCausalLM": "evil.Model"}}
    for name in ("config.json", "tokenizer_config.json"):
        there[name] = json.dumps({**json.loads(there[name]), **asks, "trust_remote_code": True}).encode()
    hub.put("owner/name", {**there, "evil.py": code, "tokenization_evil.py": code})
    assert_same(MambaLM.from_pretrained("owner/name"), MambaLM.from_pretrained(tmp_path / "there"))
    assert load_tokenizer("owner/name").encode("ab")
    assert not mark.exists()
    assert not [name for name in hub.asked() if name.endswith(".py")]
    assert any(is_large(name) for name in hub.asked())
