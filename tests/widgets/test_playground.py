"""The playground through its controls, without a browser: the same class, the same thread, no page."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import threading
from typing import Any

import pytest
import torch
from anywidget import AnyWidget
from hypothesis import given
from hypothesis import strategies as st
from ipywidgets import VBox
from support.many_tokenizers import every_tokenizer
from support.small_models import small_model
from text.test_text_of_streams import BYTE_RUNS, Scripted, text_behind

from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.generation import SamplingConfig
from mamba2_lab.text import ByteTokenizer, Tokenizer
from mamba2_lab.widgets import Playground, TokenStrip
from mamba2_lab.widgets.playground import history
from mamba2_lab.widgets.playground.history import Entry
from mamba2_lab.widgets.playground.reasons import in_words
from mamba2_lab.widgets.playground.writing import Loaded, Writing

SOON = 60  # seconds; nothing waits so long unless it hangs
TOKENIZER = ByteTokenizer()
END = TOKENIZER.end_of_text


def readable_model() -> Mamba2LM:
    """Random weights that write ASCII only, so that every token has a text at once, and never end."""
    model = small_model()
    unembed, others = model.unembed, torch.tensor([not 32 <= i < 127 for i in range(257)])
    model.unembed = lambda u: unembed(u).masked_fill(others, -1e4)  # type: ignore[method-assign]
    return model


def playground(model: Mamba2LM | None = None, **options) -> Playground:
    """One that is ready, with a model of the test's own."""
    found = Playground("own", "ab", models={"own": (model or readable_model(), TOKENIZER)}, **{"length": 12, **options})
    assert found.wait(SOON)
    return found


def press(found: Playground, name: str) -> None:
    found.controls[name].click()
    assert found.wait(SOON)


def shown(found: Playground) -> str:
    """All the words and figures of the widget."""
    parts, waiting = [], [found]
    while waiting:
        widget = waiting.pop(0)
        waiting += getattr(widget, "children", ())
        parts.append(widget.value if type(widget).__name__ == "HTML" else "")
    return "\n".join(parts)


def generated(model: Mamba2LM, count: int, seed: int, prompt: str = "ab", **settings) -> str:
    """The same by `model.generate`."""
    ids = torch.tensor([[END, *TOKENIZER.encode(prompt)]])
    new = model.generate(ids, max_new_tokens=count, seed=seed, **settings)[0, ids.shape[1] :]
    return TOKENIZER.decode(new.tolist())


# Generate, Continue, Reset


def test_the_model_in_the_box_writes_what_generate_writes():
    found = Playground(prompt="def f(", seed=4, length=40)
    assert found.wait(SOON) and found.last_error is None
    assert "medium is ready on" in shown(found)
    press(found, "generate")
    model, tokenizer = Mamba2LM.from_pretrained("medium"), load_tokenizer("medium")
    ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode("def f(")]])
    new = model.generate(ids, max_new_tokens=40, temperature=0.7, seed=4)[0, ids.shape[1] :]
    assert found.texts == [tokenizer.decode(new.tolist())]
    assert found.strips[0].text == found.texts[0]
    assert found.strips[0].lead == "def f("


SETTINGS = {"temperature": 1.2, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3}


def test_every_setting_reaches_the_sampler():
    model = readable_model()
    found = playground(model, seed=5)
    for name, value in SETTINGS.items():
        found.controls[name].value = value
    press(found, "generate")
    assert found.texts == [generated(model, 12, 5, **SETTINGS)]
    assert found.entries[0].settings == SamplingConfig(**SETTINGS)


@pytest.mark.parametrize(("name", "off"), [("top_k", 0), ("top_p", 1.0), ("min_p", 0.0)])
def test_a_filter_can_be_switched_off(name, off):
    found = playground(**SETTINGS)
    found.controls[name].value = off
    press(found, "generate")
    assert getattr(found.entries[0].settings, name) is None


def test_the_same_seed_repeats_and_another_one_does_not():
    found = playground(seed=1)
    texts = []
    for seed in (1, 1, 2):
        found.controls["seed"].value = seed
        press(found, "generate")
        texts += found.texts
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("settings", [{}, SETTINGS], ids=["plain", "filtered"])
def test_continue_is_one_long_run_and_reads_nothing_again(settings, monkeypatch):
    model = readable_model()
    found = playground(model, seed=3, length=5, **settings)
    press(found, "generate")
    prefills = []
    prefill = model.prefill
    monkeypatch.setattr(model, "prefill", lambda *a, **k: (prefills.append(a), prefill(*a, **k))[1])
    press(found, "continue")
    found.controls["length"].value = 7
    press(found, "continue")
    assert prefills == []
    assert found.texts == [generated(model, 17, 3, **{"temperature": 0.7, **settings})]
    assert len(found.strips[0].tokens) == 17
    # 3 tokens of the prompt with its mark, 10 written, the last of them not yet read
    assert re.search(
        r"Went on from the state: [\d.]+ kB of state stands for 12 tokens, none of them was read again", shown(found)
    )
    assert [entry.continues for entry in found.entries] == [None, 0, 1]
    assert "".join(entry.text for entry in found.entries) == found.texts[0]


def test_continue_takes_the_settings_as_they_are_then():
    model = readable_model()
    found = playground(model, seed=3, length=6, temperature=1.5)
    press(found, "generate")
    first = found.texts[0]
    found.controls["temperature"].value = 0
    press(found, "continue")
    assert found.texts[0] == first + generated(model, 6, 0, prompt="ab" + first, temperature=0)


def test_reset_forgets_the_text_and_keeps_the_history():
    found = playground()
    press(found, "generate")
    found.strips[0].selected = 0
    assert not found.controls["continue"].disabled
    press(found, "reset")
    assert found.texts == [] and len(found.strips[0]) == 0
    assert found.controls["continue"].disabled
    assert len(found.entries) == 1
    assert "<img" not in shown(found)
    found.controls["continue"].click()
    assert "press Generate first" in str(found.last_error)


def test_stop_strings_end_a_run_and_continue_goes_on_behind_them():
    model = readable_model()
    whole = generated(model, 30, 3, temperature=0.7)
    stop = whole[9:11]
    where = whole.index(stop)
    found = playground(model, seed=3, length=30, stop=[stop])
    press(found, "generate")
    assert found.texts == [whole[: where + 2]], "what the model has written is there, the stop as well"
    assert found.entries[0].ended == "stop" and found.entries[0].stop == (stop,)
    found.controls["stop at"].value = ""
    found.controls["length"].value = 4
    press(found, "continue")
    assert found.texts == [whole[: where + 6]]
    assert [len(token) for token in found.strips[0].tokens] == [1] * (where + 6), "every token shows its own text"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("\\n\\n", ("\n\n",)),
        ("def \nclass ", ("def ", "class ")),
        ("a\\tb\n\n", ("a\tb",)),
        ("\\\\n", ("\\n",)),
        ("", ()),
    ],
)
def test_stop_strings_are_typed_on_lines_with_escapes(typed, meant):
    found = playground(length=1)
    found.controls["stop at"].value = typed
    press(found, "generate")
    assert found.entries[0].stop == meant
    again = playground(stop=meant, length=1)
    press(again, "generate")
    assert again.entries[0].stop == meant


def test_the_size_of_the_state_and_what_it_stands_for_are_shown():
    model = readable_model()
    found = playground(model)
    press(found, "generate")
    size = model.new_cache().nbytes
    assert f"{size / 1000:.3g} kB of state stands for 14 tokens" in shown(found)  # 3 + 12, less the newest


# Stop


class Gated:
    """Lets a model's steps through one by one."""

    def __init__(self, model: Mamba2LM) -> None:
        self.permits, self.reached, self.steps = threading.Semaphore(0), threading.Semaphore(0), 0
        step = model.step

        def gated(*args, **kwargs):
            self.reached.release()
            assert self.permits.acquire(timeout=SOON)
            self.steps += 1
            return step(*args, **kwargs)

        model.step = gated  # type: ignore[method-assign]

    def let(self, count: int) -> None:
        """Let so many steps happen, and wait until the next one stands at the gate."""
        for _ in range(count):
            self.permits.release()
            assert self.reached.acquire(timeout=SOON)


def started(seed: int = 3, **options) -> tuple[Playground, Gated, Mamba2LM]:
    """A run of which the first token is there, and the second waits."""
    model = readable_model()
    found = playground(model, seed=seed, **{"length": 1000, **options})
    gate = Gated(model)
    found.controls["generate"].click()
    assert gate.reached.acquire(timeout=SOON)
    return found, gate, model


def test_stop_ends_the_run_before_the_next_token_and_leaves_no_thread():
    threads = threading.active_count()
    found, gate, model = started()
    gate.let(4)
    assert found.running and not found.controls["stop"].disabled and found.controls["continue"].disabled
    found.controls["stop"].click()
    gate.permits.release()  # the step that is under way
    assert found.wait(SOON)
    assert gate.steps == 5
    assert threading.active_count() == threads
    assert len(found.strips[0].tokens) == 6
    assert (found.entries[0].ended, found.entries[0].tokens) == ("by hand", 6)
    assert found.controls["stop"].disabled and not found.controls["continue"].disabled


def test_continue_after_a_stop_is_one_long_run_too():
    found, gate, model = started()
    gate.let(4)
    found.controls["stop"].click()
    found.controls["length"].value = 5
    gate.permits.release(20)
    assert found.wait(SOON)
    press(found, "continue")
    del model.step
    assert found.texts == [generated(model, 11, 3, temperature=0.7)]


def test_a_second_generate_ends_the_first_and_writes_its_own_text():
    found, gate, model = started()
    found.controls["seed"].value = 8
    found.controls["length"].value = 5
    found.controls["generate"].click()
    gate.permits.release(50)
    assert found.wait(SOON)
    del model.step
    assert found.texts == [generated(model, 5, 8, temperature=0.7)]
    assert [entry.ended for entry in found.entries] == ["by hand", "length"]
    assert found.last_error is None


def test_a_cell_that_is_run_again_ends_what_its_former_widget_did():
    threads = threading.active_count()
    found, gate, _ = started()
    gate.permits.release(2)
    newer = Playground("own", "ab", models={"own": (readable_model(), TOKENIZER)})
    gate.permits.release(1000)
    assert newer.wait(SOON) and found.wait(SOON)
    assert found.entries[0].ended == "by hand" and found.entries[0].tokens < 1000
    assert threading.active_count() == threads


def test_close_ends_the_run():
    found, gate, _ = started()
    gate.permits.release(5000)
    found.close()
    assert not found.running
    assert found.entries[0].tokens < 1000


# The prompt


@pytest.fixture
def short_pieces(monkeypatch):
    """A prompt is read in pieces of a chunk."""
    monkeypatch.setattr("mamba2_lab.model.network.tokens_per_piece", lambda config: config.chunk_size)


class Status:
    """Every sentence that the playground has said."""

    def __init__(self, found: Playground) -> None:
        self.said: list[str] = []
        found._session.status.observe(lambda change: self.said.append(re.sub("<[^>]*>", "", change.new)), "value")


@pytest.mark.usefixtures("short_pieces")
def test_stop_ends_the_reading_of_a_prompt_and_leaves_the_text_before_it(monkeypatch):
    monkeypatch.setattr("mamba2_lab.widgets.playground.session.METER_SECONDS", 0)
    model = readable_model()
    found = playground(model, seed=3, length=5)
    press(found, "generate")
    status, layers = Status(found), []

    def stopping(block, inputs):
        layers.append(inputs[0].shape[1])
        if len(layers) == 3:
            found.controls["stop"].click()

    hook = model.blocks[1].register_forward_pre_hook(stopping)
    found.controls["prompt"].value = "x" * 1000
    press(found, "generate")
    hook.remove()
    chunk = model.config.chunk_size
    assert layers == [chunk] * 3, "it reads on to the end of a layer, and no further"
    first, *shares, last = status.said
    assert first == "Reading the prompt with own."
    assert all(re.fullmatch(r"Reading the prompt with own, \d+%\.", said) for said in shares) and shares
    assert re.fullmatch(r"Stopped while the prompt was read: nothing is written. The kernel took \d+ ms to stop.", last)
    assert found.last_error is None and len(found.entries) == 1
    press(found, "continue")
    assert found.texts == [generated(model, 10, 3, temperature=0.7)]


@pytest.mark.usefixtures("short_pieces")
def test_two_columns_read_one_after_the_other_and_the_share_never_falls(monkeypatch):
    monkeypatch.setattr("mamba2_lab.widgets.playground.session.METER_SECONDS", 0)
    found = playground(length=2)
    found.controls["compare"].value = True
    found.controls["prompt"].value = "x" * 300
    status = Status(found)
    press(found, "generate")
    shares = [int(share) for said in status.said for share in re.findall(r"(\d+)%", said)]
    assert shares == sorted(shares) and shares[0] < 50 and shares[-1] == 100


def test_the_status_says_when_it_writes():
    found, gate, _ = started()
    gate.let(2)
    assert "Writing with own." in shown(found) and "Reading" not in shown(found)
    found.controls["stop"].click()
    gate.permits.release()
    assert found.wait(SOON)
    assert "It ended by hand, after 4 new tokens." in shown(found)


def test_one_token_is_one():
    found = playground(length=1)
    press(found, "generate")
    page = shown(found)
    assert "It ended after 1 new token." in page and "1 new token. " in page and "; 1 new token, as many as" in page
    assert "1 new tokens" not in page and "1 tokens" not in page


def test_it_says_with_how_many_threads_it_writes(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # or it would use fewer where another process takes cores
    before, used = torch.get_num_threads(), set()
    torch.set_num_threads(3)
    try:
        found = Playground("small", "ab", length=2)
        assert found.wait(SOON)
        loaded = found._shelf.get("small", "cpu")
        unembed = loaded.model.unembed
        loaded.model.unembed = lambda u: (used.add(torch.get_num_threads()), unembed(u))[1]
        press(found, "generate")
        (threads,) = used
        assert f"the CPU, with {threads} thread{'s' if threads != 1 else ''}" in shown(found)
        assert f"the CPU, with {threads + 1} " not in shown(found)
    finally:
        torch.set_num_threads(before)


# The text


def scripted(tokenizer: Tokenizer, script: list[int]) -> Loaded:
    """A model that writes these tokens."""
    return Loaded("own", Scripted(script, tokenizer.vocab_size), tokenizer)  # type: ignore[arg-type]


def test_a_character_that_lies_across_two_runs_is_whole():
    writing = Writing(scripted(TOKENIZER, [*"naïve".encode()]), "ab", SamplingConfig(temperature=0), (), seed=0)
    list(writing.run(3))
    assert (writing.text(), writing.rest) == ("na", "\ufffd"), "no chip shows a part of a character"
    list(writing.run(3))
    assert [token.text for token in writing.tokens] == ["n", "a", "", "ï", "v", "e"]
    assert writing.text(since=3) == "ïve", "a run has the characters that it finished"


@given(
    name=st.sampled_from(list(every_tokenizer())),
    prompt=st.sampled_from(["", "ab", "hello", "hello wor", "日 é"]),
    script=st.lists(st.integers(0, 10_000), min_size=1, max_size=12),
    cut=st.integers(0, 12),
)
def test_the_text_is_what_decoding_all_tokens_gives(name, prompt, script, cut):
    tokenizer = every_tokenizer()[name]
    ids = [i % tokenizer.vocab_size for i in script]
    ids = [i for i in ids if i != tokenizer.end_of_text] or [0]
    writing = Writing(scripted(tokenizer, ids), prompt, SamplingConfig(temperature=0), (), seed=0)
    first = len([*writing.run(min(cut, len(ids)))])
    list(writing.run(len(ids) - first))
    expected = text_behind(tokenizer, [tokenizer.end_of_text, *tokenizer.encode(prompt)], ids)
    if name not in BYTE_RUNS:  # there a run that was settled may still be taken back by a broken byte
        assert writing.text() + writing.rest == expected


# Two settings


def test_two_settings_write_side_by_side_from_one_seed():
    model = readable_model()
    found = playground(model, seed=6)
    found.controls["compare"].value = True
    found.controls["second temperature"].value = 2.0
    found.controls["second top_k"].value = 30
    press(found, "generate")
    assert found.texts == [
        generated(model, 12, 6, temperature=0.7),
        generated(model, 12, 6, temperature=2.0, top_k=30),
    ]
    assert [strip.text for strip in found.strips] == found.texts
    assert [entry.settings.temperature for entry in found.entries] == [0.7, 2.0]
    press(found, "continue")
    assert found.texts[1] == generated(model, 24, 6, temperature=2.0, top_k=30)
    assert [entry.continues for entry in found.entries] == [None, None, 0, 1]


def test_two_texts_grow_together():
    model = readable_model()
    found = playground(model, length=1000)
    found.controls["compare"].value = True
    gate = Gated(model)
    found.controls["generate"].click()
    assert gate.reached.acquire(timeout=SOON)
    gate.let(9)
    found.controls["stop"].click()
    gate.permits.release(1)
    assert found.wait(SOON)
    assert [len(strip.tokens) for strip in found.strips] == [6, 6]


def test_the_same_settings_write_the_same_text_twice():
    found = playground()
    found.controls["compare"].value = True
    press(found, "generate")
    assert found.texts[0] == found.texts[1] != ""


# Why this token


def test_a_chosen_token_shows_its_candidates_and_what_each_filter_removed():
    found = playground(top_k=3, top_p=0.8)
    press(found, "generate")
    found.strips[0].selected = 4
    page = shown(found)
    assert "Token 4." in page and page.count("<img") == 1
    assert "top-k: removed 254 tokens" in page
    found.strips[0].selected = None
    assert "<img" not in shown(found)
    found.strips[0].selected = 11
    found.render()
    assert "Token 11." in shown(found) and found.last_error is None


def test_the_explanation_of_a_token_is_what_the_filters_say():
    model = readable_model()
    writing = Writing(Loaded("own", model, TOKENIZER), "ab", SamplingConfig(**SETTINGS), (), seed=5)
    tokens = list(writing.run(8))
    read = [END, *TOKENIZER.encode("ab"), *(token.id for token in tokens[:7])]
    logits = model(torch.tensor([read]))[0, -1].double().detach()
    for i in set(read):  # the filters once more, by hand, in float64
        logits[i] = logits[i] / 1.3 if logits[i] > 0 else logits[i] * 1.3
    logits /= 1.2
    kept = logits.topk(40).indices.tolist()
    chance = {i: math.exp(float(logits[i] - logits[kept].logsumexp(0))) for i in kept}
    ordered, total, nucleus = sorted(chance, key=chance.get, reverse=True), 0.0, []
    while total < 0.9:
        nucleus.append(ordered[len(nucleus)])
        total += chance[nucleus[-1]]
    final = [i for i in nucleus if chance[i] >= 0.01 * chance[nucleus[0]]]
    mass = sum(chance[i] for i in final)
    found = writing.explanation(7)
    assert found.token == tokens[7].id and found.left[-3:] == (40, len(nucleus), len(final))
    for candidate, probability in zip(found.candidates, found.probabilities[-1], strict=True):
        assert probability == pytest.approx(chance[candidate] / mass if candidate in final else 0.0, abs=1e-5)


def test_the_words_name_the_filters_and_the_numbers():
    writing = Writing(Loaded("own", readable_model(), TOKENIZER), "ab", SamplingConfig(top_k=1), (), seed=5)
    list(writing.run(1))
    found = writing.explanation(0)
    first, second = in_words(found, [writing.name(i) for i in found.candidates])
    name = chr(found.candidates[0])
    assert first.startswith(f"The model gave '{name}' a probability of {100 * found.probabilities[0][0]:.1f} % (")
    assert first.endswith("It was drawn when it alone was left to draw from, with 100.0 %.")
    runners_up = ", ".join(f"'{chr(i)}'" for i in found.candidates[1:6])
    assert (
        second
        == f"top-k: removed 256 tokens that had {100 * found.removed[1]:.1f} % together, among them {runners_up}."
    )


def test_explanations_are_kept_for_the_last_tokens_only(monkeypatch):
    monkeypatch.setattr("mamba2_lab.widgets.playground.writing.EXPLAINED", 5)
    writing = Writing(Loaded("own", readable_model(), TOKENIZER), "ab", SamplingConfig(), (), seed=5)
    tokens = list(writing.run(8))
    assert [writing.explanation(i).token for i in range(3, 8)] == [token.id for token in tokens[3:]]
    for gone in (2, 8):
        with pytest.raises(IndexError, match=rf"token must lie in 3..7, the ones that are explained; got {gone}"):
            writing.explanation(gone)


# Errors


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("top_k", -3, "ValueError: top-k must be 0, to keep all, or more; got -3"),
        ("top_k", 2.5, "TypeError: top-k must be a whole number; got 2.5"),
        ("length", 0, "ValueError: new tokens must be 1 or more; got 0"),
        ("length", 2.5, "TypeError: new tokens must be a whole number; got 2.5"),
        ("seed", 2**64, "ValueError: seed must be in"),
        ("seed", 0.5, "TypeError: seed must be a whole number; got 0.5"),
    ],
)
def test_a_bad_number_is_shown_with_its_name(name, value, message):
    found = playground()
    found.controls[name].value = value
    press(found, "generate")
    assert 'role="alert"' in shown(found)
    assert message in shown(found)
    found.controls[name].value = 5
    press(found, "generate")
    assert found.last_error is None and "alert" not in shown(found)
    assert found.texts != []


def test_a_model_that_is_not_there_is_shown(tmp_path):
    found = playground()
    found.controls["elsewhere"].value = str(tmp_path / "nothing")
    found.controls["model"].value = ""
    assert found.wait(SOON)
    assert isinstance(found.last_error, FileNotFoundError)
    assert "no model at" in shown(found)
    press(found, "generate")
    assert isinstance(found.last_error, FileNotFoundError)
    found.controls["model"].value = "own"
    assert found.wait(SOON)
    assert found.last_error is None
    press(found, "generate")
    assert len(found.texts[0]) == 12


def test_no_model_chosen_is_said_so():
    found = playground()
    found.controls["model"].value = ""
    press(found, "generate")
    assert "folder or Hub id must be the path of a folder, or owner/name; got &#x27;&#x27;" in shown(found)


def test_a_folder_is_read(tmp_path):
    model = readable_model()
    model.save_pretrained(tmp_path, tokenizer=TOKENIZER)
    found = Playground(tmp_path, "ab", length=3)
    assert found.wait(SOON) and found.last_error is None
    press(found, "generate")
    assert found.entries[0].model == str(tmp_path) and found.entries[0].tokens == 3


def test_a_run_that_ends_in_an_error_goes_on_where_it_was():
    model = readable_model()
    found = playground(model, length=4)
    press(found, "generate")
    unembed = model.unembed
    model.unembed = lambda u: unembed(u) * math.nan  # type: ignore[method-assign]
    press(found, "continue")
    assert "logits must be finite numbers to sample from" in shown(found)
    assert isinstance(found.last_error, ValueError)
    assert (found.entries[1].ended, found.entries[1].tokens) == ("error", 0)
    model.unembed = unembed  # type: ignore[method-assign]
    press(found, "continue")
    assert found.last_error is None
    assert found.texts == [generated(model, 8, 0, temperature=0.7)]


def test_continue_is_for_the_model_that_wrote_the_text():
    found = playground()
    press(found, "generate")
    found.controls["model"].value = "small"
    assert found.wait(SOON)
    assert found.controls["continue"].disabled
    found.controls["model"].value = "own"
    assert found.wait(SOON)
    assert not found.controls["continue"].disabled


def test_an_error_in_a_picture_is_shown(monkeypatch):
    found = playground()
    press(found, "generate")
    monkeypatch.setattr("mamba2_lab.plots.candidates", lambda *a: 1 / 0)
    found.strips[0].selected = 0
    assert isinstance(found.last_error, ZeroDivisionError)
    assert "ZeroDivisionError" in shown(found)


# History


def read_back(settings: dict[str, Any], stop: list[str], **fields: Any) -> Entry:
    return Entry(settings=SamplingConfig(**settings), stop=tuple(stop), **fields)


def test_the_history_comes_back_from_json(tmp_path):
    found = playground(stop=["\n", "é"], **SETTINGS)
    press(found, "generate")
    press(found, "continue")
    found.save_history(tmp_path / "deep" / "all.json")
    text = (tmp_path / "deep" / "all.json").read_text(encoding="utf-8")
    assert [read_back(**fields) for fields in json.loads(text)] == found.entries
    first = json.loads(text)[0]
    assert set(first) == {field.name for field in dataclasses.fields(Entry)}
    assert first["prompt"] == "ab" and first["seed"] == 0 and first["settings"]["top_k"] == 40


def test_the_history_reads_as_text(tmp_path):
    found = playground(top_k=7)
    press(found, "generate")
    press(found, "continue")
    found.save_history(tmp_path / "all.txt")
    one, two = found.entries
    how = "own on cpu, seed 0, temperature 0.7, top-k 7; 12 new tokens, as many as asked for"
    assert (tmp_path / "all.txt").read_text(encoding="utf-8") == (
        f"# 0: {how}; {minute(one)} UTC\nab{one.text}\n\n# 1: goes on from 0, {how}; {minute(two)} UTC\n{two.text}\n"
    )


def minute(entry: Entry) -> str:
    return entry.date[:16].replace("T", " ")


def test_the_links_hold_the_history():
    found = playground()
    press(found, "generate")
    links = dict(re.findall(r'download="(\S+)" href="data:application/octet-stream;base64,([\w+/=]+)"', shown(found)))
    assert base64.b64decode(links["playground.json"]).decode() == history.to_json(found.entries)
    assert base64.b64decode(links["playground.txt"]).decode() == history.to_text(found.entries)


# Looks


def test_every_control_says_what_it_is():
    found = playground()
    nameless = [name for name, control in found.controls.items() if not control.description]
    assert nameless == []


@pytest.mark.parametrize(("widget", "base"), [(Playground, VBox), (TokenStrip, AnyWidget)])
def test_no_name_hides_one_of_the_base_class(widget, base):
    """ipywidgets has many private methods, and some are called only when a page is made."""
    assert set(vars(widget)) & set(dir(base)) <= OVERRIDDEN


OVERRIDDEN = {"__init__", "__doc__", "__module__", "__annotations__", "_esm", "_css", "_repr_mimebundle_", "close"}
OVERRIDDEN |= {
    "_trait_default_generators",
    "_all_trait_default_generators",
    "_traits",
    "_static_immutable_initial_values",
}
OVERRIDDEN |= {"_descriptors", "_instance_inits", "_states_to_send"}


def test_a_folder_field_and_a_second_column_show_when_they_are_wanted():
    found = playground()
    field, second = found.controls["elsewhere"].layout, found._columns[1].settings_box.layout
    assert (field.display, second.display) == ("none", "none")
    found.controls["model"].value = ""
    found.controls["compare"].value = True
    assert (field.display, second.display) == (None, None)


def test_threads_that_are_made_after_a_run_have_torchs_number_again():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        found = playground()
        found.controls["generate"].click()
        assert found.wait(SOON)
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
    finally:
        torch.set_num_threads(before)
    assert found.texts[0] and seen == [4]
