"""Answers to `read_off`."""

import torch
from support.learners.collect import right, wrong


@wrong("read_off", "Those are the rows of the table, one for each token. Its")
def rows_of_the_embedding(shapes):
    n_layer = len({name.split(".")[2] for name in shapes if ".layers." in name})
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    d_model = shapes["backbone.embedding.weight"][0]
    return d_model, n_layer, shapes["backbone.layers.0.mixer.A_log"][0], (channels - d_inner) // 2


@wrong("read_off", "The convolution runs over x, B and C, and x has d_inner")
def minus_the_stream(shapes):
    n_layer = len({name.split(".")[2] for name in shapes if ".layers." in name})
    d_model = shapes["backbone.norm_f.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    return d_model, n_layer, shapes["backbone.layers.0.mixer.A_log"][0], (channels - d_model) // 2


@wrong("read_off", "The number of heads holds what belongs into `d_state`: the")
def heads_and_states_exchanged(shapes):
    n_layer = len({name.split(".")[2] for name in shapes if ".layers." in name})
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    heads = shapes["backbone.layers.0.mixer.A_log"][0]
    return shapes["backbone.norm_f.weight"][0], n_layer, (channels - d_inner) // 2, heads


@wrong("read_off", "Heads of 64 channels are usual, and no law. `A_log` has one")
def heads_of_sixty_four(shapes):
    layers = {name.split(".")[2] for name in shapes if name.startswith("backbone.layers.")}
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    return shapes["backbone.norm_f.weight"][0], len(layers), d_inner // 64, (channels - d_inner) // 2


@wrong("read_off", "The number of layers is 2 times what it should be.")
def counts_norms(shapes):
    layers = sum(name.endswith("norm.weight") for name in shapes)
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    heads = shapes["backbone.layers.0.mixer.A_log"][0]
    return shapes["backbone.norm_f.weight"][0], layers, heads, (channels - d_inner) // 2


@wrong("read_off", "That is d_conv, how far the convolution reaches. Its first")
def the_width_of_the_convolution(shapes):
    layers = {name.split(".")[2] for name in shapes if name.startswith("backbone.layers.")}
    d_conv = shapes["backbone.layers.0.mixer.conv1d.weight"][-1]
    return shapes["backbone.norm_f.weight"][0], len(layers), shapes["backbone.layers.0.mixer.A_log"][0], d_conv


@wrong("read_off", "That is the largest number of a layer. They begin with 0, so")
def one_layer_less(shapes):
    last = max(int(name.split(".")[2]) for name in shapes if name.startswith("backbone.layers."))
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    return (
        shapes["backbone.norm_f.weight"][0],
        last,
        shapes["backbone.layers.0.mixer.A_log"][0],
        (channels - d_inner) // 2,
    )


@right("read_off")
def by_the_output_projection(shapes):
    mixer = "backbone.layers.0.mixer."
    d_model, d_inner = shapes[mixer + "out_proj.weight"]
    n_layer = sum(name.endswith("mixer.D") for name in shapes)
    return d_model, n_layer, shapes[mixer + "D"][0], (shapes[mixer + "conv1d.bias"][0] - d_inner) // 2


@right("read_off")
def with_the_largest_number(shapes):
    numbers = [int(name.split(".")[2]) for name in shapes if name.startswith("backbone.layers.")]
    (heads,) = shapes["backbone.layers.0.mixer.dt_bias"]
    d_model = shapes["backbone.embedding.weight"][1]
    rows = shapes["backbone.layers.0.mixer.in_proj.weight"][0]
    return [d_model, max(numbers) + 1, heads, (rows - 4 * d_model - heads) // 2]


@right("read_off")
def by_trying_layers(shapes):
    n_layer = 0
    while f"backbone.layers.{n_layer}.norm.weight" in shapes:
        n_layer += 1
    d_model = shapes["backbone.layers.0.norm.weight"][0]
    channels, _, _ = shapes["backbone.layers.0.mixer.conv1d.weight"]
    heads = shapes["backbone.layers.0.mixer.A_log"][-1]
    return torch.tensor([d_model, n_layer, heads, (channels - 2 * d_model) // 2])
