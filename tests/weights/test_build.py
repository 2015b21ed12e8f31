"""The names and shapes that a config promises are those of the model that it makes."""

from __future__ import annotations

from support.saved_models import ALL_VARIANTS
from support.small_models import small_model

from mamba2_lab.weights.build import shapes_of


def test_names_and_shapes_are_known_without_building_a_model():
    for changes in [
        *ALL_VARIANTS,
        {"bias": True, "learnable_init_states": True, "tie_embeddings": False, "n_layer": 1},
    ]:
        model = small_model(**changes)
        built = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        assert dict(shapes_of(model.config, "here")) == built
