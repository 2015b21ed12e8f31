"""Models on their way to the Hub: what would go, what arrives, and what the card says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from support.hub_server import TOKEN, HubServer, sha256
from support.saved_models import WEIGHTS, assert_same
from support.small_models import small_model
from support.strange_files import needs_posix
from support.trainings import QUICK, TOKENIZER, documents, packed

from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import TrainingConfig, fit
from mamba2_lab.weights import BOX, publish


@pytest.fixture
def logged_in(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """Of the small model, with what else may lie there."""
    folder = tmp_path / "model"
    small_model().save_pretrained(folder, tokenizer=ByteTokenizer())
    (folder / "notes.txt").write_bytes("né 🐍\r\n".encode())
    (folder / "empty.txt").touch()
    (folder / ".hidden").write_text("a secret", encoding="utf-8")
    (folder / "logs").mkdir()
    (folder / "logs" / "log.txt").write_text("far too much", encoding="utf-8")
    return folder


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".hidden"}


def front_matter(card: str) -> dict:
    """What the Hub reads of a card."""
    _, data, _ = card.split("---\n", 2)
    return yaml.safe_load(data)


def test_unless_it_is_really_meant_nothing_is_uploaded(logged_in, model_folder):
    before = bytes_in(model_folder)
    plan = publish(model_folder, "owner/name")
    assert (plan.url, plan.private, logged_in.requests) == (None, True, [])
    assert bytes_in(model_folder) == before
    assert plan.files == {name: len(content) for name, content in before.items()} | {
        "README.md": len(plan.card.encode())
    }
    said = str(plan).splitlines()
    assert said[0].startswith("would go to owner/name (private): 6 files, ")
    assert said[0].endswith("; nothing was uploaded")
    assert [line.split()[0] for line in said[1:]] == list(plan.files)


@pytest.mark.parametrize("private", [True, False])
def test_what_arrives_is_byte_for_byte_what_was_there(logged_in, model_folder, private):
    plan = publish(model_folder, "owner/name", really=True, private=private)
    arrived = dict(logged_in.files("owner/name"))
    del arrived[".gitattributes"]  # of the Hub's own
    assert arrived == {**bytes_in(model_folder), "README.md": plan.card.encode()}
    assert logged_in.repositories["owner/name"].private == private
    assert plan.url == f"{logged_in.url}/owner/name"
    assert str(plan).startswith(f"uploaded to {plan.url} ({'private' if private else 'public'}): 6 files, ")


def test_a_model_that_was_pushed_is_loaded_by_its_id(logged_in):
    model = small_model(seed=3)
    assert model.push_to_hub("owner/name", tokenizer=ByteTokenizer()).url is None
    assert logged_in.requests == []
    model.push_to_hub("owner/name", tokenizer=ByteTokenizer(), dry_run=False)
    assert_same(Mamba2LM.from_pretrained("owner/name"), model)
    assert load_tokenizer("owner/name").vocab_size == 257
    small_model(seed=4).push_to_hub("owner/name", dry_run=False)
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model(seed=4))


# The card


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a training of 6 steps, measured after every second."""
    model = Mamba2LM(d_model=16, n_layer=1, headdim=8, d_state=4, vocab_size=257, seed=0)
    settings = TrainingConfig(**QUICK, evaluate_every=2, save_every=2)
    more = {"held_out": documents(["x = 1\n"]), "tokenizer": TOKENIZER}
    fit(model, packed(), settings, folder=tmp_path / "run", progress=False, **more)
    return tmp_path / "run"


def test_the_card_of_a_training_says_what_its_record_says(hub, run):
    plan = publish(run, "owner/name", licence="apache-2.0")
    assert set(plan.files) == {"config.json", WEIGHTS, "mamba2_lab_tokenizer.json", "README.md"}
    assert front_matter(plan.card) == {
        "license": "apache-2.0",
        "library_name": "mamba2-lab",
        "pipeline_tag": "text-generation",
        "tags": ["mamba2"],
    }
    last = json.loads((run / "records.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    facts = json.loads((run / "step-000006" / "run.json").read_text(encoding="utf-8"))
    assert last["step"] == 5 and math.isfinite(last["bits_per_byte"])
    for said in (
        "# name\n",
        f" {Mamba2LM.from_pretrained(run).num_parameters():,} parameters in 1 layer of width 16.",
        f"| held-out bits per byte | **{last['bits_per_byte']:.3f}**, after 6 steps |",
        "| training | 6 steps of 2 x 12 tokens; AdamW, learning rate ",
        f"| seed | {facts['training']['seed']} |",
        f"| data | tokens with SHA-256 `{facts['data']}` |",
        f"| held out | texts with SHA-256 `{facts['held_out']}` |",
    ):
        assert said in plan.card, said


@pytest.mark.parametrize(
    ("origin", "said"),
    [("small", "small"), ("owner/base", "owner/base"), ("HERE", "base")],
    ids=["in the box", "on the Hub", "a folder"],
)
def test_the_card_of_a_tuned_model_says_what_it_began_with(hub, tmp_path, origin, said):
    """By its name: a path tells of the machine where it lay."""
    here = tmp_path / "base"
    model = small_model(seed=4, vocab_size=257)
    model.save_pretrained(here, tokenizer=TOKENIZER)
    settings, where = TrainingConfig(**QUICK, lora=2), tmp_path / "run"
    fit(model, packed(), settings, folder=where, origin=origin.replace("HERE", str(here)), progress=False)
    model.save_pretrained(tmp_path / "merged", tokenizer=TOKENIZER)
    plan = publish(tmp_path / "merged", "owner/name", record=where)
    assert f"| began with | {said}, changed by adapters of rank 2 (LoRA) |" in plan.card
    assert str(tmp_path) not in plan.card


def test_the_card_says_nothing_that_no_record_says(hub, run, model_folder):
    plan = publish(model_folder, "owner/name")
    assert front_matter(plan.card).keys() == {"library_name", "pipeline_tag", "tags"}
    assert "|" not in plan.card, "there is no record, and so no table"
    assert small_model().push_to_hub("owner/name").card == plan.card
    assert "held-out bits per byte" in small_model().push_to_hub("owner/name", record=run).card
    (run / "records.jsonl").write_bytes((run / "records.jsonl").read_bytes().replace(b'"loss": ', b'"loss": 1'))
    assert "bits per byte" not in publish(run, "owner/name").card, "the records are not those of the run"


def test_a_page_that_somebody_wrote_stays(hub, model_folder):
    page = (BOX / "medium" / "README.md").read_text(encoding="utf-8")
    card = publish("medium", "owner/name", licence="apache-2.0").card
    assert card.endswith(f"---\n\n{page}") and front_matter(card)["license"] == "apache-2.0"
    (model_folder / "README.md").write_bytes("# né\n".encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"README\.md: expected text in UTF-8; found "):
        publish(model_folder, "owner/name")
    whole = "---\nlicense: mit\n---\n# Mine\n"
    (model_folder / "README.md").write_text(whole, encoding="utf-8")
    assert publish(model_folder, "owner/name").card == whole
    with pytest.raises(ValueError, match="licence must be left out, for .*README.md says what .*; got 'mit'"):
        publish(model_folder, "owner/name", licence="mit")


def test_a_file_goes_alone_and_has_a_card_too(hub, model_folder):
    (file := model_folder / "model-f16.gguf").write_bytes(b"GGUF")
    (model_folder / "README.md").write_text("# Of something else\n", encoding="utf-8")
    plan = publish(file, "owner/name")
    assert set(plan.files) == {"model-f16.gguf", "README.md"}
    assert front_matter(plan.card) == {"pipeline_tag": "text-generation"}
    assert plan.card.endswith("---\n\n# name\n")
    assert "# Of something else" in publish(file, "owner/name", record=model_folder).card


def test_a_folder_without_a_config_of_ours_has_a_card_too(hub, tmp_path):
    (tmp_path / "model-f16.gguf").write_bytes(b"GGUF")
    (tmp_path / "config.json").write_text('{"model_type": "another"}', encoding="utf-8")
    assert front_matter(publish(tmp_path, "owner/name").card) == {"pipeline_tag": "text-generation"}


# What goes wrong


def test_without_a_token_nobody_is_asked(hub, model_folder):
    with pytest.raises(PermissionError) as caught:
        publish(model_folder, "owner/name", really=True)
    assert str(caught.value).startswith("to upload, log in with `hf auth login`")
    assert hub.requests == []


def test_a_token_that_may_not_write(hub, model_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(OSError, match="owner/name could not be uploaded: .*401.*Invalid username or password"):
        publish(model_folder, "owner/name", really=True)
    assert hub.repositories == {}


def test_an_upload_that_fails_says_what_is_there_and_what_is_not(logged_in, model_folder):
    logged_in.refused_uploads.add(sha256((model_folder / WEIGHTS).read_bytes()))
    with pytest.raises(OSError) as caught:
        publish(model_folder, "owner/name", really=True)
    said, missing = str(caught.value).split("; there: nothing; not there: ")
    assert said.startswith("owner/name could not be uploaded: ") and "\n" not in said
    assert set(missing.split(", ")) == set(bytes_in(model_folder)) | {"README.md"}
    assert logged_in.files("owner/name").keys() == {".gitattributes"}
    logged_in.put("owner/name", {"config.json": (model_folder / "config.json").read_bytes(), "notes.txt": b"older"})
    with pytest.raises(OSError, match="; there: config.json; not there: .*notes.txt"):
        publish(model_folder, "owner/name", really=True, private=False)
    logged_in.refused_uploads.clear()
    publish(model_folder, "owner/name", really=True, private=False)
    assert logged_in.files("owner/name")[WEIGHTS] == (model_folder / WEIGHTS).read_bytes()


def test_a_hub_that_is_not_there(logged_in, model_folder):
    with logged_in.offline(), pytest.raises(OSError) as caught:
        publish(model_folder, "owner/name", really=True)
    assert str(caught.value).startswith("owner/name could not be uploaded: ")
    assert "; the Hub did not say what is there (" in str(caught.value)


def test_what_should_be_private_does_not_go_to_a_public_place(logged_in, model_folder):
    logged_in.put("owner/name", {"README.md": b"public"}, private=False)
    with pytest.raises(ValueError, match="hub_id must be a new repository or a private one, with private; got"):
        publish(model_folder, "owner/name", really=True)
    assert logged_in.files("owner/name") == {"README.md": b"public"}


@pytest.mark.parametrize("hub_id", ["name", "a/b/c", "owner/na me", "", "owner/name@main"])
def test_an_id_must_be_one(hub, model_folder, hub_id):
    with pytest.raises(ValueError, match="hub_id must be the id of a repository, owner/name; got "):
        publish(model_folder, hub_id)


def test_a_destination_that_is_none_is_told_before_a_model_is_written(hub, monkeypatch):
    monkeypatch.setattr(Mamba2LM, "save_pretrained", lambda *_, **__: pytest.fail("it was written"))
    with pytest.raises(ValueError, match="hub_id must be the id of a repository"):
        small_model().push_to_hub("name")
    with pytest.raises(PermissionError, match="to upload, log in"):
        small_model().push_to_hub("owner/name", dry_run=False)


def test_a_folder_with_nothing_in_it(hub, tmp_path):
    (tmp_path / "README.md").write_text("# Nothing yet\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="has nothing to upload"):
        publish(tmp_path, "owner/name")


@needs_posix
def test_a_link_out_of_the_folder_is_not_followed(hub, model_folder):
    (model_folder.parent / "secret").write_text("a secret", encoding="utf-8")
    (model_folder / "notes.txt").unlink()
    (model_folder / "notes.txt").symlink_to(model_folder.parent / "secret")
    with pytest.raises(CheckpointError, match="found a link that leads out of it"):
        publish(model_folder, "owner/name")
