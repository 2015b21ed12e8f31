"""The figures of notebook 06 show the numbers they were given, where they belong."""

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.transforms import Bbox

from mamba2_lab import plots
from mamba2_lab.config import Mamba2Config

# Every size is another number, so that none can stand for another.
CONFIG = Mamba2Config(d_model=15, expand=4, headdim=5, ngroups=3, d_state=7)


def labels(ticks) -> list[str]:
    return [tick.get_text() for tick in ticks]


@pytest.fixture(scope="module")
def diagram():
    figure = plots.block_diagram(CONFIG, 2, 11)
    figure.draw_without_rendering()
    return figure


def test_the_diagram_gives_each_name_its_shape(diagram):
    (axes,) = diagram.axes
    at = {text.get_text(): text.get_position() for text in axes.texts}
    shapes = {
        "u": "2×11×15", "z": "2×11×60", "xBC": "2×11×102", "raw_dt": "2×11×12", "dt": "2×11×12", "x": "2×11×12×5",
        "B, C": "2×11×3×7", "x dt": "2×11×12×5", "log decay": "2×11×12", "y": "2×11×12×5",
    }  # fmt: skip
    below = [(text.get_text(), text.get_position()) for text in axes.texts if "×" in text.get_text()]
    for name, shape in shapes.items():
        x, y = at[name]
        nearest = min(below, key=lambda other: abs(other[1][0] - x) + abs(other[1][1] - y))
        assert nearest[0] == shape, name
        assert nearest[1][1] < y, name
    written = [(text.get_text(), text.get_position()) for text in axes.texts]
    learned = {"A": "12", "dt_bias": "12", "D": "12"}
    for name, shape in learned.items():
        x, y = at[name]
        assert any(text == shape and height == y and 0 < place - x < 1.5 for text, (place, height) in written), name
    assert [text for text, _ in written if text == "weight"] == ["weight"] * 2 and "102×4" in at and "60" in at
    assert "and a bias for each channel" in at and at["out"]


def boxes(diagram) -> dict[str, Bbox]:
    """Where each box is, by the name that stands wholly inside it."""
    (axes,) = diagram.axes
    texts = [(text.get_text().replace("\n", ""), text.get_window_extent()) for text in axes.texts]
    found = {}
    for patch in axes.patches:
        if isinstance(patch, FancyBboxPatch):
            box = patch.get_window_extent()
            (name,) = [
                name for name, text in texts if box.contains(text.x0, text.y0) and box.contains(text.x1, text.y1)
            ]
            found[name] = box
    return found


def test_the_diagram_has_a_box_for_each_function_with_its_name_inside(diagram):
    assert set(boxes(diagram)) == {
        "in_proj", "causal_conv", "step_size", "discretise", "scan", "skip", "gated_rms_norm", "out_proj"
    }  # fmt: skip


@pytest.mark.parametrize(
    "start, end",
    [
        ("in_proj", "causal_conv"),
        ("in_proj", "step_size"),
        ("in_proj", "gated_rms_norm"),
        ("step_size", "discretise"),
        ("causal_conv", "scan"),
        ("causal_conv", "skip"),
        ("discretise", "scan"),
        ("scan", "skip"),
    ],
)
def test_the_arrows_go_from_box_to_box(diagram, start, end):
    (axes,) = diagram.axes
    tips = [axes.transData.transform(arrow._posA_posB) for arrow in axes.patches if isinstance(arrow, FancyArrowPatch)]
    around = {name: extent.padded(1.5) for name, extent in boxes(diagram).items()}
    assert any(around[start].contains(*tail) and around[end].contains(*head) for tail, head in tips)


def test_the_diagram_stays_on_the_page(diagram):
    page = diagram.bbox
    for artist in (*diagram.axes[0].texts, *diagram.axes[0].patches):
        box = artist.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, artist


def test_step_sizes_has_a_row_for_each_head_and_marks_rest_and_limit():
    dt = torch.tensor([[0.1, 0.01], [0.3, 0.02], [0.2, 0.03]])  # three words, two heads
    figure = plots.step_sizes(["a", "b", "c"], dt, torch.tensor([0.15, 0.05]), 0.3)
    (axes,) = figure.axes
    *heads, rest, limit = axes.lines
    for head, line in enumerate(heads):
        np.testing.assert_allclose(line.get_xdata(), dt[:, head])
        assert list(line.get_ydata()) == [head] * 3
    np.testing.assert_allclose(rest.get_xdata(), [0.15, 0.05])
    assert list(rest.get_ydata()) == [0, 1]
    assert set(limit.get_xdata()) == {0.3}
    assert axes.get_xscale() == "log"
    assert axes.yaxis_inverted(), "head 0 belongs at the top"
    assert labels(figure.legends[0].get_texts()) == [
        "one of the 3 words",
        "raw_dt = 0: the head at rest",
        "dt_limit, 0.3",
    ]


def test_standing_still_draws_a_line_for_each_head_in_the_look_of_its_bundle():
    drifts = {"moves": torch.tensor([[0.0, 0.0], [0.5, 0.2], [1.0, 0.4]]), "stays": torch.zeros(3, 2)}
    figure = plots.standing_still(drifts)
    (axes,) = figure.axes
    drawn = [line.get_ydata() for line in axes.lines]
    np.testing.assert_allclose(drawn, [[0, 0.5, 1], [0, 0.2, 0.4], [0, 0, 0], [0, 0, 0]], rtol=1e-6)
    looks = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    assert looks[0] == looks[1] != looks[2] == looks[3]
    handles = figure.legends[0].legend_handles
    assert labels(figure.legends[0].get_texts()) == list(drifts)
    assert [(handle.get_color(), handle.get_linestyle()) for handle in handles] == [looks[0], looks[2]]
    assert axes.get_xlim() == (0, 2)


def test_cages_draws_each_map_and_its_bars_under_its_name():
    generator = torch.Generator().manual_seed(0)
    errors = {name: torch.rand(5, 3, generator=generator) for name in "ABCD"}
    changes = {name: torch.rand(5, generator=generator) for name in "ABCD"}
    figure = plots.cages(errors, changes, cut=2, exchanged=1)
    titled = {axes.get_title(loc="left"): i for i, axes in enumerate(figure.axes) if axes.get_title(loc="left")}
    assert list(titled) == ["cage A", "cage B", "cage C", "cage D"]
    for name in "ABCD":
        above, below = figure.axes[titled[f"cage {name}"]], figure.axes[titled[f"cage {name}"] + 3]
        assert np.array_equal(np.asarray(above.images[0].get_array()), errors[name].T.numpy()), (
            "heads down, tokens across"
        )
        assert above.images[0].get_clim() == (0, 1)
        assert set(above.lines[0].get_xdata()) == {1.5}, "between the last token read at once and the next"
        np.testing.assert_allclose([bar.get_height() for bar in below.patches], changes[name])
        colours = [bar.get_facecolor() for bar in below.patches]
        assert [colour != colours[0] for colour in colours] == [False, True, False, False, False]
    shown = [axes for axes in figure.axes[:12] if axes.axison]
    assert len(shown) == 8, "no empty axes"
