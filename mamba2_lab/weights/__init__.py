"""Weights in and out: several layouts, and nothing from a stranger believed before it was looked at.

loading.py     load and save a model, step by step: read this first
tokenizer.py   the tokenizer that belongs to it
places.py      where it lies: the box, a folder, the folder of a training (runs.py), the Hub
convert.py     a model written for another program
layouts/       what is called how in a folder of ours, of the official code, of transformers: a file each
files.py       safetensors files, their headers and their index
pickled.py     pytorch_model.bin, a pickle of which nothing is run
build.py       names and shapes that a config promises; tensors made a model
adapters.py    what a training by LoRA has learned, to be added to the model that it began with
publishing.py  to the Hub; card.py writes the card
caches.py      what a text left behind, in a file
identity.py    which model it is: a digest
stored.py      matrices in 8 and 4 bits
"""

from mamba2_lab.weights.build import with_weights as with_weights
from mamba2_lab.weights.files import WEIGHTS_NAME as WEIGHTS_NAME
from mamba2_lab.weights.files import read_tensors as read_tensors
from mamba2_lab.weights.layouts.transformers import from_transformers as from_transformers
from mamba2_lab.weights.layouts.transformers import to_transformers as to_transformers
from mamba2_lab.weights.loading import load as load
from mamba2_lab.weights.loading import save as save
from mamba2_lab.weights.places import BOX as BOX
from mamba2_lab.weights.places import CONFIG_NAME as CONFIG_NAME
from mamba2_lab.weights.places import models_in_the_box as models_in_the_box
from mamba2_lab.weights.publishing import Plan as Plan
from mamba2_lab.weights.publishing import publish as publish
from mamba2_lab.weights.stored import PRECISIONS as PRECISIONS
from mamba2_lab.weights.stored import precision_of as precision_of
from mamba2_lab.weights.tokenizer import load_tokenizer as load_tokenizer
