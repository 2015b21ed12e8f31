"""What notebook 14 reads by hand is what the package reads."""

import pickle
import zipfile

import pytest
import torch
from support.small_models import small_model

from mamba2_lab import inspect
from mamba2_lab.course.exercises.real_checkpoints import half_lives_stored, read_off, suspects, tensor_of
from mamba2_lab.weights import BOX, read_tensors


@pytest.mark.parametrize("name", ["small", "medium"])
def test_a_tensor_taken_out_by_hand_is_that_of_the_package(name):
    path = BOX / name / "model.safetensors"
    content, expected = path.read_bytes(), read_tensors(path)
    for each in ("embedding.weight", "layers.3.mixer.in_proj.weight", "layers.0.mixer.dt_bias"):
        assert torch.equal(tensor_of(content, each), expected[each].float())


def test_the_sizes_read_off_are_those_of_the_model(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path, layout="official")
    shapes = {name: tuple(each.shape) for name, each in read_tensors(tmp_path / "model.safetensors").items()}
    config = model.config
    assert read_off(shapes) == (config.d_model, config.n_layer, config.nheads, config.d_state)


def test_half_lives_are_those_that_a_trace_has_at_rest():
    model = small_model().cpu()
    layer, mixer = inspect.trace(model, torch.tensor([1, 2, 3])).layers[0], model.blocks[0].mixer
    found = half_lives_stored(mixer.A_log.detach(), mixer.dt_bias.detach())
    torch.testing.assert_close(found, layer.half_life_at_rest, rtol=1e-4, atol=1e-4)


class Stranger:
    def __reduce__(self):
        return print, ("this must not run",)


def test_what_looks_suspect_is_what_the_package_refuses(tmp_path, capsys):
    path = tmp_path / "weights.bin"
    for content, expected in (({}, []), ({"more": Stranger()}, ["__builtin__ print"])):
        torch.save({"weight": torch.zeros(2), **content}, path)
        with zipfile.ZipFile(path) as archive:
            code = archive.read("weights/data.pkl")
        assert suspects(code, {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", *ORDERED}) == expected
    with pytest.raises(ValueError, match="__builtin__.print"):
        read_tensors(path)
    assert suspects(pickle.dumps(Stranger(), protocol=4), set()) == ["?"]
    assert capsys.readouterr().out == ""


ORDERED = {"collections OrderedDict"}
