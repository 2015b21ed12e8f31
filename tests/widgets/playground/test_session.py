"""Generate, Stop, Continue and Reset, through the controls and in the thread of the worker."""

from __future__ import annotations

import re
import threading
import time

import pytest
import torch
from support.playgrounds import (
    SETTINGS,
    SOON,
    TOKENIZER,
    Gated,
    generated,
    playground,
    press,
    readable_model,
    shown,
    started,
)

from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.generation import SamplingConfig
from mamba2_lab.weights.stored import storage_of
from mamba2_lab.widgets import Playground


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
    del model.advance
    assert found.texts == [generated(model, 11, 3, temperature=0.7)]


def test_a_second_generate_ends_the_first_and_writes_its_own_text():
    found, gate, model = started()
    found.controls["seed"].value = 8
    found.controls["length"].value = 5
    found.controls["generate"].click()
    gate.permits.release(50)
    assert found.wait(SOON)
    del model.advance
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


@pytest.fixture
def short_pieces(monkeypatch):
    """A prompt is read in pieces of a chunk."""
    monkeypatch.setattr("mamba2_lab.model.network.tokens_per_piece", lambda config, device: config.chunk_size)


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
        loaded = found._shelf.get("small", "cpu", "float32")
        unembed = loaded.model.unembed
        loaded.model.unembed = lambda u: (used.add(torch.get_num_threads()), unembed(u))[1]
        press(found, "generate")
        (threads,) = used
        assert f"the CPU, with {threads} thread{'s' if threads != 1 else ''}" in shown(found)
        assert f"the CPU, with {threads + 1} " not in shown(found)
    finally:
        torch.set_num_threads(before)


def test_a_page_is_told_of_new_tokens_ten_times_a_second_at_most(monkeypatch):
    found, messages = Playground("small", "ab", length=100), []
    assert found.wait(SOON)
    unembed = found._shelf.get("small", "cpu", "float32").model.unembed
    found._shelf.get("small", "cpu", "float32").model.unembed = lambda u: (time.sleep(0.005), unembed(u))[1]
    monkeypatch.setattr(found.strips[0], "send", messages.append)
    began = time.perf_counter()
    press(found, "generate")
    assert len(messages) <= 10 * (time.perf_counter() - began) + 2, "the first comes at once, the last at the end"
    assert "".join(text for message in messages for text in message["tokens"]) == found.strips[0].text


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


def test_it_writes_with_the_weights_that_are_chosen_and_says_so():
    found = Playground("small", "ab", length=2)
    assert found.wait(SOON)
    for weights in ("int4", "bfloat16", "float32"):
        found.controls["weights"].value = weights
        assert found.wait(SOON)
        press(found, "generate")
        model = found._columns[0].writing.loaded.model
        kept = storage_of(model) or str(model.dtype).removeprefix("torch.")
        assert kept == weights
        assert found._session.entries[-1].model == ("small" if weights == "float32" else f"small in {weights}")
        assert found._can_continue()
    found.controls["weights"].value = "int8"
    assert found.wait(SOON)
    assert not found._can_continue()  # that text is another model's


def test_a_model_that_was_saved_in_8_bits_stays_so_and_is_called_so(tmp_path):
    model, tokenizer = Mamba2LM.from_pretrained("small", weights="int8"), load_tokenizer("small")
    model.save_pretrained(tmp_path, tokenizer=tokenizer)
    found = Playground(tmp_path, "ab", length=2, models={"own": (model, tokenizer)})
    assert found.wait(SOON) and found.controls["weights"].value == "float32"
    assert f"{tmp_path} in int8 is ready on" in shown(found)
    press(found, "generate")
    assert found._can_continue()
    found.controls["model"].value = "own"
    assert found.wait(SOON)
    assert "own in int8 is ready on" in shown(found)
    press(found, "generate")
    assert [entry.model for entry in found.entries] == [f"{tmp_path} in int8", "own in int8"]
