"""What stands on a figure without axes (`mamba2_lab.plots.page`), read back from it."""

import io
import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from mamba2_lab.plots.page import Lettering

DPI = 100


def of_kind(figure: Figure, kind: type) -> list:
    return [artist for artist in figure.artists if isinstance(artist, kind)]


def texts(figure: Figure) -> dict[str, tuple[float, float]]:
    """Where each text stands, in the coordinates of its page; of equal ones the last."""
    found = {}
    for letters in of_kind(figure, Lettering):
        assert len(letters.texts) == len(letters.get_paths()) == len(letters.get_offsets())
        found.update(zip(letters.texts, map(tuple, letters.get_offsets()), strict=True))
    return found


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Each text, and what it covers, in pixels."""
    found = []
    for letters in of_kind(figure, Lettering):
        places = letters.get_offset_transform().transform(letters.get_offsets())
        for text, outlines, place in zip(letters.texts, letters.get_paths(), places, strict=True):
            if text.strip():
                box = letters.get_transform().transform_path(outlines).get_extents()
                found.append((text, box.translated(*place)))
    return found


def assert_texts_are_legible(figure: Figure) -> None:
    """All on the page, and none on another one."""
    found = boxes(figure)
    page = figure.bbox
    for text, box in found:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text
    for (one, box), (other, its_box) in itertools.combinations(found, 2):
        assert not box.overlaps(its_box), (one, other)


def pixels(figure: Figure) -> np.ndarray:
    """(rows,columns,3) in 0..1, the first row on top."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return np.asarray(Image.open(buffer).convert("RGB")) / 255


def pixel_at(figure: Figure, artist, x: float, y: float) -> np.ndarray:
    """The colour at a place given in the coordinates of an artist."""
    scale = DPI / figure.dpi
    column, up = artist.get_transform().transform((x, y)) * scale
    picture = pixels(figure)
    return picture[len(picture) - 1 - int(up), int(column)]
