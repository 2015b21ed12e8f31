"""Answers to `refute`."""

from support.learners.collect import right, wrong


@wrong("refute", "Two presses do not refute them all")
def tries_two(decay, write, threshold):
    for presses in (1, 2):
        level = write * (1 + decay) if presses == 2 else write
        if (level > threshold) != bool(presses % 2):
            return presses
    return 2


@wrong("refute", "One number for all memories will not do")
def three_always(decay, write, threshold):
    return 2 + 1


@wrong("refute", "After so many presses the memory is right")
def the_first_right_one(decay, write, threshold):
    presses, h = 1, write
    while (h > threshold) != bool(presses % 2):
        presses, h = presses + 1, decay * h + write
    return presses


@wrong("refute", "After so many presses the memory is right. Look for a number")
def even_for_odd(decay, write, threshold):
    h = 0.0
    for presses in (1, 2, 3):
        h = decay * h + write
        if (h > threshold) == (presses % 2 == 1):
            return presses


@wrong("refute", "The number is one too small: the first press brings the")
def counts_from_zero(decay, write, threshold):
    h = 0.0
    for presses in range(3):
        h = decay * h + write
        if (h > threshold) != ((presses + 1) % 2 == 1):
            return presses


@wrong("refute", "After so many presses the memory is right. Look for a number")
def threshold_turned_round(decay, write, threshold):
    h = 0.0
    for presses in (1, 2, 3):
        h = decay * h + write
        if (h < threshold) != (presses % 2 == 1):
            return presses


@wrong("refute", "It starts as if something had been written already. Before the")
def written_before_the_first(decay, write, threshold):
    h = write
    for presses in range(1, 4):
        h = decay * h + write
        if (h > threshold) != (presses % 2 == 1):
            return presses


@wrong("refute", "Nothing fades here. At each press what is there is multiplied")
def never_fades(decay, write, threshold):
    h = 0.0
    for presses in (1, 2, 3):
        h = h + write
        if (h > threshold) != (presses % 2 == 1):
            return presses


@wrong("refute", "Only even numbers of presses are looked at. A memory may be")
def only_looks_at_even_ones(decay, write, threshold):
    h = 0.0
    for presses in range(1, 9):
        h = decay * h + write
        if presses % 2 == 0 and h > threshold:
            return presses


@wrong("refute", "It fades what it writes as well. What is written at a press has")
def fades_what_it_writes(decay, write, threshold):
    h = 0.0
    for presses in (1, 2, 3, 4, 5):
        h = decay * (h + write)
        if (h > threshold) != (presses % 2 == 1):
            return presses


@right("refute")
def by_the_series(decay, write, threshold):
    for presses in range(1, 10):
        says = write * (1 - decay**presses) / (1 - decay) > threshold
        if says != bool(presses % 2):
            return presses
    return None


@right("refute")
def from_no_press_on(decay, write, threshold):
    h = presses = 0
    while (h > threshold) == (presses % 2 == 1):
        h, presses = decay * h + write, presses + 1
    return presses


@right("refute")
def by_cases(decay, write, threshold):
    if write <= threshold:
        return 1
    return 2 if write * (1 + decay) > threshold else 3


@right("refute")
def far_out(decay, write, threshold):
    end = write / (1 - decay) > threshold
    return 1000 if end else 1001
