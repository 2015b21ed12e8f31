"""A quick training on a few texts."""

from __future__ import annotations

import signal

from torch import Tensor

from mamba2_lab import Mamba2LM
from mamba2_lab.data import Document, PackedTokens, pack
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import Record, TrainingConfig, fit
from mamba2_lab.training.step import Learner

TOKENIZER = ByteTokenizer()
QUICK = {"steps": 6, "batch_size": 2, "length": 12, "warmup_steps": 2}
TEXTS = ["def f(x):\n    return x\n", "né = '🐍'\n", "", "import json\nprint(json.dumps([1, 2, 3]))\n"]


def documents(texts: list[str] = TEXTS) -> list[Document]:
    return [Document(f"{i}.py", text) for i, text in enumerate(texts)]


def packed(texts: list[str] = TEXTS) -> PackedTokens:
    return pack(documents(texts), TOKENIZER)


def quick_fit(model: Mamba2LM, **changes) -> list[Record]:
    return fit(model, packed(), TrainingConfig(**{**QUICK, **changes}), progress=False)


def weights_of(model: Mamba2LM) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def without_time(records: list[Record]) -> list[tuple]:
    return [(r.step, r.loss, r.learning_rate, r.gradient_norm) for r in records]


def stopping_at(step: int):
    """`update`, but Ctrl-C is pressed in the given step."""
    update = Learner.update

    def stopping(learner, at):
        if at == step:
            signal.raise_signal(signal.SIGINT)
        return update(learner, at)

    return stopping


def failing_at(step: int, error: Exception):
    """`update`, but it raises in the given step."""
    update = Learner.update

    def failing(learner, at):
        if at == step:
            raise error
        return update(learner, at)

    return failing
