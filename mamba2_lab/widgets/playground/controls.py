"""The fields and buttons of the playground, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipywidgets import Button, Checkbox, Dropdown, FloatSlider, Layout, Text, Textarea, Widget

from mamba2_lab.generation import SamplingConfig
from mamba2_lab.weights import PRECISIONS
from mamba2_lab.widgets.fields import FIELD, WIDE_LABEL, WholeNumber
from mamba2_lab.widgets.playground.labels import FIELDS
from mamba2_lab.widgets.playground.shelf import Shelf

ELSEWHERE = ""  # the choice in the model picker that opens the field for a folder or a Hub id


def model_controls(model: str, shelf: Shelf) -> dict[str, Widget]:
    """Which model, where it computes, and how its weights are stored."""
    listed = model in shelf.names
    options = [*((name, name) for name in shelf.names), ("a folder, or from the Hub", ELSEWHERE)]
    return {
        "model": Dropdown(
            options=options,
            value=model if listed else ELSEWHERE,
            description="model",
            style=WIDE_LABEL,
            layout=FIELD,
        ),
        "elsewhere": Text(
            "" if listed else model,
            placeholder="a folder, or owner/name",
            description=FIELDS["elsewhere"],
            continuous_update=False,
            style=WIDE_LABEL,
            layout=Layout(width="420px", max_width="98%"),
        ),
        "device": Dropdown(options=shelf.devices(), description="device", style=WIDE_LABEL, layout=FIELD),
        "weights": Dropdown(
            options=list(PRECISIONS),
            description=FIELDS["weights"],
            tooltip="how they are stored: fewer bits are read sooner, and are a little less exact. A model that was "
            "saved in int8 or int4 stays so",
            style=WIDE_LABEL,
            layout=FIELD,
        ),
    }


def text_controls(prompt: str, length: int, seed: int, stop: Sequence[str]) -> dict[str, Widget]:
    """What to write, how much of it, and whether in two ways."""
    return {
        "prompt": Textarea(
            prompt, description="prompt", rows=4, style=WIDE_LABEL, layout=Layout(width="98%", max_width="1002px")
        ),
        "length": WholeNumber(length, step=1, description=FIELDS["length"], style=WIDE_LABEL, layout=FIELD),
        "seed": WholeNumber(seed, step=1, description="seed", style=WIDE_LABEL, layout=FIELD),
        "stop at": Textarea(
            "\n".join(map(escaped, stop)),
            description="stop at",
            tooltip="texts that end the run, one on each line; \\n stands for a line break, \\t for a tab",
            placeholder="a text on each line",
            rows=1,
            style=WIDE_LABEL,
            layout=FIELD,
        ),
        "compare": Checkbox(False, description="compare two settings, same seed", indent=False, layout=FIELD),
    }


def sampler_controls(start: SamplingConfig) -> dict[str, Widget]:
    """A field for each field of `SamplingConfig`."""

    def slider(name: str, value: float, low: float, high: float, step: float, tip: str) -> FloatSlider:
        return FloatSlider(
            value,
            min=low,
            max=high,
            step=step,
            description=FIELDS[name],
            tooltip=tip,
            style=WIDE_LABEL,
            layout=FIELD,
        )

    return {
        "temperature": slider("temperature", start.temperature, 0, 2, 0.05, "0 takes the likeliest token every time"),
        "top_k": WholeNumber(
            start.top_k or 0,
            step=1,
            description=FIELDS["top_k"],
            tooltip="keep so many of the likeliest tokens; 0 keeps all",
            style=WIDE_LABEL,
            layout=FIELD,
        ),
        "top_p": slider(
            "top_p", start.top_p or 1, 0.01, 1, 0.01, "keep the likeliest tokens that reach p; 1 keeps all"
        ),
        "min_p": slider(
            "min_p", start.min_p or 0, 0, 1, 0.01, "keep tokens at least so many times as likely as the likeliest"
        ),
        "repetition_penalty": slider(
            "repetition_penalty",
            start.repetition_penalty,
            0.5,
            2,
            0.05,
            "above 1, tokens that were seen are less likely",
        ),
    }


def buttons() -> dict[str, Widget]:
    """What can be done."""
    layout = Layout(width="88px", margin="2px 6px 2px 0")  # four of them fit on a telephone
    return {
        "generate": Button(
            description="Generate", button_style="primary", tooltip="write from the prompt, anew", layout=layout
        ),
        "stop": Button(description="Stop", tooltip="end the run; its state is kept", layout=layout),
        "continue": Button(
            description="Continue", tooltip="go on from the state; nothing is read again", layout=layout
        ),
        "reset": Button(description="Reset", tooltip="forget the text and its state", layout=layout),
    }


def source_of(controls: Mapping[str, Widget]) -> str:
    """The model that is chosen: a name, a folder or a Hub id."""
    chosen = controls["model"].value
    return controls["elsewhere"].value.strip() if chosen == ELSEWHERE else chosen


def unescaped(line: str) -> str:
    """A stop string as it is typed: \\n is a line break, \\t a tab, and two backslashes are one."""
    for typed, meant in (("\\\\", "\0"), ("\\n", "\n"), ("\\t", "\t"), ("\0", "\\")):
        line = line.replace(typed, meant)
    return line


def escaped(stop: str) -> str:
    """The same, as it is typed."""
    return stop.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
