"""The models in the box are what their cards say, and come out of the scripts beside them."""

import dataclasses
import hashlib
import json
import lzma
import math
import zlib

import pytest
import torch
import torch.nn.functional as F

from mamba2_lab import Mamba2LM, load_tokenizer, weights
from mamba2_lab.data import Document, Overlap, Package
from mamba2_lab.pretrained import comparison, provenance, recipes, train, tune
from mamba2_lab.pretrained.card import card
from mamba2_lab.pretrained.recipes import RECIPES, Text
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import TrainingConfig, bits_per_byte
from mamba2_lab.weights import WEIGHTS_NAME, models_in_the_box
from mamba2_lab.yardsticks.ngram import NGram
from mamba2_lab.yardsticks.transformer import WINDOW, Transformer

BOX = models_in_the_box()
LARGEST_BOX = 25_000_000  # bytes of weights


def record_of(name: str) -> dict:
    return json.loads((weights.BOX / name / "record.json").read_text(encoding="utf-8"))


# What is in the box


def test_there_is_a_small_model_in_the_box() -> None:
    assert "small" in BOX


@pytest.mark.parametrize("name", BOX)
def test_the_weights_are_those_of_the_record(name: str) -> None:
    file = (weights.BOX / name / WEIGHTS_NAME).read_bytes()
    assert hashlib.sha256(file).hexdigest() == record_of(name)["sha256"]
    assert len(file) == record_of(name)["bytes"]
    assert Mamba2LM.from_pretrained(name).num_parameters() == comparison.rows_by_name()[name]["parameters"]


@pytest.mark.parametrize("name", BOX)
def test_the_card_is_made_from_the_record_and_the_table(name: str) -> None:
    rows = comparison.rows_by_name()
    assert (weights.BOX / name / "README.md").read_text(encoding="utf-8") == card(
        record_of(name), rows, recipes.tuning_runs(name)
    )


def test_the_box_is_small() -> None:
    assert sum(path.stat().st_size for path in weights.BOX.rglob("*.safetensors")) <= LARGEST_BOX


@pytest.mark.parametrize("name", BOX)
def test_a_model_predicts_files_it_never_saw_about_as_well_as_its_card_says(name: str) -> None:
    """This machine's library is not quite that of the card, so the bound is loose; untrained it would be 8 bits."""
    files = ("operator.py", "runpy.py", "asyncio/locks.py")
    documents = [document for document in recipes.standard_library().held_out if document.name in files]
    model, tokenizer = Mamba2LM.from_pretrained(name), load_tokenizer(name)
    assert abs(bits_per_byte(model, documents, tokenizer) - comparison.rows_by_name()[name]["bits_per_byte"]) < 0.25


# The scripts

LINES = "".join(f"    variable_number_{i} = compute_the_value_of(argument_{i})\n" for i in range(12))
LIBRARY = (
    Document("one.py", "def one():\n    return 1\n" * 20),
    Document("two.py", "import sys\n\n\nx = sys.path\n" * 9),
)
PACKAGES = (Document("some/where.py", "def where(place):\n    return place\n" * 20),)
HELD_OUT = (Document("kept.py", f"def kept(x):\n{LINES}\n\ndef more(y):\n    return y\n"),)
LICENCES = {"some": Package("Some", "1.2", "MIT"), "other": Package("Other", "2.0", "BSD-3-Clause")}


@pytest.fixture
def little_text(monkeypatch, tmp_path):
    """A library of two files, a table and notes of its own, and recipes of three steps."""

    def read_text(packages_bytes: int, keep_copies: bool = False) -> Text:
        packages = PACKAGES if packages_bytes else ()
        copies = HELD_OUT if keep_copies else ()
        return Text(LIBRARY + copies, packages, HELD_OUT, (), (Overlap("copy.py", "kept.py", "x"),), LICENCES)

    for module in (recipes, comparison, tune):
        monkeypatch.setattr(module, "read_text", read_text)
    monkeypatch.setattr(comparison, "TABLE", tmp_path / "comparison.json")
    monkeypatch.setattr(recipes, "TUNING", tmp_path / "tuning.jsonl")
    recipes.TUNING.touch()
    short = TrainingConfig(steps=3, batch_size=2, length=16, warmup_steps=1)
    for name, recipe in RECIPES.items():
        shape = {**recipe.shape, "n_layer": 1, "d_model": 32, "headdim": 16}
        vocab_size = recipe.vocab_size and 300
        monkeypatch.setitem(
            RECIPES, name, dataclasses.replace(recipe, shape=shape, training=short, vocab_size=vocab_size)
        )
    monkeypatch.setattr(train, "MEDIUM", RECIPES["medium"])


@pytest.mark.parametrize("name", RECIPES)
def test_the_script_writes_a_model_that_loads_with_a_record_of_how_it_was_made(
    little_text, tmp_path, capsys, name: str
) -> None:
    train.main([name, "--device", "cpu", "--folder", str(tmp_path / name)])
    record = json.loads((tmp_path / name / "record.json").read_text(encoding="utf-8"))
    assert record["tokens"] == 3 * 2 * 16
    assert [point["step"] for point in record["curve"]] == [0, 1, 2]
    assert record["command"] == f"python -m mamba2_lab.pretrained.train {name} --steps 3"
    assert record["text"]["packages"]["names"] == [
        {"name": "Some", "version": "1.2", "licence": "MIT", "bytes": PACKAGES[0].bytes}
    ]
    assert record["text"]["library"]["weight"] == RECIPES[name].library_weight
    model, row = Mamba2LM.from_pretrained(tmp_path / name), comparison.rows_by_name()[name]
    measured = bits_per_byte(model, HELD_OUT, load_tokenizer(tmp_path / name))
    assert row["bits_per_byte"] == round(measured, 4)
    assert f"{measured:.4f} bits per byte" in capsys.readouterr().out
    text = (tmp_path / name / "README.md").read_text(encoding="utf-8")
    assert f"**{measured:.3f}**" in text and "packages, all permissive: MIT 1" in text
    assert "1 files of the training text" in text and "`kept.py`" in text


@pytest.mark.parametrize("name", [*RECIPES, train.RIVAL])
def test_of_several_processes_one_writes(little_text, tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.setattr(train, "is_main_process", lambda: False)
    before = comparison.read_table()
    train.main([name, "--device", "cpu", "--folder", str(tmp_path / name)])
    assert comparison.read_table() == before
    assert not (tmp_path / name).exists()


def test_a_record_tells_of_how_many_processes_it_is(little_text, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(provenance, "number_of_processes", lambda: 4)
    train.main(["small", "--device", "cpu", "--folder", str(tmp_path / "small")])
    record = json.loads((tmp_path / "small" / "record.json").read_text(encoding="utf-8"))
    assert record["command"] == "torchrun --nproc_per_node 4 -m mamba2_lab.pretrained.train small --steps 3"
    assert record["machine"]["device"].startswith("4 x ")


def test_what_the_copies_are_worth_goes_on_the_card_and_the_weights_stay(little_text, tmp_path) -> None:
    folder = tmp_path / "small"
    train.main(["small", "--device", "cpu", "--folder", str(folder)])
    before = (folder / WEIGHTS_NAME).read_bytes()
    assert "left in, the same model" not in (folder / "README.md").read_text(encoding="utf-8")
    train.main(["small", "--device", "cpu", "--folder", str(folder), "--keep-copies"])
    row = comparison.rows_by_name()["small"]
    assert row["with_copies"] != row["bits_per_byte"]
    assert f"needs {row['with_copies']:.3f} bits per byte" in (folder / "README.md").read_text(encoding="utf-8")
    assert (folder / WEIGHTS_NAME).read_bytes() == before


def test_a_run_with_checkpoints_is_gone_on_with(little_text, tmp_path, monkeypatch) -> None:
    steps = []
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda *a, **k: steps.append(len(records := fit(*a, **k))) or records)
    arguments = [
        "small",
        "--device",
        "cpu",
        "--folder",
        str(tmp_path / "small"),
        "--checkpoints",
        str(tmp_path / "run"),
    ]
    train.main(arguments)
    checkpoint_of = sorted((tmp_path / "run").glob("step-*"))
    train.main(arguments)
    assert steps == [3, 3]
    assert sorted((tmp_path / "run").glob("step-*")) == checkpoint_of, "the second run had nothing left to do"


def test_the_transformer_is_measured_and_not_kept(little_text, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "mamba2_lab.yardsticks.transformer.Transformer",
        lambda vocab_size, seed: Transformer(
            vocab_size, seed, hidden_size=20, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
        ),
    )
    train.main(["transformer", "--device", "cpu"])
    row = comparison.rows_by_name()["transformer"]
    assert 2 < row["bits_per_byte"] < 8.5 and row["tokens"] == 96
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_short_run_leaves_a_note_of_what_was_changed(little_text) -> None:
    tune.main(["small", "steps=2", "d_state=4", "library_weight=7", "precision=fp32", "--device", "cpu"])
    tune.main(["small", "--device", "cpu"])
    first, second = map(json.loads, recipes.TUNING.read_text(encoding="utf-8").splitlines())
    assert first["changes"] == {"steps": 2, "d_state": 4, "library_weight": 7, "precision": "fp32"}
    assert first["settings"] == {**second["settings"], **first["changes"]}
    assert second["settings"]["n_layer"] == 1 and second["settings"]["packages_bytes"] == 150_000_000
    assert recipes.tuning_runs("small") == 2 and recipes.tuning_runs("medium") == 0
    assert first["parameters"] < second["parameters"] and len(first["curve"]) == 2 and len(second["curve"]) == 3


def test_changes_go_where_they_belong() -> None:
    recipe = tune.changed(RECIPES["medium"], {"steps": 7, "vocab_size": 300, "n_layer": 3, "packages_bytes": 0})
    assert (recipe.training.steps, recipe.vocab_size, recipe.packages_bytes) == (7, 300, 0)
    assert recipe.shape == {**RECIPES["medium"].shape, "n_layer": 3}


@pytest.mark.parametrize("name", ["stpes", "training", "shape"])
def test_an_unknown_change_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"got '{name}'"):
        tune.changed(RECIPES["small"], {name: 1})


# The text


def test_copies_are_left_out_unless_they_are_asked_for(monkeypatch) -> None:
    copy = Document("setuptools/copy.py", "# edited\n" + HELD_OUT[0].text)
    vendored = Document("some/_vendor/other/there.py", "there = 1\n")
    corpus = type(recipes.standard_library())
    monkeypatch.setattr(recipes, "standard_library", lambda: corpus(LIBRARY, HELD_OUT))
    monkeypatch.setattr(recipes, "permissive_packages", lambda: LICENCES)
    asked = []

    def installed(max_bytes, only):
        asked.append((max_bytes, only))
        return corpus((*PACKAGES, copy, vendored), ())

    monkeypatch.setattr(recipes, "installed_packages", installed)
    clean, with_copies = recipes.read_text(1000), recipes.read_text(1000, keep_copies=True)
    assert asked == [(1000, LICENCES)] * 2
    assert (clean.library, clean.packages) == (LIBRARY, PACKAGES)
    assert [(overlap.dropped, overlap.held_out) for overlap in clean.dropped] == [(copy.name, "kept.py")]
    assert clean.vendored == (vendored,)
    assert with_copies.packages == (*PACKAGES, copy, vendored)
    assert (with_copies.vendored, with_copies.dropped) == ((), ())
    assert recipes.read_text(0).packages == ()
    assert clean.weighted(3) == LIBRARY * 3 + PACKAGES


def test_the_hash_of_held_out_text_tells_other_text_apart() -> None:
    facts = recipes.held_out_facts(HELD_OUT)
    assert facts == recipes.held_out_facts(HELD_OUT)
    moved = (Document("kept.pyd", HELD_OUT[0].text[1:]),)
    assert facts["sha256"] != recipes.held_out_facts(moved)["sha256"]


# The table


def test_rows_are_replaced_by_name_and_keep_what_is_not_said_anew(tmp_path) -> None:
    table = tmp_path / "table.json"
    for row in ({"name": "a", "x": 1, "y": 2}, {"name": "b", "x": 3}, {"name": "a", "x": 4}):
        comparison.note(row, HELD_OUT, table)
    assert comparison.read_table(table)["rows"] == [{"name": "a", "x": 4, "y": 2}, {"name": "b", "x": 3}]


def test_numbers_of_other_files_do_not_enter_the_table(tmp_path) -> None:
    comparison.note({"name": "a"}, HELD_OUT, tmp_path / "table.json")
    with pytest.raises(ValueError, match="held_out must be the files of"):
        comparison.note({"name": "b"}, LIBRARY, tmp_path / "table.json")


def test_compressors_see_each_file_alone() -> None:
    rows = {row["name"]: row for row in comparison.compressors(LIBRARY)}
    size = sum(len(document.text) for document in LIBRARY)
    gzip = sum(len(zlib.compress(document.text.encode(), 9)) for document in LIBRARY)
    xz = len(lzma.compress("".join(document.text for document in LIBRARY).encode(), preset=9 | lzma.PRESET_EXTREME))
    assert rows["gzip"]["bits_per_byte"] == pytest.approx(8 * gzip / size, abs=1e-4)
    assert f"{8 * xz / size:.3f} for all files as one" in rows["xz"]["note"]


def test_the_yardsticks_are_measured_by_one_command(little_text) -> None:
    comparison.main()
    assert [row["name"] for row in comparison.read_table()["rows"]] == ["gzip", "xz", "5-gram"]
    ngram, unseen = NGram((document.text for document in LIBRARY), order=5), HELD_OUT[0].text.encode()
    bits = -sum(math.log2(ngram.next_byte(unseen[:i])[byte]) for i, byte in enumerate(unseen))
    assert comparison.rows_by_name()["5-gram"]["bits_per_byte"] == pytest.approx(bits / len(unseen), abs=1e-4)


# The transformer to compare with


def test_the_transformer_has_as_many_weights_as_medium() -> None:
    ours = Mamba2LM.num_parameters(Mamba2LM(device="meta", **recipes.MEDIUM.shape, vocab_size=4096))
    assert abs(Transformer(4096, 0).num_parameters() / ours - 1) < 0.01


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = Transformer(50, 0, hidden_size=16, num_hidden_layers=2, intermediate_size=24, **heads)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return model.eval()


@torch.no_grad()
def test_the_transformer_sees_no_later_token_and_no_other_document(transformer) -> None:
    ids = torch.randint(0, 50, (1, 40), generator=torch.Generator().manual_seed(1))
    document_ids = (torch.arange(40) >= 25).long()[None]
    whole = transformer(ids, document_ids=document_ids)
    torch.testing.assert_close(whole[:, 25:], transformer(ids[:, 25:]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[:, :10], transformer(ids[:, :10]), rtol=1e-4, atol=1e-5)
    assert (whole[:, 25:] - transformer(ids)[:, 25:]).abs().max() > 0.01, "the document before must matter if seen"


@torch.no_grad()
def test_the_transformer_reads_long_texts_in_windows_that_overlap(transformer) -> None:
    """Every position by itself: the logits after the tokens that its window shows it."""
    ids = torch.randint(0, 50, (1, 2 * WINDOW + 100), generator=torch.Generator().manual_seed(2))
    first, past = transformer.prefill(ids[:, :900])
    second, past = transformer.prefill(ids[:, 900:], past)
    assert torch.equal(past, ids[:, -WINDOW // 2 :])
    found = torch.cat([first, second], dim=1)
    assert found.shape == (1, ids.shape[1], 50)
    for position, start in ((0, 0), (511, 0), (512, 0), (899, 0), (900, 388), (1411, 388), (1412, 900), (2147, 1412)):
        alone = transformer(ids[:, start : position + 1])[:, -1]
        torch.testing.assert_close(found[:, position], alone, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_bits_per_byte_of_the_transformer_are_those_of_its_logits(transformer) -> None:
    class Narrow(ByteTokenizer):
        """Bytes below 49, the end of text at 49."""

        end_of_text, opening = 49, (49,)

        def encode(self, text: str) -> list[int]:
            return [byte % 49 for byte in super().encode(text)]

    text = Document("a.py", "def f(x): return x" * 5)
    ids = torch.tensor([[49, *Narrow().encode(text.text)]])
    expected = F.cross_entropy(transformer(ids[:, :-1])[0], ids[0, 1:]) / torch.tensor(2.0).log()
    assert bits_per_byte(transformer, [text], Narrow()) == pytest.approx(float(expected), rel=1e-5)
