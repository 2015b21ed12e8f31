"""Text to token ids and back, behind one small protocol.

    ByteTokenizer          nothing to learn, no text it cannot read
    BPETokenizer           byte-pair encoding, trained here: about three and a half bytes of Python to a token
    HuggingFaceTokenizer   the one a published model came with

A model's folder holds `mamba2_lab_tokenizer.json` with everything in it, or else what transformers writes (saved.py).
`prompt_ids` is what a model reads of a prompt, with what opens a text. `save_for_transformers` writes files that others
read (for_transformers.py); the fields of a GGUF file are made in for_llama_cpp.py. What a stranger's tokenizer would do
is tried in another process (trial.py). A `TextStream` is the text of tokens that come one by one (stream.py).
"""

from mamba2_lab.text.for_transformers import as_library as as_library
from mamba2_lab.text.for_transformers import save_for_transformers as save_for_transformers
from mamba2_lab.text.hugging_face import HuggingFaceTokenizer as HuggingFaceTokenizer
from mamba2_lab.text.saved import FILE_NAME as FILE_NAME
from mamba2_lab.text.saved import files_among as files_among
from mamba2_lab.text.saved import find as find
from mamba2_lab.text.saved import has_tokenizer as has_tokenizer
from mamba2_lab.text.saved import load as load
from mamba2_lab.text.saved import save as save
from mamba2_lab.text.stream import TextStream as TextStream
from mamba2_lab.text.subwords import BPETokenizer as BPETokenizer
from mamba2_lab.text.tokenizer import REPLACEMENT as REPLACEMENT
from mamba2_lab.text.tokenizer import ByteTokenizer as ByteTokenizer
from mamba2_lab.text.tokenizer import Tokenizer as Tokenizer
from mamba2_lab.text.tokenizer import prompt_ids as prompt_ids
