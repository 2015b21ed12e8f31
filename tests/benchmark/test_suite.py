"""The suite runs what was asked for, and `mamba2-lab bench` prints and keeps it."""

import inspect
import json
from typing import Any

import pytest
from support.measurements import a_record

from mamba2_lab import benchmark, cli
from mamba2_lab.benchmark import Timing, measures, suite


def test_without_a_compiler_nothing_compiled_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "can_compile", lambda kind: False)
    assert not [name for name in suite.names_for("cpu") if "compiled" in name]
    with pytest.raises(ValueError, match="needs torch.compile, which finds no compiler here; got 'decode-compiled'"):
        next(suite.run(["decode-compiled"], "cpu"))
    monkeypatch.setattr(suite, "can_compile", lambda kind: True)
    assert len([name for name in suite.names_for("cpu") if "compiled" in name]) == 4


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
    assert lines[2].split()[-4:] == ["x", "2.50", "3.0", "MiB"]


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
