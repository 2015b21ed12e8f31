"""Answers to `median_seconds`."""

import statistics

import numpy as np
import torch
from support.learners.collect import right, wrong


def _seconds(machine, work, rounds, *, warm=True, waits=True):
    if warm:
        machine.ask(work)
        machine.wait()
    seconds = []
    for _ in range(rounds):
        began = machine.now()
        machine.ask(work)
        if waits:
            machine.wait()
        seconds.append(machine.now() - began)
        machine.wait()
    return seconds


@wrong("median_seconds", "The first call counts")
def counts_the_first(machine, work, rounds):
    return statistics.median(_seconds(machine, work, rounds, warm=False))


@wrong("median_seconds", "The clock is read when the work has been handed over, not")
def does_not_wait(machine, work, rounds):
    return statistics.median(_seconds(machine, work, rounds, waits=False))


@wrong("median_seconds", "This is the mean")
def takes_the_mean(machine, work, rounds):
    return statistics.mean(_seconds(machine, work, rounds))


@wrong("median_seconds", "The warm-up is still under way when the clock is read for")
def warm_up_not_waited_for(machine, work, rounds):
    machine.ask(work)
    found = []
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        machine.wait()
        found.append(machine.now() - start)
    return statistics.median(found)


@wrong("median_seconds", "The clock starts after the asking. A reader waits for that")
def clock_starts_late(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    found = []
    for _ in range(rounds):
        machine.ask(work)
        start = machine.now()
        machine.wait()
        found.append(machine.now() - start)
    return statistics.median(found)


@wrong("median_seconds", "This is the mean. One call that was disturbed by something")
def all_in_one(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    start = machine.now()
    for _ in range(rounds):
        machine.ask(work)
        machine.wait()
    return (machine.now() - start) / rounds


@wrong("median_seconds", "It comes out as if `min` stood where `median` belongs")
def best_of(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    found = []
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        machine.wait()
        found.append(machine.now() - start)
    return min(found)


@wrong("median_seconds", "It comes out as if `max` stood where `median` belongs.")
def the_slowest(machine, work, rounds):
    return max(_seconds(machine, work, rounds))


@wrong("median_seconds", "It comes out as if `began = machine.now()` stood before the")
def a_clock_set_once(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    seconds, start = [], machine.now()
    for _ in range(rounds):
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - start)
    return statistics.median(seconds)


@wrong("median_seconds", "That is the round in the middle of the run. For the median")
def the_middle_without_sorting(machine, work, rounds):
    return _seconds(machine, work, rounds)[rounds // 2]


@wrong("median_seconds", "The clock is read when the work has been handed over, not")
def wait_outside_the_clock(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    seconds = []
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        end = machine.now()
        machine.wait()
        seconds.append(end - start)
    return statistics.median(seconds)


@wrong("median_seconds", "The result has the wrong sign: every number is minus what it")
def end_minus_start_turned(machine, work, rounds):
    return -statistics.median(_seconds(machine, work, rounds))


@wrong("median_seconds", "It comes out as if it were divided by `rounds` once more.")
def divided_by_the_rounds(machine, work, rounds):
    return statistics.median(_seconds(machine, work, rounds)) / rounds


@wrong("median_seconds", "The warm-up is timed too, and counts among the others. It is")
def times_the_warm_up_too(machine, work, rounds):
    start = machine.now()
    machine.ask(work)
    machine.wait()
    seconds = [machine.now() - start]
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - start)
    return statistics.median(seconds)


@right("median_seconds")
def median_by_numpy(machine, work, rounds):
    return np.median(_seconds(machine, work, rounds))


@right("median_seconds")
def median_in_a_tensor(machine, work, rounds):
    return torch.tensor(_seconds(machine, work, rounds), dtype=torch.float64).quantile(0.5)


@right("median_seconds")
def all_but_the_first(machine, work, rounds):
    return statistics.median(_seconds(machine, work, rounds + 1, warm=False)[1:])
