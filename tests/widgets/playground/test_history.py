"""The history holds what was asked and what came."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from typing import Any

from support.playgrounds import SETTINGS, playground, press, shown

from mamba2_lab.generation import SamplingConfig
from mamba2_lab.widgets.playground import history
from mamba2_lab.widgets.playground.history import Entry


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
