"""Adapters: they change nothing before they have learned, learn alone, and make the model that they are added to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import safetensors.torch
import torch
from support.families import each_family, family_model
from support.small_models import small_model
from support.trainings import TOKENIZER, packed, stopping_at, weights_of, without_time

from mamba2_lab import MambaLM, load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.training import Record, TrainingConfig, fit, lora, run_folder
from mamba2_lab.training.step import Learner

SETTINGS = {"steps": 5, "batch_size": 2, "length": 12, "warmup_steps": 1, "learning_rate": 0.05, "lora": 3}
MATRICES = {  # of a layer of each mixer, and of its MLP
    "mamba1": {"in_proj", "x_proj", "dt_proj", "out_proj"},
    "mamba2": {"in_proj", "out_proj"},
    "mamba3": {"in_proj", "out_proj"},
    "attention": {"in_proj", "out_proj"},
}


def run(model: MambaLM, folder: Path | None = None, resume: bool = False, **changes: object) -> list[Record]:
    options = {name: changes.pop(name) for name in ("origin", "on_step", "held_out", "tokenizer") if name in changes}
    config = TrainingConfig(**{**SETTINGS, **changes})
    return fit(model, packed(), config, folder=folder, resume=resume, progress=False, **options)


def saved_base(folder: Path, family: str = "hybrid") -> tuple[MambaLM, str]:
    """A model, and the folder where it lies with its tokenizer."""
    model = family_model(family)
    model.save_pretrained(folder, tokenizer=TOKENIZER)
    return model, str(folder)


def factors_in(folder: Path) -> dict[str, np.ndarray]:
    """A and B by their matrix, read by nothing of ours, in float64."""
    found = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    return {name.removeprefix("base_model.model."): tensor.double().numpy() for name, tensor in found.items()}


def has_adapter(name: str, model: MambaLM) -> bool:
    """Whether the weight of this name should have one."""
    match name.split("."):
        case ["layers", _, "mlp", "fc1" | "fc2", "weight"]:
            return True
        case ["layers", i, "mixer", matrix, "weight"]:
            return matrix in MATRICES[model.config.layer(int(i)).mixer]
    return False


def expected_after(before: dict[str, torch.Tensor], folder: Path) -> dict[str, np.ndarray]:
    """The oracle: W + 2 B A of every matrix that has an adapter, and all other weights as they were, in float64."""
    factors = factors_in(folder)
    expected = {name: weight.double().numpy() for name, weight in before.items()}
    for name in {name.rpartition(".lora_")[0] for name in factors}:
        expected[f"{name}.weight"] = (
            expected[f"{name}.weight"] + 2 * factors[f"{name}.lora_B.weight"] @ factors[f"{name}.lora_A.weight"]
        )
    return expected


# What is learned


@each_family
def test_adapters_alone_learn_and_the_model_becomes_what_they_say(family: str, tmp_path: Path) -> None:
    """Every matrix of the layers has one, and learns; nothing else changes by a bit."""
    model = family_model(family)
    before = weights_of(model)
    run(model, tmp_path)
    (folder,) = run_folder.checkpoints(tmp_path)
    expected, after = expected_after(before, folder), weights_of(model)
    assert after.keys() == before.keys()
    for name, weight in after.items():
        np.testing.assert_allclose(weight.double().numpy(), expected[name], rtol=0, atol=2e-6)
        assert torch.equal(weight, before[name]) != has_adapter(name, model), name


@each_family
def test_before_the_first_step_adapters_change_nothing(family: str) -> None:
    model, ids = family_model(family), torch.arange(12)[None]
    before, weights, names = model(ids), weights_of(model), [name for name, _ in model.named_modules()]
    with lora.adapters(model, 3, 0, None):
        assert torch.equal(model(ids), before)
        learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert learning and all(".lora_" in name for name in learning)
    assert [name for name, _ in model.named_modules()] == names
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters()) and not lora.has_adapters(model)


def test_every_gradient_is_that_of_the_merged_weights() -> None:
    """Of W + 2 B A: dB is 2 dW A^T, and dA is 2 B^T dW, by torch on the merged model, in float64."""
    ids = torch.arange(24).reshape(2, 12)
    adapted, merged = (family_model("hybrid", spread=0.2).double() for _ in range(2))
    with lora.adapters(adapted, 3, 0, None):
        adapted.double()
        generator = torch.Generator().manual_seed(1)
        factors = dict(adapted.named_parameters())
        factors = {name: weight for name, weight in factors.items() if weight.requires_grad}
        with torch.no_grad():
            for weight in factors.values():
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.double) * 0.1)
            for name, A in factors.items():
                if ".lora_A." in name:
                    matrix = merged.get_parameter(name.replace("lora_A.default.", ""))
                    matrix += 2 * factors[name.replace("lora_A", "lora_B")] @ A
        for model in (adapted, merged):
            model(ids).square().sum().backward()
        for name, A in factors.items():
            if ".lora_A." in name:
                B, dW = (
                    factors[name.replace("lora_A", "lora_B")],
                    merged.get_parameter(name.replace("lora_A.default.", "")).grad,
                )
                torch.testing.assert_close(A.grad, 2 * B.T @ dW, rtol=1e-7, atol=1e-9)
                torch.testing.assert_close(B.grad, 2 * dW @ A.T, rtol=1e-7, atol=1e-9)


def test_a_run_is_drawn_from_its_seed_and_leaves_torchs_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (without_time(run(small_model(), seed=seed)) for seed in (0, 0, 1))
    assert one == same != other
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{"checkpoint_blocks": True}, {"accumulation": 2}])
def test_it_learns_the_same_in_less_memory(changes: dict[str, object]) -> None:
    expected, found = without_time(run(family_model("hybrid"))), without_time(run(family_model("hybrid"), **changes))
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_in_bfloat16_it_learns_nearly_the_same() -> None:
    exact, nearly = (run(family_model("hybrid", spread=0.1), precision=name) for name in ("fp32", "bf16"))
    assert [r.loss for r in nearly] == pytest.approx([r.loss for r in exact], rel=0.02)


def test_two_documents_in_a_window_are_learned_as_each_alone() -> None:
    """Packing: with adapters too nothing passes from one document to the next."""
    model = family_model("hybrid")
    ids, document_ids = torch.arange(16)[None], (torch.arange(16) >= 7).long()[None]
    with lora.adapters(model, 3, 0, None):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_B." in name:
                    parameter.fill_(0.05)
        both = model(ids, document_ids=document_ids)
        alone = torch.cat([model(ids[:, :7]), model(ids[:, 7:])], dim=1)
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-4)


def test_what_ends_a_run_leaves_the_model_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = small_model(), torch.arange(9)[None]
    names, before = [name for name, _ in model.named_parameters()], model(ids)

    class EndedError(Exception):
        pass

    seen = []

    def look(record: Record) -> None:
        seen.append(model(ids).detach())
        if record.step == 2:
            raise EndedError

    with pytest.raises(EndedError):
        run(model, on_step=look)
    assert [name for name, _ in model.named_parameters()] == names
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model(ids), seen[-1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(ids), before, atol=1e-2)


# What is kept


def test_a_run_that_was_stopped_goes_on_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped, again = (family_model("hybrid") for _ in range(3))
    expected = without_time(run(whole))
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", stopping_at(2))
        assert without_time(run(stopped, tmp_path)) == expected[:3]
    assert without_time(run(again, tmp_path, resume=True)) == expected
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, again.get_parameter(name)), name


def test_a_checkpoint_is_small_and_holds_no_weight_of_the_model(tmp_path: Path) -> None:
    model = small_model(d_model=128)
    run(model, tmp_path, lora=1)
    (folder,) = run_folder.checkpoints(tmp_path)
    assert not (folder / "model.safetensors").exists()
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < sum(parameter.nbytes for parameter in model.parameters()) / 5
    learned = sum(array.size for array in factors_in(folder).values())
    moments = safetensors.torch.load_file(folder / "optimizer.safetensors")
    assert sum(tensor.numel() for tensor in moments.values() if tensor.ndim) == 2 * learned


def test_adapters_load_by_their_folder_merged_with_their_tokenizer(tmp_path: Path) -> None:
    model, base = saved_base(tmp_path / "base")
    run(model, tmp_path / "run", origin=base)
    (folder,) = run_folder.checkpoints(tmp_path / "run")
    for source in (folder, tmp_path / "run"):
        loaded = MambaLM.from_pretrained(source)
        for name, weight in model.named_parameters():
            torch.testing.assert_close(loaded.get_parameter(name), weight, rtol=0, atol=1e-6)
        assert load_tokenizer(source).to_dict() == TOKENIZER.to_dict(), "that of the base"
    half = MambaLM.from_pretrained(folder, dtype=torch.bfloat16)
    torch.testing.assert_close(half.embedding.weight, model.embedding.weight.bfloat16())
    assert half.dtype == torch.bfloat16 and all(parameter.requires_grad for parameter in half.parameters())


def test_adapters_load_through_peft_itself(tmp_path: Path) -> None:
    model, base = saved_base(tmp_path / "base")
    run(model, tmp_path / "run", origin=base)
    (folder,) = run_folder.checkpoints(tmp_path / "run")
    config = peft.PeftConfig.from_pretrained(folder)
    assert (config.peft_type, config.base_model_name_or_path, config.r) == ("LORA", base, 3)
    theirs = peft.PeftModel.from_pretrained(MambaLM.from_pretrained(base), folder)
    ids = torch.arange(12)[None]
    torch.testing.assert_close(theirs(ids), model(ids), rtol=1e-4, atol=1e-4)


def test_what_peft_saves_loads_here(tmp_path: Path) -> None:
    """With a scale and targets of its own choice."""
    _, base = saved_base(tmp_path / "base", "mamba2")
    theirs = peft.get_peft_model(
        MambaLM.from_pretrained(base),
        peft.LoraConfig(r=2, lora_alpha=5, target_modules=["out_proj"], init_lora_weights=False),
    )
    theirs.peft_config["default"].base_model_name_or_path = base
    theirs.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    ids = torch.arange(12)[None]
    torch.testing.assert_close(MambaLM.from_pretrained(tmp_path / "theirs")(ids), theirs(ids), rtol=1e-4, atol=1e-4)


# What is refused


def test_a_run_goes_on_with_the_model_that_it_began_with(tmp_path: Path) -> None:
    model, base = saved_base(tmp_path / "base")
    run(model, tmp_path / "run", origin=base)
    (folder,) = run_folder.checkpoints(tmp_path / "run")
    fresh = MambaLM.from_pretrained(base)
    longer = {"resume": True, "steps": 6}
    with pytest.raises(ValueError, match=r"^origin must be '.*base', as in the run to resume at .*; got 'medium'$"):
        run(fresh, tmp_path / "run", origin="medium", **longer)
    with pytest.raises(ValueError, match=r"^lora must be 3, as in the run to resume"):
        run(fresh, tmp_path / "run", origin=base, lora=2, **longer)
    with pytest.raises(ValueError, match=r"^lora must be 3, as in the run to resume"):
        run(fresh, tmp_path / "run", origin=base, lora=0, **longer)
    with pytest.raises(ValueError, match=r"^model must be the one that the run to resume at .* began with, as it was"):
        run(model, tmp_path / "run", origin=base, **longer)  # it has the adapters of the run in it already
    assert run_folder.checkpoints(tmp_path / "run") == [folder]
    assert len(run(fresh, tmp_path / "run", origin=base, **longer)) == 6


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("peft_type", "IA3", "peft_type: expected 'LORA'; found 'IA3'"),
        ("use_dora", True, "use_dora: expected False; found True"),
        ("bias", "all", "bias: expected 'none'; found 'all'"),
        ("rank_pattern", {"in_proj": 2}, "rank_pattern: expected {}; found {'in_proj': 2}"),
        ("base_model_name_or_path", None, "base_model_name_or_path: expected the model it changes; found None"),
        (
            "base_model_name_or_path",
            "nowhere",
            "base_model_name_or_path: expected a model; found no model at 'nowhere'",
        ),
        ("r", 0, "r: expected a rank of at least 1; found 0"),
        ("r", 2, r"in_proj.lora_A.weight: expected one of shape \(2, 16\); found one of shape \(3, 16\)"),
        ("lora_alpha", "6", "lora_alpha: expected a number; found '6'"),
    ],
)
def test_an_adapter_that_asks_for_something_else_is_refused(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    model, base = saved_base(tmp_path / "base", "mamba2")
    run(model, tmp_path / "run", origin=base, steps=1)
    (folder,) = run_folder.checkpoints(tmp_path / "run")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**config, field: value}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"adapter_.*: .*{message}"):
        MambaLM.from_pretrained(folder)


def test_an_adapter_of_itself_is_no_endless_search(tmp_path: Path) -> None:
    model, base = saved_base(tmp_path / "base", "mamba2")
    run(model, tmp_path / "run", origin=base, steps=1)
    (folder,) = run_folder.checkpoints(tmp_path / "run")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = str(folder)
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    for load in (MambaLM.from_pretrained, load_tokenizer):
        with pytest.raises(CheckpointError, match="expected a whole model; found the adapter"):
            load(folder)


def test_tensors_that_no_matrix_has_are_refused(tmp_path: Path) -> None:
    model, base = saved_base(tmp_path / "base", "mamba2")
    run(model, tmp_path / "run", origin=base, steps=1)
    (folder,) = run_folder.checkpoints(tmp_path / "run")
    path = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(path)
    for name in ("layers.0.mixer.A_log", "layers.7.mixer.in_proj.lora_A.weight", "embedding.lora_A.weight"):
        other = f"base_model.model.{name}"
        safetensors.torch.save_file({**tensors, other: torch.ones(3, 16)}, path)
        with pytest.raises(CheckpointError, match=rf"{other}: expected none; found one of shape \(3, 16\)"):
            MambaLM.from_pretrained(folder)


def test_without_peft_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    model = small_model()
    with pytest.raises(ModuleNotFoundError, match=r'LoRA needs peft: pip install "mamba2-lab\[lab\]"'):
        run(model)
    assert not lora.has_adapters(model)
