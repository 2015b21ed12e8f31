"""How documents open when they are packed: as the model reads a text alone."""

from __future__ import annotations

import math

import pytest
import torch
from support.families import family_model
from support.many_tokenizers import codestral_like, every_tokenizer, gpt_like, llama_like, our_bpe

from mamba2_lab.data import Document, pack
from mamba2_lab.evaluation import Reading
from mamba2_lab.text import ByteTokenizer, Tokenizer, prompt_ids

TEXTS = ["hello ab", "", "ab ab hello\n"]
DOCUMENTS = [Document(f"{i}.txt", text) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), our_bpe(), gpt_like(), llama_like()], ids=lambda kind: type(kind).__name__
)
def test_where_nothing_else_opens_a_text_the_end_of_one_opens_the_next(tokenizer: Tokenizer) -> None:
    end = tokenizer.end_of_text
    found = pack(DOCUMENTS, tokenizer)
    assert found.ids.tolist() == [i for text in TEXTS for i in (end, *tokenizer.encode(text))]


@pytest.mark.parametrize("tokenizer", [codestral_like(), codestral_like().opened_by_end_of_text()], ids=["<s>", "</s>"])
def test_a_token_that_opens_texts_opens_documents_and_the_end_closes_them(tokenizer: Tokenizer) -> None:
    start, end = tokenizer.opening[0], tokenizer.end_of_text
    found = pack(DOCUMENTS, tokenizer)
    parts = [[start, *tokenizer.encode(text), *([end] if start != end else [])] for text in TEXTS]
    assert found.ids.tolist() == sum(parts, [])
    assert found.document_ids.tolist() == [i for i, part in enumerate(parts) for _ in part]


@pytest.mark.parametrize("name", every_tokenizer())
def test_a_packed_document_costs_what_it_costs_alone(name: str) -> None:
    """So a training learns what an evaluation measures; behind each document it learns the end as well."""
    tokenizer = every_tokenizer()[name]
    model = family_model("hybrid", vocab_size=tokenizer.vocab_size).cpu().double()
    packed = pack(DOCUMENTS, tokenizer)
    with torch.no_grad():
        logits = model(packed.ids[None, :-1].long(), document_ids=packed.document_ids[None, :-1])[0]
    costs = -logits.log_softmax(dim=-1).gather(1, packed.ids[1:, None].long())[:, 0]
    opening = len(prompt_ids(tokenizer, ""))
    for i, document in enumerate(DOCUMENTS):
        first = int((packed.document_ids == i).nonzero()[0]) + opening - 1
        count = len(tokenizer.encode(document.text))
        alone = Reading(model, tokenizer)
        alone.read(document)
        assert math.isclose(float(costs[first : first + count].sum()), alone.nats, rel_tol=1e-9), document
        behind = packed.ids[first + 1 + count :][:1].tolist()
        assert behind == ([] if i == 2 and first + count == len(costs) else [tokenizer.end_of_text])
