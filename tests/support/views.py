"""What an explorer shows, read back from it."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from mamba2_lab.widgets.view import View


def shown(view: View) -> str:
    """The HTML below the controls."""
    return view.children[1].value


def picture(view: View) -> np.ndarray:
    """The pixels that it shows."""
    (data,) = re.findall(r"base64,([\w+/=]+)", shown(view))
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def alt(view: View) -> str:
    class Alt(HTMLParser):
        found = ""

        def handle_starttag(self, tag, attrs):
            if tag == "img":
                self.found = dict(attrs)["alt"]

    parser = Alt()
    parser.feed(shown(view))
    return parser.found
