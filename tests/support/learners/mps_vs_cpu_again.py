"""Further wrong answers to notebook 12, written before its list of mistakes was read again."""

import statistics

from support.learners.collect import wrong

# median_seconds


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


# projection_cost


@wrong("projection_cost", "A sum of d_in products takes one addition fewer. By custom")
def one_addition_fewer(l, d_in, d_out, number_bytes):
    return l * d_out * (2 * d_in - 1), number_bytes * (l * d_in + d_in * d_out + l * d_out)


@wrong("projection_cost", "The matrix is read again for each token. A good product")
def the_matrix_for_each_token(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, number_bytes * (l * d_in + l * d_in * d_out + l * d_out)


@wrong("projection_cost", "What comes out is not counted: it has to be written to")
def read_only(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, number_bytes * d_in * (l + d_out)


@wrong("projection_cost", "The number of bytes is 8 times what it should be.")
def bits_not_bytes(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, 8 * number_bytes * (l * d_in + d_in * d_out + l * d_out)


# too_fast


@wrong("too_fast", "The two times are added, as if the machine computed only")
def one_after_the_other(claims, peak, bandwidth):
    return [n for n, (ops, size, s) in claims.items() if s < ops / peak + size / bandwidth]


@wrong("too_fast", "The result holds the right entries, in another order.")
def sorted_by_name(claims, peak, bandwidth):
    return sorted(n for n, (ops, size, s) in claims.items() if s < max(ops / peak, size / bandwidth))


@wrong("too_fast", "Only the arithmetic is looked at. Work with little")
def arithmetic_alone(claims, peak, bandwidth):
    return [n for n, (ops, size, s) in claims.items() if ops / s > peak]


# crossover


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


# bytes_kept


@wrong("bytes_kept", "It comes out as if `config.d_inner` stood where")
def window_without_b_and_c(l, config, number_bytes):
    kv = 2 * l * config.d_model * config.n_layer * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    window = (config.d_conv - 1) * config.d_inner * number_bytes
    return kv, config.n_layer * (state + window)


@wrong("bytes_kept", "It comes out as if 4 stood where `number_bytes` belongs.")
def windows_in_four_bytes(l, config, number_bytes):
    kv = 2 * l * config.d_model * config.n_layer * number_bytes
    state = config.nheads * config.headdim * config.d_state
    window = (config.d_conv - 1) * config.conv_dim
    return kv, config.n_layer * (state + window) * 4


@wrong("bytes_kept", "It comes out as if it were multiplied by `l` once more.")
def cache_grows_too(l, config, number_bytes):
    kv = 2 * l * config.d_model * config.n_layer * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    window = (config.d_conv - 1) * config.conv_dim * number_bytes
    return kv, l * config.n_layer * (state + window)


@wrong("bytes_kept", "It comes out as if `config.d_inner` stood where `config.d_model` belongs.")
def keys_as_wide_as_inside(l, config, number_bytes):
    kv = 2 * l * config.d_inner * config.n_layer * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    window = (config.d_conv - 1) * config.conv_dim * number_bytes
    return kv, config.n_layer * (state + window)
