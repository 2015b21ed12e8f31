"""Answers to `learning_rate`."""

import math

import numpy as np
import torch
from support.learners.collect import right, unexplained, wrong


@wrong("learning_rate", "The way down ends at 0")
def cosine_to_zero(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


@wrong("learning_rate", "A whole wave of the cosine")
def a_whole_cosine(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak / 10 + 0.9 * peak * 0.5 * (1 + math.cos(2 * math.pi * done))


@wrong("learning_rate", "The cosine starts at step 0, so the rate jumps where the")
def cosine_from_step_zero(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak / 10 + 0.9 * peak * 0.5 * (1 + math.cos(math.pi * step / steps))


@wrong("learning_rate", "The cosine starts at step 0, so the rate jumps where the")
def cosine_over_all_steps(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.55 + 0.45 * math.cos(math.pi * step / steps))


@wrong("learning_rate", "The way down ends at 0. The last steps would do nothing;")
def cosine_to_zero_with_a_floor(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return max(peak / 10, peak * 0.5 * (1 + math.cos(math.pi * done)))


@wrong("learning_rate", "Step 0 has the rate 0: a whole batch is read, nothing is")
def warmup_by_steps(step, steps, peak, warmup):
    if step <= warmup:
        return peak * step / warmup
    done = (step - warmup) / (steps - warmup)
    return peak / 10 + 0.9 * peak * (1 + math.cos(math.pi * done)) / 2


@wrong("learning_rate", "This is a quarter of a wave: it falls fastest at the end.")
def sine_down(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * math.cos(math.pi / 2 * done))


@wrong("learning_rate", "This falls in a straight line. The cosine stays near the peak")
def a_line_down(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (1 - 0.9 * done)


@wrong("learning_rate", "It ends at 0.1, whatever the peak is. A tenth of the peak is")
def a_tenth_for_a_tenth_of_the_peak(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return 0.1 + (peak - 0.1) * (1 + math.cos(math.pi * done)) / 2


@wrong("learning_rate", "It comes out as if `0.9` were left out.")
def a_tenth_too_high(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak / 10 + peak * (1 + math.cos(math.pi * done)) / 2


@wrong("learning_rate", "There is no warmup: the cosine begins with the first step. At")
def no_warmup(step, steps, peak, warmup):
    done = step / steps
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


@wrong("learning_rate", "It begins at a tenth of the peak and grows. The cosine goes")
def the_cosine_grows(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 - math.cos(math.pi * done)) / 2)


@wrong("learning_rate", "It comes out as if `math.pi` were left out.")
def a_cosine_without_pi(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 + math.cos(done)) / 2)


@unexplained("learning_rate")
def square_root_warmup(step, steps, peak, warmup):
    if step < warmup:
        return peak * math.sqrt((step + 1) / warmup)
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


@right("learning_rate")
def ends_on_the_last_step(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - 1 - warmup)
    return peak * (0.55 + 0.45 * math.cos(math.pi * done))


@right("learning_rate")
def rate_by_numpy(step, steps, peak, warmup):
    if step < warmup:
        return np.float64(peak) * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * np.cos(np.pi * done / 2) ** 2)


@right("learning_rate")
def rate_in_a_tensor(step, steps, peak, warmup):
    done = torch.tensor(max(step - warmup, 0) / (steps - warmup), dtype=torch.float64)
    cosine = peak / 10 + 0.9 * peak * (1 + torch.cos(math.pi * done)) / 2
    return (
        torch.minimum(cosine, torch.tensor(peak * (step + 1) / warmup, dtype=torch.float64))
        if step < warmup
        else cosine
    )
