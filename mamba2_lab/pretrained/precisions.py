"""A model of the box with its weights in fewer bits: `python -m mamba2_lab.pretrained.precisions [medium]`.

Prints what each takes on disk, and the bits per byte that it needs for the held-out files. How fast each writes is a
measure of `mamba2-lab bench precisions`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from mamba2_lab.data import standard_library
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.training import bits_per_byte
from mamba2_lab.weights import PRECISIONS, WEIGHTS_NAME, load_tokenizer, models_in_the_box
from mamba2_lab.words import table


def main(arguments: list[str] | None = None) -> None:
    """Measure a model in every precision, beside float32."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", nargs="?", default="medium", choices=models_in_the_box())
    parser.add_argument("--files", type=int, help="so many of the held-out files alone, the first ones")
    options = parser.parse_args(arguments)
    held_out, tokenizer = standard_library().held_out[: options.files], load_tokenizer(options.name)
    rows, plain = [["weights", "bytes", "of float32", "bits per byte", "more"]], None
    for precision, given in PRECISIONS.items():
        model = Mamba2LM.from_pretrained(options.name, **given)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            size = (Path(folder) / WEIGHTS_NAME).stat().st_size
        bits = bits_per_byte(model, held_out, tokenizer, progress=True)
        plain = plain or (size, bits)
        rows.append(
            [precision, f"{size:,}", f"{size / plain[0]:.3f}", f"{bits:.4f}", f"{100 * (bits / plain[1] - 1):+.2f} %"]
        )
    print(table(rows, "<>"))


if __name__ == "__main__":
    main()
