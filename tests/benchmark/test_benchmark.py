"""The clock, the records and what is timed. No test here depends on how fast this machine is."""

import dataclasses
import inspect
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from support.oracle.mamba2 import raises, recurrence, relative_error
from torch._dynamo.utils import counters

from mamba2_lab import benchmark, cli
from mamba2_lab.benchmark import Record, Timing, clock, measures, record, suite
from mamba2_lab.config import PRESETS
from mamba2_lab.layers import Projection

TINY = {"d_model": 16, "n_layer": 2, "vocab_size": 40, "d_state": 8, "headdim": 8}


class FakeClock:
    """Time passes only when work says so; `log` tells in which order things happened."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, list[str]()

    def read(self) -> float:
        self.log.append("read")
        return self.now

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """Work that takes the given times, one after another; the last one again and again."""
        times = list(seconds)

        def call() -> None:
            self.log.append(name)
            self.now += times.pop(0) if len(times) > 1 else times[0]

        return call


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(clock.time, "perf_counter", fake.read)
    monkeypatch.setattr(clock, "synchronise", lambda device: fake.log.append(f"wait for {device}"))
    return fake


def test_the_first_call_of_each_is_not_counted_and_the_rest_give_median_and_quartiles(fake: FakeClock) -> None:
    found = benchmark.measure({"a": fake.work("a", 100, 1, 2, 3, 4, 5), "b": fake.work("b", 50, 7)}, "cpu", seconds=1)
    assert found == {"a": Timing(3, 2, 4, 5), "b": Timing(7, 7, 7, 5)}


def test_contestants_take_turns(fake: FakeClock) -> None:
    benchmark.measure({"a": fake.work("a", 1), "b": fake.work("b", 1)}, "cpu", seconds=1)
    assert [name for name in fake.log if name in "ab"] == ["a", "b"] * 6


def test_the_device_is_waited_for_before_each_reading_of_the_clock(fake: FakeClock) -> None:
    benchmark.measure({"a": fake.work("a", 1)}, "mps", seconds=1)
    around_work = " ".join(fake.log).split(" a ")
    assert len(around_work) == 7
    assert all(part.endswith("wait for mps read") for part in around_work[:-1])
    assert all(part.startswith("wait for mps read") for part in around_work[1:])


def test_rounds_go_on_until_the_time_is_up(fake: FakeClock) -> None:
    assert benchmark.measure({"a": fake.work("a", 1)}, "cpu", seconds=30)["a"].rounds == 30
    assert benchmark.measure({"a": fake.work("a", 100)}, "cpu", seconds=30)["a"].rounds == clock.LEAST_ROUNDS


@pytest.mark.parametrize(
    ("contestants", "seconds", "words"),
    [
        ({}, 1.0, ("contestants must be at least one",)),
        ({"a": print}, 0, ("seconds must be a finite number above 0", "got 0")),
    ],
)
def test_nothing_to_time_is_an_error(contestants: dict[str, Any], seconds: float, words: tuple[str, ...]) -> None:
    with raises(ValueError, *words):
        benchmark.measure(contestants, "cpu", seconds)


def test_the_peak_is_what_is_alive_at_one_moment() -> None:
    def one_after_another() -> None:
        for _ in range(3):
            torch.empty(4 * 2**20, dtype=torch.uint8)

    def together() -> list[torch.Tensor]:
        return [torch.empty(4 * 2**20, dtype=torch.uint8) for _ in range(3)]

    assert benchmark.peak_bytes(one_after_another, "cpu") == pytest.approx(4 * 2**20, abs=4096)
    assert benchmark.peak_bytes(together, "cpu") == pytest.approx(12 * 2**20, abs=4096)


def test_the_profiler_is_not_heard_and_everything_else_is(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        os.write(2, b"the work\n")

    with clock._without_its_progress():
        os.write(
            2, b"USDT:2026-03-24 10:21:48 6508:6508 SyncActivityProfilerHandler.cpp:52] profiler_start\na warning\n"
        )
        os.write(
            2, b"STAGE:2026-03-24 10:21:48 6508:6508 ActivityProfilerController.cpp:314] Completed Stage: Warm Up\n"
        )
    benchmark.peak_bytes(work, "cpu")
    assert capfd.readouterr().err == "a warning\nthe work\n"
    with pytest.raises(KeyError):  # what the work raises comes through, and the profiler has stopped
        benchmark.peak_bytes(lambda: {}["gone"], "cpu")
    benchmark.peak_bytes(work, "cpu")
    assert capfd.readouterr().err == "the work\n"


def test_a_device_that_does_not_count_its_memory_is_refused() -> None:
    with raises(ValueError, "device must be cpu or cuda", "got 'mps'"):
        benchmark.peak_bytes(print, "mps")


# Records


def a_record(**changes: Any) -> Record:
    fields = {"measure": "scan", "contestant": "ours", "settings": {"l": 8}, "timing": Timing(2e-3, 1e-3, 3e-3, 9)}
    return Record(**{**fields, **benchmark.here("cpu"), **changes})


def test_records_come_back_as_they_were_written(tmp_path) -> None:
    records = [a_record(), a_record(timing=None, bytes=5)]
    benchmark.write(records, tmp_path / "r.jsonl")
    assert benchmark.read(tmp_path / "r.jsonl") == records


def test_a_record_says_what_it_ran_on() -> None:
    found = a_record()
    assert found.versions["torch"] == torch.__version__
    assert found.versions["transformers"] == transformers.__version__
    assert found.machine["threads"] == torch.get_num_threads()
    assert found.machine["device"] == "cpu"
    assert found.machine["name"] == found.machine["processor"] not in ("", "cpu")
    assert found.machine["process_peak_bytes"] > 10 * 2**20
    assert len(found.date) == len("2026-01-31")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is no record"),
        ("[1]", "is no record"),
        ('{"measure": "scan", "timing": null}', "missing"),
        (json.dumps({**dataclasses.asdict(a_record()), "version": 2}), "must be of version 1; got 2"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line: str, words: str) -> None:
    path = tmp_path / "r.jsonl"
    benchmark.write([a_record()], path)
    path.write_text(path.read_text() + line + "\n")
    with raises(ValueError, "r.jsonl, line 2", words):
        benchmark.read(path)


def test_shipped_records_are_those_of_every_file(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "SHIPPED", tmp_path)
    assert benchmark.shipped() == []
    first, second = a_record(measure="a"), a_record(measure="b")
    benchmark.write([second], tmp_path / "b.jsonl")
    benchmark.write([first], tmp_path / "a.jsonl")
    assert benchmark.shipped() == [first, second]


def test_records_in_the_package_can_be_read_and_were_all_timed() -> None:
    for found in benchmark.shipped():
        assert found.measure in suite.SUITE and found.timing is not None
        assert found.machine["device"] != "mps", "none is shipped until a Mac made one, and the notebook says so"


def test_a_machine_is_named_in_a_few_words() -> None:
    machine = {"device": "cpu", "name": "some chip", "threads": 2}
    assert benchmark.where(a_record(machine=machine)) == "some chip, 2 threads"
    assert benchmark.where(a_record(machine={**machine, "threads": 1})) == "some chip, 1 thread"
    assert benchmark.where(a_record(machine={**machine, "device": "cuda"})) == "some chip"


# What is timed is the same thing


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "130m", TINY)
    monkeypatch.setitem(PRESETS, "medium", TINY)
    monkeypatch.setitem(PRESETS, "small", TINY)
    monkeypatch.setitem(PRESETS, "large", TINY)


def test_all_scans_compute_the_same() -> None:
    works = measures.scan_forward("cpu", l=70, h=4, p=8, g=2, n=8)
    y, state = works.pop("ours")()
    assert len(works) == 2
    for work in works.values():
        theirs, their_state = work()
        torch.testing.assert_close(theirs, y, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(their_state, state, rtol=1e-4, atol=1e-5)


def test_both_models_read_the_same_prompt_to_the_same_end(tiny: None) -> None:
    works = measures.prefill("cpu", l=40)
    logits, _ = works["ours"]()
    theirs = works["transformers"]().logits
    assert theirs.shape == (1, 1, 40)
    torch.testing.assert_close(theirs[:, 0], logits, rtol=1e-4, atol=1e-5)
    assert not logits.requires_grad


def test_both_models_read_the_same_token_from_the_same_state(tiny: None) -> None:
    works = measures.decode("cpu")
    torch.testing.assert_close(works["transformers"]().logits[:, -1], works["ours"]()[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("measure", [measures.prefill, measures.decode])
def test_a_compiled_model_is_timed_beside_itself_as_written(
    tiny: None, monkeypatch: pytest.MonkeyPatch, measure: Any
) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **_: compile_(f, backend="aot_eager", fullgraph=True))
    torch._dynamo.reset()
    works = measure("cpu", compiled=True)
    assert list(works)[:3] == ["ours", "ours, as written", "transformers"]
    counters.clear()
    written = works["ours, as written"]()[0]
    assert counters["stats"]["unique_graphs"] == 0
    torch.testing.assert_close(works["ours"]()[0], written)
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()


def test_without_a_compiler_nothing_compiled_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "can_compile", lambda kind: False)
    assert not [name for name in suite.names_for("cpu") if "compiled" in name]
    with pytest.raises(ValueError, match="needs torch.compile, which finds no compiler here; got 'decode-compiled'"):
        next(suite.run(["decode-compiled"], "cpu"))
    monkeypatch.setattr(suite, "can_compile", lambda kind: True)
    assert len([name for name in suite.names_for("cpu") if "compiled" in name]) == 4


def test_both_models_take_the_same_training_step(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []

    def note_norm(loss: torch.Tensor) -> None:
        backward(loss)
        norms.append((loss.item(), loss.grad_fn is not None))

    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", note_norm)
    for work in measures.training_step("cpu", b=2, l=20).values():
        work()
    (ours, _), (theirs, _) = norms
    assert theirs == pytest.approx(ours, rel=1e-5)


def test_the_ways_to_scan_agree_with_the_recurrence() -> None:
    inputs = measures.scan_inputs("cpu", 1, 70, 4, 8, 1, 8)
    x, dt, A, B, C = inputs
    y, state = recurrence(x * dt[..., None], dt * A, B, C)
    works = measures.scan_ways("cpu", l=70, h=4, p=8, n=8)
    assert list(works) == ["sequential", "quadratic", "chunked"]
    works["alone"] = measures.scan_alone("cpu", l=70, h=4, p=8, n=8)["chunked"]
    for work in works.values():
        for found, expected in zip(work(), (y, state), strict=True):
            assert relative_error(found, expected) < 1e-6


def test_the_scan_in_bfloat16_is_timed_beside_one_that_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_replayed", lambda work: work)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    works = measures.scan_bfloat16("cpu", shape=(2, 100, 4, 8, 2, 16))
    y, state = works["ours"]()
    for name in ("ours, as written", "transformers, chunks of 64"):
        their_y, their_state = works[name]()
        assert relative_error(their_y.float().reshape(y.shape), y.double()) <= 2e-2, name
        assert relative_error(their_state.float(), state.double()) <= 2e-2, name


def test_reading_gives_logits_their_argmax_and_one_token_more(tiny: None) -> None:
    works = measures.reading("cpu", preset="small", b=2, l=9)
    logits = works["forward"]()
    assert logits.shape == (2, 9, 40) and not logits.requires_grad
    assert works["first token"]().tolist() == logits[:, -1].argmax(dim=-1).tolist()
    again = measures._model("small", "cpu")
    ids = measures._ids("small", (2, 9), "cpu")
    longer = again(torch.cat([ids, ids[:, :1]], dim=1))
    torch.testing.assert_close(works["step"]()[0], longer[:, -1], rtol=1e-4, atol=1e-5)


def test_reading_computes_in_the_dtype_asked_for(tiny: None) -> None:
    exact, rounded = (measures.reading("cpu", l=9, dtype=dtype)["forward"]() for dtype in ("float32", "bfloat16"))
    error = relative_error(rounded, exact)
    assert 1e-4 < error < 0.1


def test_a_transformer_reads_one_token_after_as_many_each_time(tiny: None) -> None:
    works = measures.after_reading("cpu", preset="medium", l=6)
    first, second = works["KV cache"](), works["KV cache"]()
    ids = measures._ids("medium", (1, 6), "cpu")
    llama = measures._llama("medium", "cpu")
    expected = llama(torch.cat([ids, ids[:, :1]], dim=1)).logits[:, -1:]
    for found in (first, second):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    logits = measures._model("medium", "cpu")(torch.cat([ids, ids[:, :1]], dim=1))[:, -1]
    torch.testing.assert_close(works["state"]()[0], logits, rtol=1e-4, atol=1e-5)


def test_what_is_kept_grows_with_the_length_or_does_not(tiny: None) -> None:
    few, many = (measures.kept_bytes("cpu", preset="medium", l=l) for l in (3, 12))
    # keys and values, 6 layers of 5 heads of 64 numbers; states (h,p,n) and windows (3,channels) in 2 layers
    assert (few["KV cache"], many["KV cache"]) == tuple(4 * 2 * 6 * 5 * 64 * l for l in (3, 12))
    assert few["state"] == many["state"] == 4 * 2 * (4 * 8 * 8 + 3 * (32 + 2 * 8))


def test_two_places_compute_the_same_and_leave_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, asked = [3], []
    monkeypatch.setattr(measures.torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(measures.torch, "set_num_threads", lambda n: (threads.append(n), asked.append(n)))
    works = measures.two_places("cpu", d_model=32, l=5)
    assert list(works) == ["one thread", "all threads"]
    one, every = (work() for work in works.values())
    torch.testing.assert_close(one, every)
    assert asked == [1, 3]


def test_an_accelerator_is_held_against_the_cpu() -> None:
    works = measures.two_places("meta", d_model=32, l=5)
    assert list(works) == ["cpu", "meta"]
    assert works["cpu"]().device.type == "cpu" and works["meta"]().device.type == "meta"


@pytest.mark.parametrize("l", [1, 6])
def test_the_parts_are_those_of_a_mixer(tiny: None, l: int) -> None:
    works = measures.parts("cpu", preset="large", l=l)
    assert list(works) == ["in_proj", "convolution", "scan", "norm", "out_proj"]
    projected = [works["in_proj"]() for _ in range(3)]
    assert not torch.equal(projected[0], projected[1]), "each call takes the next layer"
    torch.testing.assert_close(projected[0], projected[2])  # there are two
    lead = (1,) if l == 1 else (1, l)
    convolved = works["convolution"]()
    shape = (convolved[0] if l == 1 else convolved).shape
    assert shape == (*lead, 32 + 2 * 8) and works["out_proj"]().shape == (*lead, 16)
    y, state = works["scan"]()
    assert y.shape == (*lead, 4, 8) and state.shape == (1, 4, 8, 8)


def test_ceilings_are_one_product_and_one_pass_over_memory() -> None:
    works = measures.ceilings("cpu", n=8, numbers=1000)
    assert works["matrix product"]().shape == (8, 8)
    assert works["reading memory"]().item() == 1000


def test_a_ceiling_is_multiplied_by_what_multiplies_in_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Projection, "forward", lambda self, input: "as in a model")
    assert measures.ceilings("cpu", n=8, numbers=1)["matrix product"]() == "as in a model"


# The command


def test_a_sweep_measures_every_combination() -> None:
    entry = suite.Entry(measures.scan_ways, {"h": 2}, over={"l": [4, 8], "n": [1, 2]})
    expected = [{"h": 2, "l": l, "n": n} for l, n in ((4, 1), (4, 2), (8, 1), (8, 2))]
    assert entry.points() == expected


def test_a_measure_for_another_device_is_left_out_and_refused_by_name(capsys) -> None:
    assert "scan-bfloat16" not in suite.names_for("cpu")
    assert "scan-bfloat16" in suite.names_for("cuda")
    assert cli.main(["bench", "scan-bfloat16", "--device", "cpu"]) == 1
    assert (
        "measure must be possible on cpu, and this one is for cuda alone; got 'scan-bfloat16'"
        in capsys.readouterr().err
    )


def test_the_time_of_a_call_is_shared_by_what_it_repeats(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = suite.Entry(lambda device, **settings: {"ours": print}, calls=20)
    monkeypatch.setitem(suite.SUITE, "scan", entry)
    monkeypatch.setattr(suite, "measure", lambda *_: {"ours": Timing(2.0, 1.0, 3.0, 5)})
    (found,) = suite.run_point("scan", {}, "cpu", seconds=1.0)
    assert found.timing == Timing(0.1, 0.05, pytest.approx(0.15), 5)


def test_a_device_that_counts_no_memory_is_timed_all_the_same(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    timing, as_on_a_mac = Timing(2.0, 1.0, 3.0, 5), benchmark.here("cpu")
    entry = suite.Entry(lambda device, **settings: {"ours": print}, {"l": 20}, memory=True)
    monkeypatch.setitem(suite.SUITE, "scan", entry)
    monkeypatch.setattr(suite, "measure", lambda contestants, device, seconds: dict.fromkeys(contestants, timing))
    monkeypatch.setattr(suite, "here", lambda device: as_on_a_mac)
    (found,) = suite.run_point("scan", {"l": 20}, "mps", seconds=1.0)
    assert found.timing == timing and found.bytes is None


def test_a_sweep_has_a_line_for_each_point(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = suite.Entry(measures.after_reading, {"preset": "medium"}, {"l": [2, 5]}, kept=measures.kept_bytes)
    monkeypatch.setattr(suite, "SUITE", {"state": entry})
    (records,) = suite.run(["state"], "cpu", seconds=0.01)
    assert [(record.settings["l"], record.contestant) for record in records] == [
        (l, name) for l in (2, 5) for name in ("state", "KV cache")
    ]
    assert [record.bytes for record in records if record.contestant == "KV cache"] == [30720, 76800]
    title, names, *rows = suite.table(records).splitlines()
    assert title == "state: preset medium"
    assert names.split() == ["l", "state,", "ms", "KV", "cache,", "ms"]
    assert [row.split()[0] for row in rows] == ["2", "5"] and all("MiB" in row for row in rows)


def test_every_measure_of_the_suite_takes_its_settings() -> None:
    for name, entry in suite.SUITE.items():
        for settings in entry.points():
            inspect.signature(entry.measure).bind("cpu", **settings)
            json.dumps(settings)
            assert entry.kept is None or inspect.signature(entry.kept).bind("cpu", **settings), name


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"l": 20, "h": 2, "p": 4, "n": 4}
    monkeypatch.setattr(suite, "SUITE", {"scan": suite.Entry(measures.scan_forward, settings, memory=True)})


def test_the_command_prints_a_table_and_writes_records(quick: None, tmp_path, capsys) -> None:
    out = tmp_path / "records.jsonl"
    assert cli.main(["bench", "--device", "cpu", "--seconds", "0.01", "--out", str(out)]) == 0
    records = benchmark.read(out)
    assert [found.contestant for found in records] == list(measures.scan_forward("cpu", l=4))
    printed = capsys.readouterr().out
    assert "scan: l 20" in printed
    assert all(found.contestant in printed for found in records)
    assert all(found.timing and found.timing.rounds >= 5 and found.bytes for found in records)


def test_a_table_compares_with_the_first() -> None:
    slower = a_record(contestant="theirs", timing=Timing(5e-3, 4e-3, 6e-3, 9), bytes=3 * 2**20)
    lines = suite.table([a_record(), slower]).splitlines()
    assert lines[0] == "scan: l 8"
    assert lines[1].split()[:3] == ["ours", "2.00", "ms"]
    assert lines[1].split()[-1] == "1.00"
    assert lines[2].split()[-4:] == ["x", "2.50", "3", "MiB"]


def test_an_unknown_measure_is_refused_before_any_is_run(quick: None, capsys) -> None:
    assert cli.main(["bench", "scan", "speed", "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert printed.err == "mamba2-lab bench: measure must be among scan; got 'speed'\n"
    assert printed.out == ""


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan", "soon"])
def test_no_time_to_measure_in_is_refused_before_anything_is_run(quick: None, seconds: str, capsys) -> None:
    assert cli.main(["bench", "--device", "cpu", "--seconds", seconds]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("mamba2-lab bench: --seconds must be a ") and printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("name", ["kept.jsonl", "gone/new.jsonl", "."])
def test_records_are_written_to_a_new_file_only(quick: None, tmp_path, name: str, capsys) -> None:
    (tmp_path / "kept.jsonl").write_text("mine")
    assert cli.main(["bench", "--device", "cpu", "--out", str(tmp_path / name)]) == 1
    assert capsys.readouterr().err.startswith("mamba2-lab bench: --out must be the name of a new file in a folder")
    assert (tmp_path / "kept.jsonl").read_text() == "mine"


def test_an_interrupted_command_keeps_what_was_measured(quick: None, tmp_path, monkeypatch, capsys) -> None:
    def interrupted(*_: object, **settings: Any) -> measures.Contestants:
        raise KeyboardInterrupt

    monkeypatch.setitem(suite.SUITE, "decode", suite.Entry(interrupted))
    out = tmp_path / "records.jsonl"
    assert cli.main(["bench", "--device", "cpu", "--seconds", "0.01", "--out", str(out)]) == 130
    assert {found.measure for found in benchmark.read(out)} == {"scan"}
    assert capsys.readouterr().err == ""
