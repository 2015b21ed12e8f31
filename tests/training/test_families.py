"""Every family learns, goes on after a stop to the last bit, and pulls no time scale to zero."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.families import each_family, family_config, family_model
from support.small_models import small_model
from support.trainings import packed, quick_fit, stopping_at, without_time

from mamba2_lab import MambaLM
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.training import Record, TrainingConfig, fit, parameter_groups
from mamba2_lab.training.step import Learner

LEARNING = {"steps": 20, "batch_size": 4, "length": 16, "warmup_steps": 2, "learning_rate": 1e-2}
NOT_DECAYED = {  # by the last two parts of their names
    "mamba1": {"mixer.A_log", "mixer.D", "dt_proj.bias"},
    "mamba2": {"mixer.A_log", "mixer.D", "mixer.dt_bias"},
    "mamba3": {"mixer.D", "mixer.dt_bias"},
    "attention": set(),
}


def run(model: MambaLM, folder: Path | None = None, resume: bool = False, **changes: object) -> list[Record]:
    config = TrainingConfig(**{**LEARNING, **changes})
    return fit(model, packed(), config, folder=folder, resume=resume, progress=False)


@each_family
def test_it_learns(family: str) -> None:
    losses = [record.loss for record in run(MambaLM(family_config(family), seed=0))]
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.5


def test_a_run_of_all_mixers_that_was_stopped_goes_on_to_the_same_losses_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its blocks computed again in the backward pass, as the whole run was not."""
    whole, stopped, fresh = (family_model("hybrid", seed=seed) for seed in (0, 0, 7))
    expected = without_time(run(whole, steps=5))
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", stopping_at(2))
        assert without_time(run(stopped, tmp_path, steps=5)) == expected[:3]
    found = without_time(run(fresh, tmp_path, resume=True, steps=5, checkpoint_blocks=True))
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    for name, weight in whole.named_parameters():
        torch.testing.assert_close(weight, fresh.get_parameter(name), rtol=1e-4, atol=1e-6)


@each_family
def test_in_bfloat16_it_learns_nearly_the_same(family: str) -> None:
    exact, nearly = (quick_fit(family_model(family, spread=0.1), precision=name, steps=3) for name in ("fp32", "bf16"))
    assert [r.loss for r in nearly] == pytest.approx([r.loss for r in exact], rel=0.02)


@each_family
def test_weight_decay_spares_what_sets_time_scales_and_passes_and_nothing_else(family: str) -> None:
    model = family_model(family)
    decayed, free = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [[names[id(parameter)] for parameter in group["params"]] for group in (decayed, free)]
    assert sorted(found[0] + found[1]) == sorted(names.values())
    spared = set().union(*(NOT_DECAYED[mixer] for mixer in model.config.mixer_fields_by_name))
    expected = {name for name in names.values() if ".mixer." in name and ".".join(name.split(".")[-2:]) in spared}
    assert set(found[1]) == expected


def test_a_run_of_another_family_is_refused_by_what_differs(tmp_path: Path) -> None:
    run(family_model("mamba3-siso"), tmp_path, steps=2)
    for other in (small_model(), family_model("mamba1")):
        with pytest.raises(CheckpointError, match=r"expected a checkpoint of this model, with .*; found .*mixers='mam"):
            run(other, tmp_path, resume=True, steps=2)
