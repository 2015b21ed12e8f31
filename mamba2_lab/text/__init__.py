"""Text and token ids."""

from mamba2_lab.text.stream import TextStream as TextStream
from mamba2_lab.text.tokenizer import FILE_NAME as FILE_NAME
from mamba2_lab.text.tokenizer import REPLACEMENT as REPLACEMENT
from mamba2_lab.text.tokenizer import BPETokenizer as BPETokenizer
from mamba2_lab.text.tokenizer import ByteTokenizer as ByteTokenizer
from mamba2_lab.text.tokenizer import HuggingFaceTokenizer as HuggingFaceTokenizer
from mamba2_lab.text.tokenizer import Tokenizer as Tokenizer
from mamba2_lab.text.tokenizer import load as load
from mamba2_lab.text.tokenizer import save as save
