"""Answers to `release`."""

import numpy as np
from support.learners.collect import right, wrong


@wrong("release", "A beginning of the stop string is shown")
def shows_half_a_stop_string(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop)], "", True
    return pending, "", False


@wrong("release", "It always holds back as many characters as might belong to")
def always_holds_as_much(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop)], "", True
    cut = max(0, len(pending) - (len(stop) - 1))
    return pending[:cut], pending[cut:], False


@wrong("release", "The stop string is shown")
def shows_the_stop_string(pending, stop):
    if stop in pending:
        end = pending.index(stop) + len(stop)
        return pending[:end], pending[end:], True
    for size in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:size]):
            return pending[:-size], pending[-size:], False
    return pending, "", False


@wrong("release", "The shortest beginning is held back. The end `aba` holds")
def shortest_beginning(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop)], "", True
    for k in range(1, len(stop)):
        if pending.endswith(stop[:k]):
            return pending[:-k], pending[-k:], False
    return pending, "", False


@wrong("release", "It always holds back as many characters as might belong to")
def always_holds_back(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop)], "", True
    cut = max(len(pending) - len(stop) + 1, 0)
    return pending[:cut], pending[cut:], False


@wrong("release", "What stands behind the stop string is shown. It belongs to")
def ends_without_the_stop(pending, stop):
    if stop in pending:
        return pending.replace(stop, ""), "", True
    for k in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:k]):
            return pending[:-k], pending[-k:], False
    return pending, "", False


@wrong("release", "The stop string waits, as if it might still be shown. Once")
def nothing_waits(pending, stop):
    if stop in pending:
        return pending.split(stop)[0], stop, True
    for k in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:k]):
            return pending[:-k], pending[-k:], False
    return pending, "", False


@wrong("release", "What stands behind the stop string waits for nothing: the")
def what_follows_waits(pending, stop):
    if stop in pending:
        shown, rest = pending.split(stop, 1)
        return shown, rest, True
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], stop[:n], False
    return pending, "", False


@wrong("release", "It goes up to the last stop string. The text is over at the")
def up_to_the_last_stop(pending, stop):
    if stop in pending:
        return pending[: pending.rindex(stop)], "", True
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], stop[:n], False
    return pending, "", False


@wrong("release", "It only sees a stop string at the very end. A token may bring")
def stops_only_at_the_end(pending, stop):
    if pending.endswith(stop):
        return pending[: -len(stop)], "", True
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], stop[:n], False
    return pending, "", False


@wrong("release", "A single letter is held back. More of the stop string may")
def keeps_one_letter(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    if pending and pending[-1] == stop[0]:
        return pending[:-1], pending[-1], False
    return pending, "", False


@wrong("release", "Whether it is over is False where True belongs.")
def never_over(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", False
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], pending[-n:], False
    return pending, "", False


@wrong("release", "Letters of the stop string wait in any order. Only what may")
def waits_for_any_letter_of_it(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    shown = pending.rstrip(stop)
    return shown, pending[len(shown) :], False


@wrong("release", "A beginning of the stop string is shown. Once it is on the")
def shows_with_the_beginning(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    for n in range(min(len(stop) - 1, len(pending)), 0, -1):
        if pending.endswith(stop[:n]):
            return pending, pending[-n:], False
    return pending, "", False


@wrong("release", "The stop string is shown. It says where the text ends, and is")
def shows_the_stop(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop) + len(stop)], "", True
    for k in range(min(len(stop) - 1, len(pending)), 0, -1):
        if pending.endswith(stop[:k]):
            return pending[:-k], pending[-k:], False
    return pending, "", False


@right("release")
def release_as_a_list(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return [before, "", True]
    held = next((k for k in range(len(stop) - 1, 0, -1) if pending.endswith(stop[:k])), 0)
    return [pending[: len(pending) - held], pending[len(pending) - held :], False]


@right("release")
def from_the_left(pending, stop):
    for i in range(len(pending)):
        if pending[i:].startswith(stop):
            return pending[:i], "", True
        if stop.startswith(pending[i:]):
            return pending[:i], pending[i:], False
    return pending, "", False


@right("release")
def with_numpy_truth(pending, stop):
    shown, held, over = release_as_a_list(pending, stop)
    return shown, held, np.bool_(over)
