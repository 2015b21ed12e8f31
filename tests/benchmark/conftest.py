"""Presets that are read in no time."""

import pytest

from mamba2_lab.config import PRESETS

TINY = {"d_model": 16, "n_layer": 2, "vocab_size": 40, "d_state": 8, "headdim": 8}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "130m", TINY)
    monkeypatch.setitem(PRESETS, "medium", TINY)
    monkeypatch.setitem(PRESETS, "small", TINY)
    monkeypatch.setitem(PRESETS, "large", TINY)
