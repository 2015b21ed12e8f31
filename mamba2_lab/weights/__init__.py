"""Weights in and out."""

from mamba2_lab.weights.loading import BOX as BOX
from mamba2_lab.weights.loading import CONFIG_NAME as CONFIG_NAME
from mamba2_lab.weights.loading import WEIGHTS_NAME as WEIGHTS_NAME
from mamba2_lab.weights.loading import from_transformers as from_transformers
from mamba2_lab.weights.loading import load as load
from mamba2_lab.weights.loading import load_tokenizer as load_tokenizer
from mamba2_lab.weights.loading import models_in_the_box as models_in_the_box
from mamba2_lab.weights.loading import read_tensors as read_tensors
from mamba2_lab.weights.loading import save as save
from mamba2_lab.weights.loading import save_official as save_official
from mamba2_lab.weights.loading import to_transformers as to_transformers
