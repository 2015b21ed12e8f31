"""Weights in and out, bit for bit, in three layouts; and every file that is not what it should be, refused by name."""

from __future__ import annotations

import functools
import json
import math
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.small_models import random_ids, small_model
from support.strange_files import needs_posix, of_strange_files, soon
from torch import Tensor

from mamba2_lab import Mamba2LM, load_tokenizer, text
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.weights import loading, models_in_the_box, save_official

WEIGHTS = "model.safetensors"
COMMON_VARIANTS = [
    {},
    {"tie_embeddings": False},
    {"ngroups": 2},
    {"bias": True, "conv_bias": False},
    {"dt_limit": (0.01, 0.2)},
    {"dt_limit": (0.01, math.inf)},
    {"d_conv": 2, "expand": 1, "n_layer": 3, "pad_vocab_size_multiple": 16},
]
OFFICIAL_VARIANTS = [*COMMON_VARIANTS, {"norm_before_gate": True}]
ALL_VARIANTS = [*OFFICIAL_VARIANTS, {"learnable_init_states": True}, {"norm_eps": 1e-6, "dt_min": 0.01}]


def assert_same(one: Mamba2LM, two: Mamba2LM) -> None:
    """Every weight equal in every bit, NaN included, and the same configuration."""
    assert one.config == two.config
    assert_same_weights(one, two)


def assert_same_weights(one: Mamba2LM, two: Mamba2LM) -> None:
    first, second = one.state_dict(), two.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert_same_bits(first[name], second[name], name)


def assert_same_bits(one: Tensor, two: Tensor, name: str) -> None:
    assert (one.dtype, one.shape) == (two.dtype, two.shape), name
    bits = {2: torch.int16, 4: torch.int32}[one.element_size()]
    assert torch.equal(one.contiguous().view(bits), two.contiguous().view(bits)), name


def read(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / name)


def write(folder: Path, weights: dict[str, Tensor]) -> None:
    safetensors.torch.save_file(weights, folder / WEIGHTS)


def read_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def write_config(folder: Path, config: object) -> None:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


# Our layout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("changes", ALL_VARIANTS, ids=str)
def test_a_saved_model_is_loaded_bit_for_bit(tmp_path, changes, dtype):
    model = small_model(**changes).to(dtype)
    model.save_pretrained(tmp_path)
    assert_same(Mamba2LM.from_pretrained(tmp_path, dtype=dtype), model)


def test_numbers_that_are_no_numbers_are_kept_as_they_are(tmp_path):
    model = small_model()
    with torch.no_grad():
        model.embedding.weight[0, :4] = torch.tensor([math.nan, math.inf, -0.0, 1e-42])
    model.save_pretrained(tmp_path)
    assert_same(Mamba2LM.from_pretrained(tmp_path), model)


def test_a_tied_head_is_stored_once_and_tied_again(tmp_path):
    small_model().save_pretrained(tmp_path)
    assert "lm_head.weight" not in read(tmp_path)
    model = Mamba2LM.from_pretrained(tmp_path)
    assert model.lm_head.weight is model.embedding.weight


def test_a_head_of_its_own_is_stored_and_stays_its_own(tmp_path):
    small_model(tie_embeddings=False).save_pretrained(tmp_path)
    model = Mamba2LM.from_pretrained(tmp_path)
    assert model.lm_head.weight is not model.embedding.weight
    assert not torch.equal(model.lm_head.weight, model.embedding.weight)


def test_a_loaded_model_computes_what_the_saved_one_did_and_can_be_trained(tmp_path):
    model, ids = small_model(), random_ids(2, 9)
    model.save_pretrained(tmp_path)
    loaded = Mamba2LM.from_pretrained(str(tmp_path))
    assert torch.equal(loaded(ids), model(ids))
    loaded(ids).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_what_is_done_to_a_loaded_model_does_not_reach_the_file(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    loaded = Mamba2LM.from_pretrained(tmp_path)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    assert_same(Mamba2LM.from_pretrained(tmp_path), model)


def test_weights_are_read_in_the_dtype_that_is_asked_for(tmp_path):
    model = small_model().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    assert_same(Mamba2LM.from_pretrained(tmp_path), model.float())  # exact: float32 holds every bfloat16
    small = Mamba2LM.from_pretrained(tmp_path, dtype=torch.float16)
    assert {parameter.dtype for parameter in small.parameters()} == {torch.float16}


def test_a_tokenizer_travels_with_the_model(tmp_path):
    small_model().save_pretrained(tmp_path, tokenizer=ByteTokenizer())
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode("né")) == "né"


def test_a_model_saved_without_a_tokenizer_says_so(tmp_path):
    small_model().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no tokenizer: expected a file"):
        load_tokenizer(tmp_path)


def test_config_json_is_json_also_where_a_limit_is_infinite(tmp_path):
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    small_model(dt_limit=(0.0, math.inf)).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    config = json.loads(text, parse_constant=no_constant)
    assert config["model_type"] == "mamba2_lab"
    assert config["dt_limit"] == [0.0, {"__float__": "Infinity"}]


def no_space(*_, **__) -> None:
    raise OSError("disk full")


def half_a_file(_, path, **__) -> None:
    Path(path).write_bytes(b"half")
    no_space()


@pytest.mark.parametrize(
    ("function", "failing"),
    [("safetensors.torch.save_file", half_a_file), ("mamba2_lab.weights.loading.write_text", no_space)],
    ids=["in the weights", "in the config"],
)
def test_a_save_that_fails_leaves_the_old_model_whole_and_no_other_file(tmp_path, monkeypatch, function, failing):
    old = small_model(seed=1)
    old.save_pretrained(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    monkeypatch.setattr(function, failing)
    with pytest.raises(OSError, match="disk full"):
        small_model(seed=2, n_layer=1).save_pretrained(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert_same(Mamba2LM.from_pretrained(tmp_path), old)


# The official layout. Names, shapes and fields are those of state-spaces/mamba, written out here once more.


def official_shapes(d_model: int, n_layer: int, rows: int, d_state: int, heads: int) -> dict[str, tuple[int, ...]]:
    """The tensors of `MambaLMHeadModel` with Mamba2 layers: ngroups 1, d_conv 4, expand 2, no bias."""
    d_inner = 2 * d_model
    conv_dim = d_inner + 2 * d_state
    shapes = {"backbone.embedding.weight": (rows, d_model)}
    for i in range(n_layer):
        layer = f"backbone.layers.{i}"
        shapes |= {
            f"{layer}.norm.weight": (d_model,),
            f"{layer}.mixer.in_proj.weight": (2 * d_inner + 2 * d_state + heads, d_model),
            f"{layer}.mixer.conv1d.weight": (conv_dim, 1, 4),
            f"{layer}.mixer.conv1d.bias": (conv_dim,),
            f"{layer}.mixer.dt_bias": (heads,),
            f"{layer}.mixer.A_log": (heads,),
            f"{layer}.mixer.D": (heads,),
            f"{layer}.mixer.norm.weight": (d_inner,),
            f"{layer}.mixer.out_proj.weight": (d_model, d_inner),
        }
    return {**shapes, "backbone.norm_f.weight": (d_model,), "lm_head.weight": (rows, d_model)}


OFFICIAL_MIXER_ARGUMENTS = {  # of mamba_ssm.modules.mamba2.Mamba2.__init__, those that a config may set
    *("d_state", "d_conv", "conv_init", "expand", "headdim", "d_ssm", "ngroups", "A_init_range", "D_has_hdim"),
    *("rmsnorm", "norm_before_gate", "dt_min", "dt_max", "dt_init_floor", "dt_limit", "bias", "conv_bias"),
    *("chunk_size", "use_mem_eff_path"),
}


@pytest.fixture
def official_folder(tmp_path) -> Path:
    """As the official code writes it, but for the file's name: that of state-spaces/mamba2-130m, made small."""
    generator = torch.Generator().manual_seed(0)
    shapes = official_shapes(d_model=64, n_layer=2, rows=32, d_state=128, heads=2)
    weights = {name: torch.rand(shape, generator=generator) - 0.5 for name, shape in shapes.items()}
    weights["lm_head.weight"] = weights["backbone.embedding.weight"].clone()
    write(tmp_path, weights)
    write_config(
        tmp_path,
        {
            "d_model": 64,
            "d_intermediate": 0,
            "n_layer": 2,
            "vocab_size": 27,
            "ssm_cfg": {"layer": "Mamba2"},
            "attn_layer_idx": [],
            "attn_cfg": {},
            "rms_norm": True,
            "residual_in_fp32": True,
            "fused_add_norm": True,
            "pad_vocab_size_multiple": 16,
            "tie_embeddings": True,
        },
    )
    return tmp_path


def test_an_official_folder_is_read_with_the_official_defaults(official_folder):
    model = Mamba2LM.from_pretrained(official_folder)
    config = model.config
    assert (config.d_state, config.headdim, config.chunk_size, config.ngroups) == (128, 64, 256, 1)
    assert (config.vocab_size, config.padded_vocab_size, config.tie_embeddings) == (27, 32, True)
    weights = read(official_folder)
    mixer = model.layers[1].mixer
    for ours, name in {
        model.embedding.weight: "backbone.embedding.weight",
        model.norm_f.weight: "backbone.norm_f.weight",
        model.layers[1].norm.weight: "backbone.layers.1.norm.weight",
        mixer.in_proj.weight: "backbone.layers.1.mixer.in_proj.weight",
        mixer.conv1d.weight: "backbone.layers.1.mixer.conv1d.weight",
        mixer.conv1d.bias: "backbone.layers.1.mixer.conv1d.bias",
        mixer.dt_bias: "backbone.layers.1.mixer.dt_bias",
        mixer.A_log: "backbone.layers.1.mixer.A_log",
        mixer.D: "backbone.layers.1.mixer.D",
        mixer.norm.weight: "backbone.layers.1.mixer.norm.weight",
        mixer.out_proj.weight: "backbone.layers.1.mixer.out_proj.weight",
    }.items():
        assert_same_bits(ours.detach(), weights[name], name)


def test_an_official_model_computes_what_transformers_computes_with_its_weights(official_folder):
    transformers = pytest.importorskip("transformers")
    config = transformers.Mamba2Config(
        hidden_size=64, num_hidden_layers=2, vocab_size=32, state_size=128, head_dim=64, num_heads=2, n_groups=1,
        tie_word_embeddings=True,
    )  # fmt: skip
    theirs = transformers.Mamba2ForCausalLM(config)
    theirs.load_state_dict(
        {
            name.replace("backbone.embedding.", "backbone.embeddings."): tensor
            for name, tensor in read(official_folder).items()
        }
    )
    ids = random_ids(2, 9, vocab_size=27)
    ours = Mamba2LM.from_pretrained(official_folder)(ids)
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(ids).logits[..., :27], rtol=1e-4, atol=1e-4)


def test_the_official_layout_is_written_with_the_official_names_shapes_and_fields(tmp_path):
    model = small_model(d_model=16, n_layer=2, vocab_size=27, d_state=8, headdim=16)
    save_official(model, tmp_path)
    weights = read(tmp_path)
    expected = official_shapes(d_model=16, n_layer=2, rows=32, d_state=8, heads=2)
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == expected
    assert torch.equal(weights["lm_head.weight"], weights["backbone.embedding.weight"])
    config = read_config(tmp_path)
    assert config["ssm_cfg"]["layer"] == "Mamba2"
    assert config["ssm_cfg"].keys() - {"layer"} <= OFFICIAL_MIXER_ARGUMENTS
    assert config.keys() == {
        *("d_model", "d_intermediate", "n_layer", "vocab_size", "ssm_cfg", "attn_layer_idx", "attn_cfg", "rms_norm"),
        *("residual_in_fp32", "fused_add_norm", "pad_vocab_size_multiple", "tie_embeddings"),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("changes", OFFICIAL_VARIANTS, ids=str)
def test_official_layout_out_and_in_is_bit_exact(tmp_path, changes, dtype):
    model = small_model(**changes).to(dtype)
    save_official(model, tmp_path)
    assert_same(Mamba2LM.from_pretrained(tmp_path, dtype=dtype), model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learnable_init_states": True},
            "the official Mamba2 has no learnable_init_states; it must be False to convert, got True",
        ),
        ({"norm_eps": 1e-6}, "the official layout has no norm_eps; it must be 1e-5 to convert, got 1e-06"),
    ],
)
def test_what_the_official_layout_cannot_hold_is_refused_and_nothing_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError) as caught:
        save_official(small_model(**changes), tmp_path / "out")
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


# The layout of transformers


def hf_model(dtype: torch.dtype = torch.float32, **changes):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    fields = {
        "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 40, "state_size": 8, "head_dim": 8, "num_heads": 4,
        "n_groups": 2, "chunk_size": 4, "layer_norm_epsilon": 1e-5,
    }  # fmt: skip
    model = transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**{**fields, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return model.to(dtype).eval()


def assert_same_as_theirs(ours: Mamba2LM, theirs) -> None:
    """Bit for bit, by the one difference in names; and none left over on either side."""
    expected = {
        name.removeprefix("backbone.").replace("embeddings.", "embedding."): tensor
        for name, tensor in theirs.state_dict().items()
    }
    found = ours.state_dict()
    assert found.keys() == expected.keys()
    for name in expected:
        assert_same_bits(found[name], expected[name], name)


HF_VARIANTS = [
    {},
    {"tie_word_embeddings": True},
    {"use_bias": True, "use_conv_bias": False},
    {"n_groups": 1, "time_step_limit": (0.01, 0.2)},
    {"layer_norm_epsilon": 1e-6, "conv_kernel": 3},
]


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "sharded"])
@pytest.mark.parametrize("changes", HF_VARIANTS, ids=str)
def test_a_folder_written_by_transformers_is_read_bit_for_bit(tmp_path, changes, sharded):
    theirs = hf_model(**changes)
    theirs.save_pretrained(tmp_path, **({"max_shard_size": "4KB"} if sharded else {}))
    assert (tmp_path / WEIGHTS).exists() != sharded
    ours = Mamba2LM.from_pretrained(tmp_path)
    assert_same_as_theirs(ours, theirs)
    ids = random_ids(2, 9, vocab_size=40)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_folder_of_transformers_in_either_dtype_is_read_bit_for_bit(tmp_path, dtype):
    theirs = hf_model(dtype)
    theirs.save_pretrained(tmp_path)
    assert_same_as_theirs(Mamba2LM.from_pretrained(tmp_path, dtype=dtype), theirs)
    assert_same_as_theirs(Mamba2LM.from_pretrained(tmp_path), theirs.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("changes", HF_VARIANTS, ids=str)
def test_a_model_of_transformers_is_taken_over_bit_for_bit_and_copied(changes, dtype):
    theirs = hf_model(dtype, **changes)
    ours = Mamba2LM.from_transformers(theirs)
    assert_same_as_theirs(ours, theirs)
    before = theirs.backbone.embeddings.weight.detach().clone()
    with torch.no_grad():
        ours.embedding.weight.zero_()
    assert torch.equal(theirs.backbone.embeddings.weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("changes", COMMON_VARIANTS, ids=str)
def test_to_transformers_and_back_is_bit_exact(changes, dtype):
    pytest.importorskip("transformers")
    model = small_model(**changes).to(dtype)
    theirs = model.to_transformers()
    assert_same_as_theirs(model, theirs)
    back = Mamba2LM.from_transformers(theirs)
    assert_same_weights(back, model)
    lost = {"vocab_size", "pad_vocab_size_multiple", "A_init_range"}  # the padding counts as tokens there
    kept = {name: value for name, value in model.config.to_dict().items() if name not in lost}
    assert {name: value for name, value in back.config.to_dict().items() if name not in lost} == kept
    assert back.config.vocab_size == model.config.padded_vocab_size
    assert (theirs.lm_head.weight is theirs.backbone.embeddings.weight) == model.config.tie_embeddings
    with torch.no_grad():
        theirs.backbone.embeddings.weight.zero_()
    assert_same_weights(back, model)


def test_a_converted_model_can_be_saved_by_transformers_and_read_again(tmp_path):
    pytest.importorskip("transformers")
    model = small_model(tie_embeddings=False)
    model.to_transformers().save_pretrained(tmp_path)
    assert_same_weights(Mamba2LM.from_pretrained(tmp_path), model)


def test_a_converted_model_has_no_token_that_ends_a_text():
    """transformers' own default is id 2, which is any token here: its generate would stop there."""
    pytest.importorskip("transformers")
    theirs = small_model().to_transformers()
    for config in (theirs.config, theirs.generation_config):
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, None, None)


@pytest.mark.parametrize("variant", ["norm_before_gate", "learnable_init_states"])
def test_what_transformers_does_not_have_is_refused(variant):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError) as caught:
        small_model(**{variant: True}).to_transformers()
    assert str(caught.value) == f"transformers' Mamba2 has no {variant}; it must be False to convert, got True"


def test_what_we_do_not_have_is_refused(tmp_path):
    theirs = hf_model(hidden_act="gelu")
    with pytest.raises(CheckpointError, match="hidden_act must be 'silu'; found 'gelu'"):
        Mamba2LM.from_transformers(theirs)
    theirs.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: hidden_act must be 'silu'; found 'gelu'"):
        Mamba2LM.from_pretrained(tmp_path)


# Damaged and foreign files


@pytest.fixture
def folder(tmp_path) -> Path:
    small_model().save_pretrained(tmp_path)
    return tmp_path


def change_weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = read(folder)
        change(weights)
        write(folder, weights)

    return damage


def change_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / WEIGHTS
        path.write_bytes(change(path.read_bytes()))

    return damage


def header_that_lies(content: bytes) -> bytes:
    """One tensor longer than the file."""
    header = json.dumps({"norm_f.weight": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 16


BROKEN = "expected a whole safetensors file; found one that cannot be read: "
DAMAGE = {
    "cut in the tensors": (change_bytes(lambda content: content[:-10]), BROKEN),
    "cut in the header": (change_bytes(lambda content: content[:100]), BROKEN),
    "cut in the length": (change_bytes(lambda content: content[:5]), BROKEN),
    "empty": (change_bytes(lambda _: b""), BROKEN),
    "text": (change_bytes(lambda _: b"<html>404: not found</html>"), BROKEN),
    "a header that lies": (change_bytes(header_that_lies), BROKEN),
    "bytes added": (change_bytes(lambda content: content + b"more"), BROKEN),
    "integers": (
        change_weights(lambda w: w.update({"norm_f.weight": torch.ones(16, dtype=torch.int64)})),
        "norm_f.weight: expected a dtype of F64, F32, F16, BF16; found I64",
    ),
    "one byte a number": (
        change_weights(lambda w: w.update({"layers.0.mixer.D": torch.ones(4, dtype=torch.uint8)})),
        "layers.0.mixer.D: expected a dtype of F64, F32, F16, BF16; found U8",
    ),
    "another shape": (
        change_weights(lambda w: w.update({"norm_f.weight": torch.ones(17)})),
        "norm_f.weight: expected shape (16,); found (17,)",
    ),
    "another rank": (
        change_weights(lambda w: w.update({"layers.1.mixer.A_log": torch.ones(4, 1)})),
        "layers.1.mixer.A_log: expected shape (4,); found (4, 1)",
    ),
    "transposed": (
        change_weights(
            lambda w: w.update({"layers.0.mixer.out_proj.weight": w["layers.0.mixer.out_proj.weight"].T.contiguous()})
        ),
        "layers.0.mixer.out_proj.weight: expected shape (16, 32); found (32, 16)",
    ),
    "a tensor missing": (
        change_weights(lambda w: w.pop("layers.1.mixer.conv1d.bias")),
        "layers.1.mixer.conv1d.bias: expected a tensor of shape (48,); found none",
    ),
    "a tensor too many": (
        change_weights(lambda w: w.update({"layers.2.norm.weight": torch.ones(16)})),
        "layers.2.norm.weight: expected no such tensor for this config; found one",
    ),
    "a head that is not tied": (
        change_weights(lambda w: w.update({"lm_head.weight": w["embedding.weight"] + 1})),
        "lm_head.weight: expected the embedding's weights, since the config ties them; found others",
    ),
    "no tensors": (
        change_weights(lambda w: w.clear()),
        "embedding.weight: expected a tensor of shape (264, 16); found none",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_weights_file_is_refused_with_file_key_expectation_and_finding(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(folder)
    assert str(caught.value).startswith(f"{folder / WEIGHTS}: {message}")


def test_a_head_that_is_stored_although_it_is_tied_may_stay(folder):
    change_weights(lambda w: w.update({"lm_head.weight": w["embedding.weight"].clone()}))(folder)
    assert_same(Mamba2LM.from_pretrained(folder), small_model())


def test_a_checkpoint_error_is_a_value_error():
    assert issubclass(CheckpointError, ValueError)


def change_config(**changes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = {**read_config(folder), **changes}
        write_config(folder, {name: value for name, value in config.items() if value is not ...})

    return damage


def config_of(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.json").write_text(text, encoding="utf-8") and None


FOREIGN_CONFIGS = {
    "not JSON": (config_of("d_model: 16"), "expected JSON; found "),
    "empty": (config_of(""), "expected JSON; found "),
    "not UTF-8": (lambda folder: (folder / "config.json").write_bytes(b'{"a": "\xe9"}'), "expected JSON; found "),
    "a list": (config_of("[1, 2]"), "expected a JSON object; found list"),
    "another model": (change_config(model_type="llama"), "expected a Mamba-2 config"),
    "no model": (config_of("{}"), "expected a Mamba-2 config"),
    "an unknown field": (change_config(rope_theta=10_000), "unknown config field 'rope_theta'"),
    "a size missing": (change_config(d_model=...), "expected a field 'd_model'; found none"),
    "a switch missing": (change_config(norm_before_gate=...), "expected a field 'norm_before_gate'; found none"),
    "a text for a number": (change_config(n_layer="2"), "n_layer must be a whole number; got '2'"),
    "sizes that do not divide": (change_config(headdim=7), "headdim must divide"),
    "a limit that is no pair": (change_config(dt_limit=0.5), "dt_limit must be a pair"),
}


@pytest.mark.parametrize(("damage", "message"), FOREIGN_CONFIGS.values(), ids=FOREIGN_CONFIGS.keys())
def test_a_foreign_config_is_refused_with_file_expectation_and_finding(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(folder)
    assert str(caught.value).startswith(f"{folder / 'config.json'}: {message}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_config(rms_norm=False), "rms_norm must be True, a pure Mamba-2; found False"),
        (change_config(attn_layer_idx=[3]), "attn_layer_idx must be [], a pure Mamba-2; found [3]"),
        (change_config(d_intermediate=64), "d_intermediate must be 0, a pure Mamba-2; found 64"),
        (change_config(ssm_cfg={"layer": "Mamba1"}), "ssm_cfg.layer must be 'Mamba2'; found 'Mamba1'"),
        (change_config(ssm_cfg={}), "ssm_cfg.layer must be 'Mamba2'; found 'Mamba1'"),  # the official default
        (change_config(ssm_cfg=None), "ssm_cfg must be an object; found None"),
        (change_config(ssm_cfg={"layer": "Mamba2", "d_ssm": 32}), "unknown config field 'd_ssm'"),
        (change_config(n_layer=...), "expected a field 'n_layer'; found none"),
    ],
)
def test_an_official_config_that_is_no_plain_mamba_2_is_refused(official_folder, damage, message):
    damage(official_folder)
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(official_folder)
    assert str(caught.value).startswith(f"{official_folder / 'config.json'}: {message}")


def test_a_transformers_config_without_a_field_is_refused(tmp_path):
    hf_model().save_pretrained(tmp_path)
    change_config(state_size=...)(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: expected a field 'state_size'; found none"):
        Mamba2LM.from_pretrained(tmp_path)


def test_a_damaged_index_or_a_missing_shard_is_refused_by_name(tmp_path):
    hf_model().save_pretrained(tmp_path, max_shard_size="4KB")
    index = tmp_path / f"{WEIGHTS}.index.json"
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(tmp_path)
    assert str(caught.value).startswith(f"{shard}: expected a file; found none: ")
    index.write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(tmp_path)
    assert str(caught.value) == f"{index}: weight_map: expected the file of each tensor; found None"


def test_names_and_shapes_are_known_without_building_a_model():
    for changes in [
        *ALL_VARIANTS,
        {"bias": True, "learnable_init_states": True, "tie_embeddings": False, "n_layer": 1},
    ]:
        model = small_model(**changes)
        built = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        assert dict(loading._shapes_of(model.config)) == built


@pytest.fixture
def unbuilt(monkeypatch) -> None:
    """Whoever builds a model or reads a tensor in this test fails."""

    def built(*_, **__) -> None:
        raise AssertionError("built, or read, before shapes and files agreed")

    monkeypatch.setattr(loading, "Mamba2LM", built)
    monkeypatch.setattr(loading, "read_tensors", built)


NO_LAYER = "expected a tensor of shape "
MONSTERS = {
    "200,000 layers": ({"n_layer": 200_000}, WEIGHTS, f"layers.2.norm.weight: {NO_LAYER}(16,); found none"),
    "a width of a billion": (
        {"d_model": 10**9, "n_layer": 2},
        WEIGHTS,
        "embedding.weight: expected shape (264, 1000000000); found (264, 16)",
    ),
    "all as large as can be": (
        dict.fromkeys(("d_model", "n_layer", "vocab_size", "d_state", "d_conv", "expand"), 2**31 - 1) | {"headdim": 1},
        WEIGHTS,
        f"layers.2.norm.weight: {NO_LAYER}(2147483647,); found none",
    ),
    "a vocabulary of a trillion": (
        {"vocab_size": 10**12},
        "config.json",
        "vocab_size must be at most 2147483647; got 1000000000000",
    ),
    "chunks without end": ({"chunk_size": 10**9}, "config.json", "chunk_size must be at most 4096; got 1000000000"),
    "a text of two digits": (
        {"dt_limit": "12"},
        "config.json",
        "dt_limit must be a pair (low, high) of numbers; got '12'",
    ),
    "a list nested deep": (
        {"n_layer": functools.reduce(lambda inside, _: [inside], range(900), [])},
        "config.json",
        "n_layer must be a whole number; got [[",
    ),
}


@pytest.mark.parametrize(("changes", "file", "message"), MONSTERS.values(), ids=MONSTERS.keys())
def test_a_config_that_promises_monsters_is_refused_before_anything_is_built(folder, unbuilt, changes, file, message):
    change_config(**changes)(folder)
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(folder)
    assert str(caught.value).startswith(f"{folder / file}: {message}")


STRANGE_NUMBERS = [
    ("norm_eps", "1e400", "norm_eps must be a finite number above 0; got inf"),
    ("norm_eps", "NaN", "norm_eps must be a finite number above 0; got nan"),
    ("dt_min", "1" + "0" * 400, "dt_min must be "),
    ("A_init_range", f"[1, 1{'0' * 400}]", "A_init_range must be "),
    ("A_init_range", "[true, true]", "A_init_range must be a pair (low, high) of numbers; got [True, True]"),
    ("dt_limit", '[0, {"__float__": "many"}]', "expected JSON; found could not convert string to float: 'many'"),
    ("dt_limit", '[0, {"__float__": [1]}]', "dt_limit must be a pair"),
    ("d_state", "9" * 5000, "expected JSON; found Exceeds the limit (4300 digits)"),
    ("expand", "9" * 4000, "expand must be at most 2147483647; got 999"),
    ("d_conv", "true", "d_conv must be a whole number; got True"),
    ("ngroups", "3", "ngroups must divide the number of heads"),
    ("d_model", '16, "d_model": 32', "expected JSON; found the key 'd_model' more than once"),
    ("n_layer", "[" * 100_000, "expected JSON; found maximum recursion depth exceeded"),
    ("bias", '"\\ud800"', "bias must be True or False; got '\\ud800'"),
]


@pytest.mark.parametrize(("field", "written", "message"), STRANGE_NUMBERS, ids=lambda value: value[:20])
def test_a_field_that_holds_no_number_of_its_kind_is_refused(folder, unbuilt, field, written, message):
    config = json.dumps({**read_config(folder), field: "@"}).replace('"@"', written)
    (folder / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(folder)
    assert str(caught.value).startswith(f"{folder / 'config.json'}: {message}")
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_config_in_another_encoding_is_refused(folder, encoding):
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(text, encoding=encoding)
    with pytest.raises(CheckpointError, match=r"config\.json: expected JSON; found"):
        Mamba2LM.from_pretrained(folder)


def test_a_tensor_under_two_names_is_refused(official_folder, unbuilt):
    change_weights(lambda w: w.update({"layers.1.mixer.D": w["backbone.layers.1.mixer.D"] + 1}))(official_folder)
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(official_folder)
    expected = "layers.1.mixer.D: expected one tensor 'layers.1.mixer.D'; found it under two names"
    assert str(caught.value) == f"{official_folder / WEIGHTS}: {expected}"


# Indexes


@pytest.fixture
def sharded(tmp_path) -> Path:
    """A folder with an index of two shards, and beside it one more that would fit as well."""
    folder = tmp_path / "model"
    small_model().save_pretrained(folder)
    weights = read(folder)
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        safetensors.torch.save_file({name: weights[name] for name in part}, folder / file)
    shutil.copy(folder / "a.safetensors", tmp_path / "a.safetensors")
    write_index(folder, {name: file for file, part in parts.items() for name in part})
    return folder


def write_index(folder: Path, file_of: object) -> None:
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": file_of}))


def read_index(folder: Path) -> dict[str, str]:
    return json.loads((folder / f"{WEIGHTS}.index.json").read_text())["weight_map"]


def test_a_sharded_folder_is_read(sharded):
    assert_same(Mamba2LM.from_pretrained(sharded), small_model())


NO_NAMES = [
    "../a.safetensors",
    "/etc/passwd",
    "sub/a.safetensors",
    "sub\\a.safetensors",
    "C:a.safetensors",
    "",
    ".",
    "..",
]
NO_NAMES += [f"{WEIGHTS}.index.json", "config.json", None, 3, True, ["a.safetensors"], {"a": 1}]


@pytest.mark.parametrize("named", [*NO_NAMES, "the folder above"], ids=repr)
def test_an_index_may_name_files_of_its_folder_only(sharded, unbuilt, named):
    named = str(sharded.parent / "a.safetensors") if named == "the folder above" else named
    write_index(sharded, {**read_index(sharded), "embedding.weight": named})
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(sharded)
    expected = "embedding.weight: expected the name of a .safetensors file in this folder; found "
    assert str(caught.value).startswith(f"{sharded / WEIGHTS}.index.json: {expected}")


@pytest.mark.parametrize("named", ["no\0such.safetensors", "\ud800.safetensors", "x" * 500 + ".safetensors"], ids=ascii)
def test_a_name_that_no_file_can_have_is_refused(sharded, unbuilt, named):
    write_index(sharded, {**read_index(sharded), "embedding.weight": named})
    with pytest.raises(CheckpointError, match="expected a file; found none"):
        Mamba2LM.from_pretrained(sharded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layers.0.mixer.D": "b.safetensors"},
            r"a.safetensors: layers.0.mixer.D: expected none, as .* says; found one",
        ),
        (
            {"layers.9.mixer.D": "a.safetensors"},
            r"a.safetensors: layers.9.mixer.D: expected a tensor, as .*; found none",
        ),
        ({f"{i}": f"{i}.safetensors" for i in range(1000)}, r"weight_map: expected at most 1000 files; found 1002"),
    ],
    ids=["in another file", "in no file", "a thousand files"],
)
def test_an_index_and_its_files_must_agree(sharded, unbuilt, change, message):
    assert read_index(sharded)["layers.0.mixer.D"] == "a.safetensors"
    write_index(sharded, {**read_index(sharded), **change})
    with pytest.raises(CheckpointError, match=message):
        Mamba2LM.from_pretrained(sharded)


def test_the_same_tensor_in_two_files_is_refused(sharded, unbuilt):
    shutil.copy(sharded / "a.safetensors", sharded / "c.safetensors")
    write_index(sharded, {**read_index(sharded), "embedding.weight": "c.safetensors"})
    with pytest.raises(CheckpointError, match=r"safetensors: .*: expected none, as .* says; found one"):
        Mamba2LM.from_pretrained(sharded)


@needs_posix
@of_strange_files
@pytest.mark.parametrize("name", ["config.json", f"{WEIGHTS}.index.json", "a.safetensors"])
def test_what_is_no_file_of_the_folder_is_refused_in_its_place(sharded, unbuilt, name, put, said):
    put(sharded / name)
    with soon(), pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(sharded)
    assert str(caught.value).startswith(f"{sharded / name}: {said}")


def test_a_header_is_read_only_if_it_is_short(folder, unbuilt):
    entries = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}
    header = json.dumps(entries).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="expected a header of at most 4,000,000 bytes; found 6,"):
        Mamba2LM.from_pretrained(folder)


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", "weights.pkl"])
def test_a_pickle_is_refused_with_the_reason_and_is_never_opened(folder, tmp_path_factory, name):
    sprung = tmp_path_factory.mktemp("trap") / "sprung"
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(folder)
    assert str(caught.value).startswith(f"{folder / name}: expected {WEIGHTS}; found a pickle file")
    assert "unpickling runs whatever code the file holds" in str(caught.value)
    assert not sprung.exists()


def test_a_pickle_that_calls_itself_safetensors_is_refused_and_not_unpickled(folder, tmp_path_factory):
    sprung = tmp_path_factory.mktemp("trap") / "sprung"
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(folder)
    assert str(caught.value).startswith(f"{folder / WEIGHTS}: {BROKEN}")
    assert not sprung.exists()


def test_a_pickle_beside_the_weights_is_ignored(folder):
    (folder / "pytorch_model.bin").write_bytes(b"whatever")
    assert_same(Mamba2LM.from_pretrained(folder), small_model())


def test_a_folder_without_weights_or_config_says_which_file_is_missing(folder):
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model: expected a file config\.json"):
        Mamba2LM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no weights: expected model\.safetensors"):
        Mamba2LM.from_pretrained(folder)


# Where models come from


@pytest.fixture
def box(tmp_path, monkeypatch) -> Path:
    small_model(seed=7).save_pretrained(tmp_path / "tiny", tokenizer=ByteTokenizer())
    small_model(seed=8).save_pretrained(tmp_path / "mini")
    (tmp_path / "no model").mkdir()
    monkeypatch.setattr(loading, "BOX", tmp_path)
    return tmp_path


@pytest.fixture
def hub(monkeypatch) -> list[dict]:
    """No network: every request of the Hub is noted and fails, as it does offline."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    requests: list[dict] = []

    def offline(repo_id, **options):
        requests.append({"repo_id": repo_id, **options})
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    return requests


def test_a_model_in_the_box_is_found_by_its_name(box, hub):
    assert models_in_the_box() == ["mini", "tiny"]
    assert_same(Mamba2LM.from_pretrained("tiny"), small_model(seed=7))
    assert load_tokenizer("tiny").vocab_size == 257
    assert hub == []


@pytest.mark.parametrize("source", ["tinny", "./tiny", "/no/such/folder", "~/no/such/folder", "a/b/c", Path("no/such")])
def test_an_unknown_model_is_refused_with_the_names_in_the_box_and_without_asking_the_hub(box, hub, source):
    with pytest.raises(FileNotFoundError) as caught:
        Mamba2LM.from_pretrained(source)
    assert str(caught.value) == (
        f"no model at {str(source)!r}: it is no folder, and the models in the box are: mini, tiny"
    )
    assert hub == []


def test_a_hub_id_that_cannot_be_had_is_refused_with_the_answer_of_the_hub(hub):
    with pytest.raises(FileNotFoundError) as caught:
        Mamba2LM.from_pretrained("owner/name")
    assert str(caught.value) == "no model at 'owner/name': no such folder, and the Hub answered: no network"
    assert [request["repo_id"] for request in hub] == ["owner/name"]
    refused = hub[0]["ignore_patterns"]
    assert {"*.bin", "*.pt", "*.pth", "*.pkl"} <= set(refused), "pickles must not even be downloaded"


@pytest.fixture
def hub_without_weights(folder, monkeypatch) -> Callable[[object], None]:
    """A repository that was fetched without weights; and say what the Hub answers when it is asked for its files."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    (folder / WEIGHTS).unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo_id, **_: str(folder))

    def answer(files: list[str] | Exception) -> None:
        def list_repo_files(repo_id: str) -> list[str]:
            assert repo_id == "owner/name"
            if isinstance(files, Exception):
                raise files
            return files

        monkeypatch.setattr(huggingface_hub, "list_repo_files", list_repo_files)

    return answer


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pth"])
def test_a_repository_of_pickles_on_the_hub_is_refused_in_the_words_of_a_folder(hub_without_weights, pickle):
    hub_without_weights(["README.md", pickle])
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained("owner/name")
    assert str(caught.value) == (
        f"owner/name/{pickle}: expected model.safetensors; found a pickle file, which is never loaded here: unpickling "
        "runs whatever code the file holds. Convert it to safetensors where you trust it."
    )


def test_a_repository_without_any_weights_says_so(hub_without_weights):
    hub_without_weights(["README.md", "folder/pytorch_model.h5"])
    with pytest.raises(FileNotFoundError) as caught:
        Mamba2LM.from_pretrained("owner/name")
    assert str(caught.value) == "owner/name has no weights: expected model.safetensors"


def test_a_repository_in_the_cache_of_which_the_hub_says_no_more(hub_without_weights):
    hub_without_weights(ConnectionError("no network"))
    with pytest.raises(FileNotFoundError) as caught:
        Mamba2LM.from_pretrained("owner/name")
    assert str(caught.value) == (
        "owner/name has no weights here: expected model.safetensors; and what else it has, the Hub did not say: "
        "no network"
    )


def test_the_tokenizer_of_a_repository_of_pickles_can_be_had(hub_without_weights, folder):
    hub_without_weights(["pytorch_model.bin"])
    text.save(ByteTokenizer(), folder)
    assert load_tokenizer("owner/name").vocab_size == 257


@needs_posix
@pytest.mark.parametrize("shared", [False, True], ids=["of one repository", "shared"])
def test_the_cache_of_the_hub_keeps_its_files_behind_links(tmp_path, monkeypatch, shared):
    """cache/models--owner--name/snapshots/revision/file -> ../../blobs/hash, and that -> ../../blobs/0a/hash."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    repository = tmp_path / "cache" / "models--owner--name"
    snapshot, blobs = repository / "snapshots" / "c1d2", repository / "blobs"
    small_model().save_pretrained(snapshot, tokenizer=ByteTokenizer())
    blobs.mkdir()
    for file in list(snapshot.iterdir()):
        file.rename(blobs / f"hash-of-{file.name}")
        file.symlink_to(Path("..", "..", "blobs", f"hash-of-{file.name}"))
    if shared:
        (tmp_path / "cache" / "blobs" / "0a").mkdir(parents=True)
        for blob in list(blobs.iterdir()):
            blob.rename(tmp_path / "cache" / "blobs" / "0a" / blob.name)
            blob.symlink_to(Path("..", "..", "blobs", "0a", blob.name))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo_id, **_: str(snapshot))
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
    assert_same(Mamba2LM.from_pretrained(snapshot), small_model())
    assert load_tokenizer("owner/name").vocab_size == 257


@needs_posix
def test_a_link_from_a_snapshot_leads_to_blobs_and_nowhere_else(tmp_path):
    for place in ("models--owner--name/snapshots/c1d2", "snapshots/c1d2", "models--owner--name/c1d2"):
        small_model().save_pretrained(tmp_path / place)
    weights = tmp_path / "models--owner--name" / "snapshots" / "c1d2" / WEIGHTS
    for target in ("models--owner--name", "models--owner--name/snapshots", "models--owner--name/blobs-not", "."):
        elsewhere = tmp_path / target / "elsewhere.safetensors"
        elsewhere.parent.mkdir(exist_ok=True)
        weights.replace(elsewhere)
        weights.symlink_to(elsewhere)
        with pytest.raises(CheckpointError, match="found a link that leads out of it"):
            Mamba2LM.from_pretrained(weights.parent)
        elsewhere.replace(weights)
    (tmp_path / "blobs").mkdir()
    for place in ("snapshots/c1d2", "models--owner--name/c1d2"):  # no cache, though it has a folder of that name
        (tmp_path / place / WEIGHTS).rename(tmp_path / "blobs" / "x")
        (tmp_path / place / WEIGHTS).symlink_to(tmp_path / "blobs" / "x")
        with pytest.raises(CheckpointError, match="found a link that leads out of it"):
            Mamba2LM.from_pretrained(tmp_path / place)


def test_a_hub_id_is_read_where_it_was_downloaded_to(folder, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo_id, **_: str(folder))
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())


def test_a_folder_that_looks_like_a_hub_id_is_a_folder(folder, hub, monkeypatch):
    shutil.copytree(folder, folder / "owner" / "name")
    monkeypatch.chdir(folder)
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
    assert hub == []
