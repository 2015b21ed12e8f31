"""Answers to `write_greedily`."""

import torch
from support.learners.collect import right, unexplained, wrong


@wrong("write_greedily", "The tokens are right, but the whole text is read again for")
def reads_everything_again(model, ids, count):
    out = []
    for _ in range(count):
        logits, _ = model.prefill(ids)
        out.append(logits[0].argmax().item())
        ids = torch.cat([ids, torch.tensor([[out[-1]]])], 1)
    return out


@wrong("write_greedily", "It forgets its context")
def forgets_the_cache(model, ids, count):
    logits, cache = model.prefill(ids)
    out = [logits[0].argmax().item()]
    for _ in range(count - 1):
        logits, _ = model.prefill(torch.tensor([[out[-1]]]))
        out.append(logits[0].argmax().item())
    return out[:count]


@wrong("write_greedily", "The list of new tokens has 16 entries, and the last 8 are")
def with_the_prompt(model, ids, count):
    logits, cache = model.prefill(ids)
    out = ids[0].tolist()
    for _ in range(count):
        out.append(logits[0].argmax().item())
        logits, cache = model.step(torch.tensor([out[-1]]), cache)
    return out


@wrong("write_greedily", "The cache is never moved on: every step starts right after")
def never_keeps_the_new_cache(model, ids, count):
    logits, cache = model.prefill(ids)
    new = []
    for _ in range(count):
        new.append(int(logits[0].argmax()))
        logits, _ = model.step(torch.tensor(new[-1:]), cache)
    return new


@wrong("write_greedily", "The last token of the prompt is read twice, once with the")
def last_token_twice(model, ids, count):
    _, cache = model.prefill(ids)
    token, new = ids[:, -1], []
    for _ in range(count):
        logits, cache = model.step(token, cache)
        token = logits.argmax(dim=-1)
        new.append(int(token))
    return new


@wrong("write_greedily", "The first new token is missing. The logits of the prompt")
def one_behind(model, ids, count):
    logits, cache = model.prefill(ids)
    new = []
    for _ in range(count):
        token = logits.argmax(dim=-1)
        logits, cache = model.step(token, cache)
        new.append(int(logits.argmax(dim=-1)))
    return new


@wrong("write_greedily", "The list of new tokens has 16 entries, and the last 8 are")
def prompt_in_front(model, ids, count):
    logits, cache = model.prefill(ids)
    new = ids[0].tolist()
    for _ in range(count):
        new.append(int(logits.argmax()))
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
    return new


@wrong("write_greedily", "The list of new tokens has 9 entries, and the first 8 are")
def one_too_many(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    while len(new) <= count:
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
        new.append(int(logits.argmax()))
    return new


@wrong("write_greedily", "Two mistakes at once. The last token of the prompt is read twice")
def steps_from_the_prompt(model, ids, count):
    logits, cache = model.prefill(ids)
    new = []
    for _ in range(count):
        logits, cache = model.step(ids[:, -1], cache)
        new.append(int(logits.argmax()))
    return new


@wrong("write_greedily", "It reads its first token again and again. `new[-1:]` is the")
def the_first_again(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    for _ in range(count - 1):
        logits, cache = model.step(torch.tensor(new[:1]), cache)
        new.append(int(logits.argmax()))
    return new


@wrong("write_greedily", "The list of new tokens ends too early: it has 7 of 8 entries,")
def one_too_few(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    for _ in range(count - 2):
        logits, cache = model.step(torch.tensor([new[-1]]), cache)
        new.append(int(logits.argmax()))
    return new


@wrong("write_greedily", "It comes out as if `argmin` stood where `argmax` belongs, at")
def the_least_likely(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmin())]
    while len(new) < count:
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
        new.append(int(logits.argmin()))
    return new


@wrong("write_greedily", "The last token of the prompt is read twice, once with the")
def reads_the_last_token_of_the_prompt_again(model, ids, count):
    logits, cache = model.prefill(ids)
    token, new = ids[:, -1], []
    while len(new) < count:
        logits, cache = model.step(token, cache)
        token = logits.argmax(-1)
        new.append(int(token))
    return new


@unexplained("write_greedily")
def second_best(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.topk(2).indices[0, 1])]
    while len(new) < count:
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
        new.append(int(logits.topk(2).indices[0, 1]))
    return new


@right("write_greedily")
def as_a_list_of_tensors(model, ids, count):
    logits, cache = model.prefill(ids)
    out = []
    for i in range(count):
        token = logits.argmax(-1)
        out.append(token[0])
        if i < count - 1:
            logits, cache = model.step(token, cache)
    return out


@right("write_greedily")
def by_prefill_of_one(model, ids, count):
    out, cache = [], None
    for _ in range(count):
        logits, cache = model.prefill(ids, cache)
        ids = logits.argmax(-1, keepdim=True)
        out.append(ids.item())
    return out


@right("write_greedily")
def greedy_as_a_tensor(model, ids, count):
    return torch.tensor(by_prefill_of_one(model, ids, count), dtype=torch.long)
