"""What a widget leaves behind where no kernel runs: a picture of itself, not a sentence."""

import base64
import io
import re

import torch
from PIL import Image

from mamba2_lab import Mamba2LM, inspect
from mamba2_lab.widgets import DtPainter, FadingExplorer, Playground, StateDebugger, SweepRunner
from mamba2_lab.widgets.still import still

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def shown(widget) -> str:
    """The HTML that its cell keeps beside the view."""
    bundle = widget._repr_mimebundle_()
    assert WIDGET_VIEW in bundle
    html = bundle["text/html"]
    assert "how it looks at first" in html and len(html) < 250_000
    return html


def images(html: str) -> list[Image.Image]:
    assert html.count("<img") == len(re.findall(r'<img alt="[^"]{20,}"', html)), "each says what is on it"
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([\w+/=]+)", html)]


def test_an_explorer_leaves_its_figure_and_its_controls():
    explorer = FadingExplorer()
    html = shown(explorer)
    (image,) = images(html)
    assert image.mode == "P" and image.width == 960
    for control in explorer.controls.values():
        assert control.description in html and str(control.value) in html


def test_it_is_the_figure_of_the_controls_as_they_stand():
    words = ["the", "train", "to", "Oslo"]
    painter = DtPainter(words, torch.tensor([False, False, False, True]), amount=0.5, A=-1.0)
    before = shown(painter)
    next(iter(painter.controls.values())).value = 1.0
    assert images(shown(painter))[0].tobytes() != images(before)[0].tobytes()


def test_the_debugger_leaves_its_text_and_its_figures():
    model = Mamba2LM(d_model=16, n_layer=1, vocab_size=256, d_state=8, headdim=8, seed=0)
    text = "def keep"
    html = shown(StateDebugger(inspect.trace(model, torch.tensor(list(text.encode()))), list(text)))
    assert len(images(html)) >= 3
    assert ">d</span>" in html and "Lock this token" in html


def test_the_runner_and_the_playground_leave_their_fields():
    assert "sweep" in shown(SweepRunner("length"))
    playground = Playground("small", prompt="def <b>")
    try:
        html = shown(playground)
        assert "def &lt;b&gt;" in html and "Generate" in html and "temperature" in html
        assert "second settings" not in html, "what is hidden is not there"
    finally:
        playground.close()


def test_what_is_hidden_is_not_in_the_picture():
    explorer = FadingExplorer()
    explorer.layout.display = "none"
    assert still(explorer) == ""
