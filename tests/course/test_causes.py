"""Mistakes that are the same in every exercise, and how an answer is looked at part by part."""

import contextlib
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mamba2_lab.course import exercises
from mamba2_lab.course.causes import Beside, causes, looks
from mamba2_lab.course.compare import place
from mamba2_lab.course.counts import miscounted
from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.effort import counted, grows_too_fast
from mamba2_lab.course.judge import judge
from mamba2_lab.course.slight import changes

square = torch.tensor([[1.0, 2.0, 3.5], [4.0, 5.0, 6.0], [7.0, 8.0, 9.25]])
row = torch.tensor([1.0, 2.0, 4.0, 8.5])


@pytest.mark.parametrize(
    "got, expected, says",
    [
        (-row, row, "The gain has the wrong sign: every number is minus what it should be."),
        (square.mT, square, "The gain is transposed: rows and columns are exchanged."),
        (row.log(), row, "The gain is the logarithm of what is asked for: take the exponential of it."),
        (row.exp(), row, "The gain is the exponential of what is asked for: leave out the last `exp`."),
        (1 / row, row, "The gain is 1 divided by what is asked for."),
        (1 - row, row, "The gain is 1 minus what is asked for."),
        (torch.tensor(7.0), 6.931, "The gain is rounded; give the number as it is."),
        (3 * row, row, "Every number of the gain is 3 times what it should be."),
        (row.flip(0), row, "The gain is in reversed order."),
        (torch.tensor([0.0, 1.0, 2.0, 4.0]), row, "The gain comes one place late: entry 1 is what entry 0 should be."),
        (torch.tensor([2.0, 4.0, 8.5, 0.0]), row, "The gain comes one place early: entry 0 is what entry 1 should be."),
        (row.roll(2), row, "The gain holds the right entries, in another order."),
        (square.abs(), square * torch.tensor([1.0, -1.0, 1.0]), "The gain has lost its signs: what should be below 0 "
         "is above it."),
        (square - square.diag().diag(), square, "The gain is 0 where it should not be, all on the diagonal; the other "
         "numbers are right."),
        (square, square.tril(), "The gain is not 0 where it should be, all above the diagonal; the other numbers are "
         "right."),
        (square * torch.tensor([1.0, 2.0, 0.5]), square, "Along axis 1, the gain is 1, 2, 0.5 times what it should "
         "be."),
        (row * math.nan, row, "The gain holds NaN: inf - inf, 0 * inf or 0 / 0 came up on the way."),
        (row[:3], row, "The gain ends too early: it has 3 of 4 entries, and these are right."),
        (row[1:], row, "The gain lacks the first of 4 entries; those it has are right."),
        (row, row[:3], "The gain has 4 entries, and the first 3 are right: cut off the rest."),
        (row, row[1:], "The gain has 4 entries, and the last 3 are right: leave out those in front."),
        (square, square[-1], "The gain holds all of them, in shape (3, 3) where (3,) is expected: give the last "
         "alone."),
        (square[-1], square, "The gain is the last one alone, in shape (3,) where (3, 3) is expected: give all of "
         "them."),
        (square.sum(), square.sum(0), "The gain is summed over too many axes: it has shape () where (3,) is "
         "expected."),
        (row.view(2, 2), row, "The gain holds the right numbers in the right order, only in shape (2, 2) where (4,) is "
         "expected: use `reshape`."),
        (row[:, None], row[:, None].expand(4, 2), "The gain holds the right numbers once, in shape (4, 1) where (4, 2) "
         "is expected: repeat them with `expand`."),
        (square[:2].mT, square[:2], "The gain holds the right numbers, but its axes are in another order: (3, 2) where "
         "(2, 3) is expected."),
        ([4, 1, 2], [1, 2], "The gain has 3 entries, and the last 2 are right: leave out those in front."),
        (square.softmax(-1), square, "The gain has gone through a softmax: give what goes into it."),
        (row[[1, 0, 3, 2]], row, "The gain holds the right entries, in another order."),
        (2 * row, row, "The gain is 2 times what it should be."),
        (math.log(2) * 8, 8.0, "The gain is ln 2 times what it should be."),
        (["b", "a"], ["a", "b"], "The gain holds the right entries, in another order."),
        (["a"], ["a", "b"], "The gain lacks 'b'; the rest is right."),
        (["a", "b", "c"], ["a", "b"], "The gain also holds 'c'; the rest is right."),
        (["c"], ["a", "b"], ""),
        ("ab", "abc", ""),
        (row + 1, row, "Every number of the gain is too large by 1, the same everywhere."),
        (row + row.flip(0), row, ""),
        (row, row, ""),
    ],
)  # fmt: skip
def test_what_lies_behind_a_result(got, expected, says):
    result = Beside(got, expected, 1e-4, 1e-6, "the gain")
    found = {**causes(result), **looks(result)}
    assert next(iter(found.values()), "") == says


def test_an_input_too_many_is_named():
    rate = torch.tensor([0.5, 3.0, -2.0, 1.5])

    def says(got):
        return next(iter(looks(Beside(got, row, 1e-4, 1e-6, "the gain", given={"A": rate, "n": 3.0})).values()), "")

    assert says(row * rate) == "The gain is `A` times what it should be."
    assert says(-row * rate) == "The gain is `-A` times what it should be."
    assert says(row / rate) == "The gain is divided by `A`, and should not be."
    assert says(row + rate) == "The gain is too large by `A`."
    assert says(row - 3) == "The gain is too small by `n`."


def test_an_input_that_only_fits_by_chance_is_not_named():
    wide = row[:2, None].expand(2, 3)
    found = looks(Beside(wide * row[:3], wide, 1e-4, 1e-6, "the gain", given={"A": row[:3]}))
    assert list(found.values()) == ["Along axis 1, the gain is 1, 2, 4 times what it should be."]


def test_two_results_that_are_exchanged():
    found = causes(Beside(row, row.square() + 1, 1e-4, 1e-6, "`B`", {"`C`": row}))
    assert found == {"is `C`": "`B` holds what belongs into `C`: the two are exchanged."}


def test_a_result_that_is_what_was_given():
    found = causes(Beside(row, row.square() + 1, 1e-4, 1e-6, "the state", given={"h": row, "B": row + 1}))
    assert found == {"as h": "The state is `h` as it was given: nothing was done to it."}


@pytest.mark.parametrize(
    "off, words",
    [
        (torch.eye(3), "all on the diagonal"),
        (torch.ones(3, 3).triu(1), "all above the diagonal"),
        (torch.ones(3, 3).tril(-1), "all below the diagonal"),
        (torch.tensor([0, 1, 1]), "all but entry 0"),
        (torch.tensor([[0, 0], [1, 1], [0, 0]]), "all with index 1 along axis 0"),
        (torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1]]), "none with index 0 along axis 1"),
        (torch.tensor([1, 0, 1]), ""),
    ],
)
def test_where_it_is_off(off, words):
    assert place(off.bool()) == words


# Part by part


@reference(stars=1, hints=("?", "!"))
def measured(x, look):
    """x (l,) -> its mean, and the rest; `look` is given x first."""
    seen = look(x + 1)
    return seen.mean(), x - x.mean()


measured.returns("`mean`", "`rest`")


@measured.cases
def two_rows():
    return [given(torch.tensor([1.0, 2.0, 6.0]), torch.clone), given(torch.tensor([2.0, -3.0, 0.5, 1.0]), torch.clone)]


@measured.oracle
def by_hand(x, look):
    values = x.tolist()
    mean = math.fsum(values) / len(values)
    return mean + 1, [value - mean for value in values]


@measured.stages
def what_is_looked_at(answer, x, look):
    seen = []
    answer(x, lambda given_to_it: seen.append(given_to_it) or look(given_to_it))
    return {"what `look` is given": seen[0]}


@measured.wrong("The one is forgotten.")
def forgets_the_one(x, look):
    return look(x).mean(), x - x.mean()


def test_what_is_right_is_said_to_be_right_up_to_the_part_that_is_off():
    verdict = judge(measured, lambda x, look: (look(x + 1).mean(), x.square()))
    assert verdict.message == (
        "On `x = [1, 2, 6]`, `look`, a builtin_function_or_method: what `look` is given and `mean` are right; "
        "3 of 3 entries of `rest` are off, the first at [0]: expected -2, got 1."
    )
    verdict = judge(measured, lambda x, look: (look(x + 1).mean(), x.mean() - x))
    assert verdict.message == "`rest` has the wrong sign: every number is minus what it should be."
    assert "what `look` is given and `mean` are right; " in verdict.evidence


def test_a_known_mistake_is_seen_at_its_stage_whatever_comes_after():
    verdict = judge(measured, lambda x, look: (look(x).square().mean(), x * 3))
    assert verdict.message == "The one is forgotten."
    assert "3 of 3 entries of what `look` is given are off" in verdict.evidence


def test_an_answer_that_does_not_get_to_a_stage_is_judged_by_its_results():
    verdict = judge(measured, lambda x, look: (x.mean(), x - x.mean()))
    assert "for `mean`, expected 4, got 3." in verdict.evidence


def test_the_block_is_right_up_to_c():
    block = exercises.find("mamba2_block")

    def strange_c(u, weights, config, scan):
        return block.reference(u, weights, config, lambda x, a, B, C, *rest: scan(x, a, B, C + C.square(), *rest))

    verdict = judge(block, strange_c)
    assert "`x` times the step size, `log_decay` and `B` are right; 14 of 15 entries of `C` are off" in verdict.message


def test_the_recurrence_is_right_up_to_the_initial_state():
    quadratic = exercises.find("quadratic")

    def fades_it_twice(x, log_decay, B, C, initial_state):
        return quadratic.reference(x, log_decay, B, C, initial_state * log_decay[:, 0, :, None, None].exp())

    verdict = judge(quadratic, fades_it_twice)
    assert "`y` from an empty state and `final_state` from an empty state are right; " in verdict.message
    assert "what `y` reads of the initial state (x = 0) are off" in verdict.message


# The work, and slight changes


def test_work_that_grows_as_the_square_is_told_from_work_that_grows_as_the_length():
    def by_pairs(x):
        return sum(float(a) * float(b) for a in x for b in x)

    def in_lists(x):
        values, total = x.tolist(), 0.0
        for a in values:
            for b in values:
                total += a * b
        return total

    def as_a_table(x):
        return (x[:, None] * x).sum()

    def once(x):
        return torch.fft.irfft(torch.fft.rfft(x, 2 * len(x)).square())

    def as_a_convolution(x):
        return F.conv1d(F.pad(x, (len(x), 0))[None, None], x[None, None])

    for function in (by_pairs, in_lists, as_a_table, as_a_convolution):
        says = grows_too_fast(function, lambda length, function=function: function(torch.ones(length)))
        assert "4 times as long, 1" in says and "times as much work" in says, function
    assert grows_too_fast(once, lambda length: once(torch.ones(length))) == ""
    assert counted(once, lambda: once(torch.ones(8))) == counted(once, lambda: once(torch.ones(8)))


def test_a_slight_change_of_the_reference_is_named():
    skip = exercises.find("skip")
    verdict = judge(skip, lambda y, x, D: torch.cat(list((y + x).unbind(2)), dim=-1))
    assert verdict.message == "It comes out as if `D[:, None]` were left out."
    conv = exercises.find("causal_conv")
    verdict = judge(conv, lambda x, weight, bias, window: torch.sigmoid(
        F.conv1d(torch.cat([window, x], 1).mT, weight, bias, groups=x.shape[-1]).mT))  # fmt: skip
    assert verdict.message == "It comes out as if `sigmoid` stood where `silu` belongs."


def plain(x, bias, decay):
    """A reference that holds what the kinds of changes below need."""
    total = decay * x + bias
    turned = torch.exp(total.sum(dim=-1))
    return torch.tanh((x * bias).sum(dim=-1) + turned)


def summed(x, a, c):
    total = 0.0
    for value in x.tolist():
        total += value
    return F.softplus(x * a + total) + c


def test_changes_of_many_kinds_are_tried():
    says = {words for function in (plain, summed) for words, _ in changes(function)}
    for words in (
        "`decay * x` alone were used where the whole sum belongs",
        "`decay` multiplied the whole sum, not its one term alone",
        "each factor had a sum of its own, where the products have one together",
        "`=` stood where `+=` belongs: each turn forgets those before it",
        "`decay.exp()` stood where `decay` belongs",
        "`-bias.exp()` stood where `bias` belongs",
        "`x * a` were added after `softplus`, not before",
    ):
        assert words in says, words


@pytest.mark.parametrize(
    "name, answer, says",
    [
        ("decay_mask", lambda log_decay: exercises.find("segsum")(log_decay.exp()), "as if `exp` were taken before"),
        ("attention_matrix", lambda log_decay, B, C: exercises.find("segsum")(log_decay) * (C @ B.mT),
         "as if `segsum` stood where `decay_mask` belongs"),
        ("causal_conv", lambda x, weight, bias, window: F.silu(F.conv1d(torch.cat([window, x], 1).mT, weight,
         groups=len(weight)).mT) + (0 if bias is None else bias), "as if `bias` were added last"),
    ],
)  # fmt: skip
def test_changes_of_order_and_of_functions_are_named(name, answer, says):
    assert says in judge(exercises.find(name), answer).message


def test_a_slight_change_of_one_part_alone_is_named_with_the_part():
    rule = exercises.find("selective_rule")

    def no_bias_but_for_dt(u, weight, bias, n):
        dt, _, _ = rule.reference(u, weight, bias, n)
        return dt, *rule.reference(u, weight, 0 * bias, n)[1:]

    assert judge(rule, no_bias_but_for_dt).message == "`B` comes out as if `bias` were left out."


def test_another_right_way_is_changed_as_well():
    kernel = exercises.find("kernel")

    def adds_the_decay(log_decay, B, C, l):
        state, shown = B, []
        for _ in range(l):
            shown.append((C * state).sum())
            state = torch.exp(log_decay) + state
        return torch.stack(shown)

    assert judge(kernel, adds_the_decay).message == "It comes out as if `+` stood where `*` belongs."


def test_no_slight_change_is_named_where_words_are_compared():
    verdict = judge(exercises.find("dt_to_remember"), lambda steps, A: 0.2 / (-A * steps))
    assert verdict.message == (
        "On `steps = 20`, `A = -1`: after 20 steps is right; after 21 steps: more than half is left; "
        "expected: less than half is left."
    )


def test_changes_are_functions_of_the_same_arguments_and_leave_the_reference_alone():
    says = [words for words, _ in changes(measured.reference)]
    assert "`look` were left out" in says and "`-` stood where `+` belongs" in says
    assert torch.equal(measured(row, torch.clone)[0], row.mean() + 1)
    assert list(changes(lambda x: x)) == []


def faded(x, norm, decay):
    """It calls one of its arguments, names what it makes, and sums up."""
    y = norm(x)
    total = y.cumsum(dim=0)
    return total * decay + y


def timed(work, clock):
    began = clock()
    work()
    return clock() - began


def sized(config):
    return config.d_model * config.headdim / math.log(2)


def kept(x, n):
    return torch.stack([x[t] for t in range(n)]), (x.square().mean(dim=0)).sqrt() + 1


def outcome_of(reference, says, *args):
    """What the change of this name gives; several may have the same name."""
    found = [change for words, change in changes(reference) if words == says]
    assert found, f"no change says {says!r}"
    results = []
    for change in found:
        with contextlib.suppress(Exception):
            results.append(change(*args))
    return results


@pytest.mark.parametrize(
    "says, gives",
    [
        ("the running sum began at the end", lambda x, y: y.flip(0).cumsum(0).flip(0) * 0.5 + y),
        ("the running sum left out the entry itself", lambda x, y: (y.cumsum(0) - y) * 0.5 + y),
        ("the running sum were of what comes afterwards", lambda x, y: (y.sum(0) - y.cumsum(0)) * 0.5 + y),
        ("`dim=0` were left out", None),
        ("`decay` and `x` were exchanged", None),
        ("`norm` were applied to `decay` as well", lambda x, y: y.cumsum(0) * 0.25 + y),
        ("`y` were added twice", lambda x, y: y.cumsum(0) * 0.5 + 2 * y),
        ("it were multiplied by `decay` once more", lambda x, y: (y.cumsum(0) * 0.5 + y) * 0.5),
        ("`decay` were larger by 1", lambda x, y: y.cumsum(0) * 1.5 + y),
        ("`total * decay` stood where `total` belongs", lambda x, y: y.cumsum(0) * 0.25 + y),
    ],
)
def test_changes_by_kind(says, gives):
    x = torch.tensor([1.0, 2.0, 4.0])
    found = outcome_of(faded, says, x, torch.square, torch.tensor(0.5))
    if gives is not None:
        expected = gives(x, x.square())
        assert any(isinstance(result, torch.Tensor) and torch.allclose(result, expected) for result in found)


def test_lines_that_are_left_out_or_exchanged():
    ticks = []
    clock, work = (lambda: len(ticks)), (lambda: ticks.append(None))
    assert timed(work, clock) == 1
    assert 0 in outcome_of(timed, "`work()` came before `began = clock()`", work, clock)
    assert 0 in outcome_of(timed, "`work()` were left out", work, clock)


def test_one_field_of_a_config_for_another_and_a_logarithm_for_a_division():
    config = SimpleNamespace(d_model=8, headdim=4, d_inner=16)
    assert 128 / math.log(2) in outcome_of(sized, "`config.d_inner` stood where `config.headdim` belongs", config)
    assert 5.0 in outcome_of(sized, "a logarithm were taken where a division by ln 2 belongs", config)


def test_something_inside_a_root_and_a_median_for_a_mean():
    x = torch.tensor([[1.0], [2.0], [6.0]])
    inside = outcome_of(kept, "`1` stood inside `sqrt`", x, 2)
    assert any(torch.allclose(result[1], (x.square().mean(0) + 1).sqrt()) for result in inside)
    median = outcome_of(kept, "`median` stood where `mean` belongs", x, 2)
    assert any(torch.equal(result[1], torch.tensor([3.0])) for result in median)


def both_halves(x, y):
    """A name that is used twice, and a slip that can be made at two places."""
    half = x * y
    low, high = half.sum(dim=0), half.max(dim=0).values
    return (low - high) / x.sum(dim=0)


@pytest.mark.parametrize(
    "says, gives",
    [
        (
            "`dim=1` stood where `dim=0` belongs, at each place",
            lambda x, y: ((x * y).sum(1) - (x * y).max(1).values) / x.sum(1),
        ),
        ("`y` were left out", lambda x, y: (x.sum(0) - (x * y).max(0).values) / x.sum(0)),
        ("`low` and `high` were exchanged", lambda x, y: ((x * y).max(0).values - (x * y).sum(0)) / x.sum(0)),
        ("the two sides of `/` were exchanged", lambda x, y: x.sum(0) / ((x * y).sum(0) - (x * y).max(0).values)),
        ("the last one stood where `sum` belongs", lambda x, y: ((x * y).sum(0) - (x * y).max(0).values) / x[-1]),
    ],
)
def test_a_slip_at_each_place_and_at_one_use_of_a_name(says, gives):
    x, y = torch.tensor([[1.0, 2.0], [4.0, 3.0]]), torch.tensor([[0.5, 1.0], [2.0, 5.0]])
    found = outcome_of(both_halves, says, x, y)
    assert any(isinstance(result, torch.Tensor) and torch.allclose(result, gives(x, y)) for result in found)


def test_a_line_of_a_loop_that_stood_before_it():
    def rounds(clock, n):
        times = []
        for _ in range(n):
            began = clock()
            times.append(clock() - began)
        return times

    ticks = itertools.count()
    found = outcome_of(rounds, "`began = clock()` stood before the loop, not in it", lambda: next(ticks), 3)
    assert [1, 2, 3] in found


@pytest.mark.parametrize(
    "count, says",
    [
        (lambda l, d, k: 2 * l * d + k, "The count is too small by `l * k`."),
        (lambda l, d, k: 2 * l * d + k + l * k + l, "The count is too large by `l`."),
        (lambda l, d, k: 2 * l * d * k, "The count comes out as `2 * l * d * k`."),
        (lambda l, d, k: (2 * l * d + k + l * k) * k, "The count is `k` times what it should be."),
        (lambda l, d, k: (2 * l * d + k + l * k) / l, "The count is divided by `l`, and should not be."),
        (lambda l, d, k: (2 * l * d + k + l * k) * (l - 1) / l, "The count is `(l - 1) / l` times what it should be."),
        (lambda l, d, k: 2 * l * d + k + l * k + d % 3 * 17 + l % 5 * 23, ""),
    ],
)
def test_what_is_counted_wrongly_is_told_in_the_sizes_that_were_given(count, says):
    sizes = [{"l": 7, "d": 16, "k": 11}, {"l": 12, "d": 8, "k": 29}, {"l": 50, "d": 31, "k": 13}]
    right = [2 * size["l"] * size["d"] + size["k"] + size["l"] * size["k"] for size in sizes]
    assert miscounted("the count", [count(**size) for size in sizes], right, sizes) == says


def test_two_known_mistakes_in_one_answer_are_both_told():
    stack = exercises.find("stack_bytes")
    both = next(pair for pair in stack.two_slips())
    verdict = judge(stack, both.function)
    assert verdict.message == both.says and verdict.message.startswith("Two mistakes at once. ")
