"""Answers to `merge_pair`."""

import torch
from support.learners.collect import right, wrong


@wrong("merge_pair", "A token was used twice")
def merges_overlapping(ids, pair, new_id):
    out = []
    for i, one in enumerate(ids):
        if i + 1 < len(ids) and (one, ids[i + 1]) == tuple(pair):
            out.append(new_id)
        elif not (i and (ids[i - 1], one) == tuple(pair)):
            out.append(one)
    return out


@wrong("merge_pair", "The second token of the pair is still there")
def keeps_the_second(ids, pair, new_id):
    out = []
    for i, one in enumerate(ids):
        out.append(new_id if tuple(ids[i : i + 2]) == tuple(pair) else one)
    return out


@wrong("merge_pair", "The last token got lost")
def loses_the_last(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == tuple(pair):
            out.append(new_id)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@wrong("merge_pair", "The result is in reversed order.")
def from_the_right(ids, pair, new_id):
    out, i = [], len(ids) - 1
    while i >= 0:
        if i > 0 and (ids[i - 1], ids[i]) == tuple(pair):
            out.insert(0, new_id)
            i -= 2
        else:
            out.insert(0, ids[i])
            i -= 1
    return out


@wrong("merge_pair", "Only the first pair was merged. One merge replaces the pair")
def merges_again_and_again(ids, pair, new_id):
    out = list(ids)
    while tuple(pair) in zip(out, out[1:], strict=False):
        i = list(zip(out, out[1:], strict=False)).index(tuple(pair))
        out[i : i + 2] = [new_id]
        break
    return out


@wrong("merge_pair", "The two were merged in the wrong order as well: 2 1 is")
def merges_in_either_order(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and {ids[i], ids[i + 1]} == set(pair):
            out.append(new_id)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@wrong("merge_pair", "Only the first pair was merged. One merge replaces the pair")
def first_pair_only(ids, pair, new_id):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return ids[:i] + [new_id] + ids[i + 2 :]
    return ids


@wrong("merge_pair", "After a pair one id too many is skipped. A pair is two: go on")
def skips_one_too_many(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            out.append(new_id)
            i += 3
        else:
            out.append(ids[i])
            i += 1
    return out


@wrong("merge_pair", "The first of the pair stays in front of the new id. Both make")
def keeps_the_first(ids, pair, new_id):
    out = ids[:1]
    for before, i in zip(ids, ids[1:], strict=False):
        out.append(new_id if (before, i) == pair else i)
    return out


@wrong("merge_pair", "Both of a pair became the new id. It stands for the two")
def each_of_both_becomes_new(ids, pair, new_id):
    merged = list(ids)
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            merged[i] = merged[i + 1] = new_id
    return merged


@wrong("merge_pair", "A pair at the very end is overlooked. The last place where")
def not_at_the_end(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if i < len(ids) - 2 and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@wrong("merge_pair", "A pair becomes its own first token. It should become `new_id`.")
def reports_the_old_id(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(ids[i])
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@wrong("merge_pair", "A pair is taken out and nothing put in its place. One `new_id`")
def drops_the_pair(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@right("merge_pair")
def as_a_tuple(ids, pair, new_id):
    out, rest = [], list(ids)
    while rest:
        if rest[:2] == list(pair):
            out.append(new_id)
            rest = rest[2:]
        else:
            out.append(rest.pop(0))
    return tuple(out)


@right("merge_pair")
def by_looking_back(ids, pair, new_id):
    out, free = [], False
    for one in ids:
        if free and (out[-1], one) == tuple(pair):
            out[-1], free = new_id, False
        else:
            out.append(one)
            free = True
    return out


@right("merge_pair")
def as_a_tensor(ids, pair, new_id):
    return torch.tensor(as_a_tuple(ids, pair, new_id), dtype=torch.long)
