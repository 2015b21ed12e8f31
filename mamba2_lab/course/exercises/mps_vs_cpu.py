"""Exercises of notebook 12."""
# mypy: allow-untyped-defs

import statistics

import torch

from mamba2_lab.config import Mamba2Config
from mamba2_lab.course.declare import given, reference
from mamba2_lab.mamba2_lm import Mamba2LM

# A timer


@reference(
    stars=2,
    hints=(
        "Three things come before the clock is read for the first time: one call that does not count, a wait for it, "
        "and nothing else.",
        "In each round: read the clock, ask, wait, read the clock again. The machine has done nothing yet when `ask` "
        "returns.",
        "Collect the seconds of every round in a list; `statistics.median` does the rest.",
    ),
)
def median_seconds(machine, work, rounds):
    """Median seconds of one call. machine.ask(work) hands it over, machine.wait() waits, machine.now() is the clock."""
    machine.ask(work)
    machine.wait()
    seconds = []
    for _ in range(rounds):
        began = machine.now()
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - began)
    return statistics.median(seconds)


ASKING = 0.1  # seconds that the pretended machine takes to accept work


class _PretendedMachine:
    """It does what it is asked, one thing after another, beside its caller; time passes only when something is done."""

    def __init__(self, *durations):
        self.durations = list(durations)
        self.left = list(durations)
        self.time = self.busy_until = 0.0

    def ask(self, work):
        self.time += ASKING
        self.busy_until = max(self.time, self.busy_until) + self.left.pop(0)

    def wait(self):
        self.time = max(self.time, self.busy_until)

    def now(self):
        return self.time


def _work():
    """What the pretended machine is asked for; it knows by itself how long each call takes."""


@median_seconds.cases
def a_slow_first_call_and_one_that_was_disturbed():
    return [
        given(_PretendedMachine(9.0, 1.0, 2.0, 3.0), _work, 3),
        given(_PretendedMachine(9.0, 1.0, 8.0, 3.0), _work, 3),
        given(_PretendedMachine(0.5, 0.25, 0.25, 7.0, 0.5, 0.25), _work, 5),
    ]


@median_seconds.oracle
def the_middle_of_the_durations(machine, work, rounds):
    return sorted(machine.durations[1 : rounds + 1])[rounds // 2] + ASKING


median_seconds.slip(
    "The clock is read when the work has been handed over, not when it is done. That times the asking. Wait before "
    "the second reading.",
    does_not_wait={"machine.wait()\n        seconds": "seconds"},
)

median_seconds.slip(
    "The clock starts after the asking. A reader waits for that too, and for small work it is nearly all there is.",
    starts_after_asking={
        "began = machine.now()\n        machine.ask(work)": "machine.ask(work)\n        began = machine.now()"
    },
)

median_seconds.slip(
    "The first call counts. It pays for what is set up once: memory, threads, kernels that are compiled. Make one call "
    "before, and wait for it.",
    has_no_warm_up={"machine.ask(work)\n    machine.wait()\n    seconds": "seconds"},
)

median_seconds.slip(
    "The warm-up is still under way when the clock is read for the first time, and the first round pays for it. Wait "
    "for the warm-up too.",
    does_not_wait_for_the_warm_up={"machine.wait()\n    seconds": "seconds"},
)

median_seconds.slip(
    "This is the mean. One call that was disturbed by something else on the machine moves it as far as it likes; the "
    "median hardly notices.",
    takes_the_mean={"statistics.median": "statistics.mean"},
)


@median_seconds.wrong(
    "All rounds are handed over at once and waited for at the end. They queue: the asking of one hides behind the work "
    "of another, and a median cannot be had. Wait in each round."
)
def waits_once_at_the_end(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    began = machine.now()
    for _ in range(rounds):
        machine.ask(work)
    machine.wait()
    return (machine.now() - began) / rounds


median_seconds.slip(
    "That is the round in the middle of the run. For the median sort them first.",
    takes_the_middle_round={"statistics.median(seconds)": "seconds[rounds // 2]"},
)

median_seconds.slip(
    "The warm-up is timed too, and counts among the others. It is there to be thrown away.",
    times_the_warm_up={
        "machine.ask(work)\n    machine.wait()\n    seconds = []": "seconds = []",
        "range(rounds)": "range(rounds + 1)",
    },
)


# Where two curves meet


@reference(
    stars=2,
    hints=(
        "One size at which the second is faster proves little: at the next one it may be slower again. From which size "
        "on is it faster everywhere?",
        "Walk from the largest size down for as long as the second is faster.",
        "Start with `found = None`. In a loop over the sizes in reverse, stop at the first at which the second is not "
        "faster, and remember the size at all others.",
    ),
)
def crossover(sizes, first, second):
    """Sizes, rising, and seconds of two ways at each -> the size from which on the second is faster, or None."""
    found = None
    for size, one, other in zip(reversed(sizes), reversed(first), reversed(second), strict=True):
        if other >= one:
            break
        found = size
    return found


@crossover.cases
def curves_that_meet_once_touch_and_never_meet():
    sizes = [1, 4, 16, 64]
    return [
        given(sizes, [1.0, 2.0, 4.0, 8.0], [3.0, 3.0, 3.0, 3.0]),
        given(sizes, [1.0, 3.5, 4.0, 8.0], [3.0, 3.0, 5.0, 3.0]),
        given(sizes, [1.0, 2.0, 3.0, 4.0], [2.0, 2.5, 3.5, 4.5]),
        given(sizes, [5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0]),
        given(sizes, [1.0, 2.0, 3.0, 8.0], [3.0, 3.0, 3.0, 3.0]),
    ]


@crossover.oracle
def the_smallest_size_with_all_above_faster(sizes, first, second):
    ahead = [other < one for one, other in zip(first, second, strict=True)]
    return min((size for i, size in enumerate(sizes) if all(ahead[i:])), default=None)


crossover.slip(
    "At that size both take the same time: the second is not faster yet. Go on while it is, and end at a tie.",
    takes_a_tie_for_faster={"other >= one": "other > one"},
)


@crossover.wrong(
    "That is the first size at which the second is faster. It may be luck: at a larger one it is slower again. The "
    "question is from where on it stays faster."
)
def takes_the_first_that_is_faster(sizes, first, second):
    for size, one, other in zip(sizes, first, second, strict=True):
        if other < one:
            return size
    return None


@crossover.wrong("That is the place in the list. Return the size that stands there.")
def returns_the_place(sizes, first, second):
    found = None
    for i in reversed(range(len(sizes))):
        if second[i] >= first[i]:
            break
        found = i
    return found


crossover.slip(
    "That is where the first is faster. Less time is faster.",
    takes_more_for_faster={"other >= one": "other <= one"},
)

crossover.slip(
    "Where the second is never faster there is no such size: return None. The largest size that was tried says nothing "
    "about larger ones.",
    makes_one_up_where_there_is_none={"found = None": "found = sizes[-1]"},
)

crossover.slip(
    "That is the size before: the largest at which the second is not faster yet. Go one further, to the first at which "
    "it is.",
    stops_one_too_early={
        "reversed(sizes), reversed(first), reversed(second)": "sizes, first, second",
        "break\n        found = size": "found = size",
    },
)


@crossover.wrong(
    "That is the first size at which the second is at least as fast. It may be luck, and a tie is no win. The question "
    "is from where on it stays faster."
)
def takes_the_first_tie(sizes, first, second):
    for size, one, other in zip(sizes, first, second, strict=True):
        if other <= one:
            return size
    return None


@crossover.wrong("That is the size at which both are nearest. Which of them is faster depends on the sign.")
def takes_the_nearest(sizes, first, second):
    gaps = [abs(one - other) for one, other in zip(first, second, strict=True)]
    return sizes[gaps.index(min(gaps))]


@crossover.wrong("That is the largest size at which the second is faster. Go on to smaller ones while it still is.")
def takes_the_largest(sizes, first, second):
    wins = [size for size, one, other in zip(sizes, first, second, strict=True) if other < one]
    return wins[-1] if wins else None


crossover.slip(
    "It finds a crossover only where the second was slower before. If the second is faster everywhere, the answer is "
    "the smallest size.",
    wants_a_crossing={"return found": "return None if found == sizes[0] else found"},
)


# Arithmetic and memory


@reference(
    stars=2,
    hints=(
        "Each number of the output is a sum of d_in products. A product is one operation, an addition another; how "
        "many outputs are there?",
        "Three things pass through memory: what is read of the input, the matrix, and what is written. Each once, "
        "however often it is used.",
        "The matrix has d_in d_out numbers, whatever l is.",
    ),
)
def projection_cost(l, d_in, d_out, number_bytes):
    """l tokens (l, d_in) through a matrix (d_out, d_in) -> floating-point operations, and bytes read and written."""
    operations = 2 * l * d_in * d_out
    numbers = l * d_in + d_in * d_out + l * d_out
    return operations, numbers * number_bytes


projection_cost.returns("the number of operations", "the number of bytes")


@projection_cost.cases
def a_prompt_a_single_token_and_numbers_of_two_bytes():
    return [given(7, 3, 5, 4), given(1, 6, 4, 4), given(512, 64, 96, 2)]


@projection_cost.oracle
def by_counting_in_the_tensors_themselves(l, d_in, d_out, number_bytes):
    dtype = {2: torch.bfloat16, 4: torch.float32}[number_bytes]
    u, weight = torch.empty(l, d_in, dtype=dtype), torch.empty(d_out, d_in, dtype=dtype)
    y = u @ weight.T
    return (u.shape[1] + u.shape[1]) * y.numel(), u.nbytes + weight.nbytes + y.nbytes


projection_cost.slip(
    "Only the products are counted. Each is added to a sum as well, and by custom that is a second operation: the "
    "makers of processors count so, too.",
    counts_products_only={"2 * l * d_in": "l * d_in"},
)

projection_cost.slip(
    "A sum of d_in products takes one addition fewer. By custom each product counts with an addition of its own: the "
    "sum begins at 0, or at a bias.",
    counts_one_addition_fewer={"2 * l * d_in * d_out": "l * (2 * d_in - 1) * d_out"},
)

projection_cost.slip(
    "The matrix is missing from the bytes. For a single token it is nearly all that is read, and the reason why "
    "decoding is slow.",
    forgets_the_matrix={" + d_in * d_out": ""},
)

projection_cost.slip(
    "The matrix is read again for each token. A good product reads it once and uses it for all l tokens: that is why "
    "a prompt is cheap.",
    reads_the_matrix_for_each_token={"+ d_in * d_out": "+ l * d_in * d_out"},
)

projection_cost.slip(
    "What comes out is not counted: it has to be written to memory as well.",
    forgets_what_is_written={" + l * d_out": ""},
)

projection_cost.slip(
    "These are numbers, not bytes: a float32 takes four bytes, a bfloat16 two.",
    counts_numbers={"numbers * number_bytes": "numbers"},
)


# What cannot be


@reference(
    stars=2,
    hints=(
        "How long does the arithmetic take at least, if the machine does `peak` operations in a second? And the "
        "memory, at `bandwidth` bytes in a second?",
        "Both go on at the same time, so the longer one decides: the work takes at least the larger of the two.",
        "A name belongs in the list if its seconds are below that.",
    ),
)
def too_fast(claims, peak, bandwidth):
    """claims: name -> (operations, bytes, seconds) -> names of those faster than peak and bandwidth allow, in order."""
    return [
        name
        for name, (operations, size, seconds) in claims.items()
        if seconds < max(operations / peak, size / bandwidth)
    ]


@too_fast.cases
def bounds_by_arithmetic_by_memory_and_by_both():
    claims = {
        "above both": (100.0, 40.0, 5.0),
        "below the arithmetic": (100.0, 4.0, 0.9),
        "below the memory": (10.0, 40.0, 3.9),
        "below both": (100.0, 40.0, 0.5),
        "just what the memory allows": (10.0, 40.0, 4.0),
        "between the longer and the sum": (400.0, 30.0, 5.0),
    }
    return [
        given(claims, 100.0, 10.0),
        given({"one": (8.0, 8.0, 2.0)}, 2.0, 16.0),
        given({"one": (8.0, 8.0, 10.0), "other": (8.0, 8.0, 6.0)}, 0.5, 0.25),
        given({}, 1.0, 1.0),
    ]


@too_fast.oracle
def by_the_rates_that_are_claimed(claims, peak, bandwidth):
    """Operations or bytes per second above what the machine has."""
    found = []
    for name in claims:
        operations, size, seconds = claims[name]
        if operations / seconds > peak or size / seconds > bandwidth:
            found.append(name)
    return found


too_fast.slip(
    "Only the arithmetic is looked at. Work with little arithmetic is bound by memory: who reads more bytes than the "
    "memory can give has read them from somewhere else, or not at all.",
    looks_at_the_arithmetic_only={"max(operations / peak, size / bandwidth)": "operations / peak"},
)

too_fast.slip(
    "Only the memory is looked at. Work with much arithmetic is bound by it, however few bytes it needs.",
    looks_at_the_memory_only={"max(operations / peak, size / bandwidth)": "size / bandwidth"},
)

too_fast.slip(
    "The two times are added, as if the machine computed only while it does not read. It does both at once: the longer "
    "one decides, and honest times lie below the sum.",
    adds_the_two={"max(operations / peak, size / bandwidth)": "operations / peak + size / bandwidth"},
)

too_fast.slip(
    "A time is already impossible if it is below one of the two bounds. Take the larger, not the smaller.",
    asks_for_both={"max(": "min("},
)

too_fast.slip(
    "One of them takes just as long as the machine needs at its best. That is possible: `<`, not `<=`.",
    suspects_the_best_that_is_possible={"seconds <": "seconds <="},
)

too_fast.slip(
    "These are the times that are possible. The others are wanted.",
    names_the_honest_ones={"seconds <": "seconds >="},
)

too_fast.slip(
    "These are the slow ones. Too fast is who took less time than peak and bandwidth allow.",
    names_the_slow_ones={
        "seconds < max": "seconds > max",
    },
)


# What is kept


@reference(
    stars=2,
    hints=(
        "A key and a value of d_model numbers each: for each token, in each layer.",
        "Mamba-2 keeps a state (nheads, headdim, d_state) and a window of d_conv - 1 inputs of conv_dim channels in "
        "each layer. Where is l in that?",
        "The states are float32 in this package whatever the weights are: four bytes. The window has the weights' "
        "dtype.",
    ),
)
def bytes_kept(l, config, number_bytes):
    """Bytes after l tokens, for weights of number_bytes each: a KV cache of (l, d_model) keys, and Mamba-2's cache."""
    kv_cache = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    window = (config.d_conv - 1) * config.conv_dim * number_bytes
    return kv_cache, config.n_layer * (state + window)


bytes_kept.returns("the size of the KV cache", "the size of Mamba-2's cache")


@bytes_kept.cases
def three_shapes_and_two_sizes_of_number():
    config = Mamba2Config(d_model=16, n_layer=3, vocab_size=10, d_state=8, headdim=4, ngroups=2)
    wide = Mamba2Config(d_model=24, n_layer=2, vocab_size=10, d_state=8, headdim=4, expand=3)
    return [given(1, config, 4), given(50, config, 2), given(7, wide, 4), given(1000, Mamba2Config.preset("small"), 2)]


@bytes_kept.oracle
def in_tensors_and_in_a_model(l, config, number_bytes):
    dtype = {2: torch.bfloat16, 4: torch.float32}[number_bytes]
    keys = values = torch.empty(config.n_layer, l, config.d_model, dtype=dtype)
    model = Mamba2LM(config, device="meta").to(dtype)
    return keys.nbytes + values.nbytes, model.new_cache().nbytes


bytes_kept.slip(
    "A key is kept for each token and a value as well: twice as many numbers.",
    forgets_the_values={"2 * config.n_layer": "config.n_layer"},
)

bytes_kept.slip(
    "The state is counted once for each token. There is one, and each token changes it: its size is the same after a "
    "million.",
    keeps_a_state_for_each_token={"state + window": "l * state + window"},
)

bytes_kept.slip(
    "The states are counted in the dtype of the weights. They stay in float32: in 16 bits a slow memory would not fade "
    "(notebook 08).",
    rounds_the_states={"config.d_state * 4": "config.d_state * number_bytes"},
)

bytes_kept.slip(
    "The convolution's window is missing: d_conv - 1 inputs of conv_dim channels in each layer.",
    forgets_the_window={"(state + window)": "state"},
)

bytes_kept.slip(
    "This is one layer. Each layer keeps its own.",
    counts_one_layer={"2 * config.n_layer": "2", "config.n_layer * (state + window)": "state + window"},
)

bytes_kept.slip(
    "The window is one input too wide. A convolution of width d_conv looks at the newest input and the d_conv - 1 "
    "before it; only those before it are kept.",
    keeps_a_window_of_d_conv={
        "(config.d_conv - 1)": "config.d_conv",
    },
)
