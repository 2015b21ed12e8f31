"""The bars of the playground hold the probabilities they were given, and their names stay inside the figure."""

from matplotlib.colors import same_color

from mamba2_lab import plots
from mamba2_lab.plots.style import COLOURS

TOKENS = ["a", " ", "\n", "def main"]
ROWS = {"model\n9 left": [0.5, 0.25, 0.125, 0.0001], "top-k\n2 left": [2 / 3, 1 / 3, 0, 0]}


def test_each_panel_holds_its_row_and_marks_the_chosen_token():
    panels = [axes for axes in plots.candidates(TOKENS, ROWS, chosen=1).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == list(ROWS)
    for axes, row in zip(panels, ROWS.values(), strict=True):
        assert [bar.get_width() for bar in axes.patches] == row
        assert [same_color(bar.get_facecolor(), COLOURS[5]) for bar in axes.patches] == [False, True, False, False]
    said = [[text.get_text().strip() for text in axes.texts] for axes in panels]
    assert said == [["50.0 %", "25.0 %", "12.5 %", "< 0.1 %"], ["66.7 %", "33.3 %", "removed", "removed"]]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["a", "·", "↵", "def·main"]


def test_no_number_leaves_its_panel_and_no_name_the_figure():
    figure = plots.candidates(TOKENS, {f"filter {i}\n257 left": row for i in range(6) for row in [[1.0, 0.9, 0, 0]]}, 0)
    figure.draw_without_rendering()
    whole = figure.bbox
    for axes in figure.axes:
        right = axes.get_window_extent().x1
        assert all(text.get_window_extent().x1 <= right + 2 for text in axes.texts)
    names = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(whole.x0 <= name.x0 for name in names)
