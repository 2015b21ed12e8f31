"""Answers to `crossover`."""

from support.learners.collect import right, wrong


@wrong("crossover", "That is the first size at which the second is faster")
def the_first_time_it_is_faster(sizes, first, second):
    for size, a, b in zip(sizes, first, second, strict=True):
        if b < a:
            return size
    return None


@wrong("crossover", "That is where the first is faster")
def ways_exchanged(sizes, first, second):
    found = None
    for size, a, b in reversed(list(zip(sizes, first, second, strict=True))):
        if not a < b:
            break
        found = size
    return found


@wrong("crossover", "That is the size before")
def the_last_slow_one(sizes, first, second):
    found = None
    for size, a, b in zip(sizes, first, second, strict=True):
        if b >= a:
            found = size
    return found


@wrong("crossover", "That is the size before: the largest at which the second is")
def last_of_the_first(sizes, first, second):
    found = [s for s, a, b in zip(sizes, first, second, strict=False) if a <= b]
    return found[-1] if found and found[-1] != sizes[-1] else None


@wrong("crossover", "That is the first size at which the second is at least")
def first_time_it_wins(sizes, first, second):
    for s, a, b in zip(sizes, first, second, strict=False):
        if b <= a:
            return s
    return None


@wrong("crossover", "That is the size at which both are nearest")
def where_they_are_nearest(sizes, first, second):
    gaps = [abs(a - b) for a, b in zip(first, second, strict=False)]
    return sizes[gaps.index(min(gaps))]


@wrong("crossover", "That is the place in the list. Return the size that stands")
def its_index(sizes, first, second):
    found = None
    for i in reversed(range(len(sizes))):
        if second[i] >= first[i]:
            break
        found = i
    return found


@wrong("crossover", "At that size both take the same time: the second is not")
def a_tie_is_a_win(sizes, first, second):
    found = None
    for size, one, other in zip(sizes[::-1], first[::-1], second[::-1], strict=True):
        if other > one:
            break
        found = size
    return found


@wrong("crossover", "That is the largest size at which the second is faster. Go on")
def every_size_that_wins(sizes, first, second):
    wins = [size for size, one, other in zip(sizes, first, second, strict=True) if other < one]
    return wins[-1] if wins else None


@wrong("crossover", "It comes out as if `second` stood where `sizes` belongs.")
def seconds_for_a_size(sizes, first, second):
    found = None
    for one, other in zip(reversed(first), reversed(second), strict=True):
        if other >= one:
            break
        found = other
    return found


@wrong("crossover", "That is the largest size at which the second is faster. Go on")
def looks_at_the_last_alone(sizes, first, second):
    return sizes[-1] if second[-1] < first[-1] else None


@wrong("crossover", "That is where the first is faster. Less time is faster.")
def first_is_faster(sizes, first, second):
    found = None
    for size, one, other in zip(reversed(sizes), reversed(first), reversed(second), strict=True):
        if one >= other:
            break
        found = size
    return found


@wrong("crossover", "It finds a crossover only where the second was slower before.")
def none_for_always(sizes, first, second):
    for i in range(1, len(sizes)):
        if second[i - 1] >= first[i - 1] and all(b < a for a, b in zip(first[i:], second[i:], strict=True)):
            return sizes[i]
    return None


@right("crossover")
def from_the_end(sizes, first, second):
    found = None
    for size, a, b in zip(reversed(sizes), reversed(first), reversed(second), strict=True):
        if b >= a:
            return found
        found = size
    return found


@right("crossover")
def by_all_that_follow(sizes, first, second):
    faster = [b < a for a, b in zip(first, second, strict=True)]
    return next((size for i, size in enumerate(sizes) if all(faster[i:])), None)


@right("crossover")
def as_a_float(sizes, first, second):
    found = from_the_end(sizes, first, second)
    return None if found is None else float(found)
