"""The sampler against a plain enumeration in Python floats, against transformers, and against itself under a seed."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from mamba2_lab.generation import (
    SLACK,
    SamplingConfig,
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
    sample,
)

DRAWS = 20_000
# A right sampler fails a test at 1e-6 once in a million seeds; the wrong ones below are told apart by far more.
SURE = 1e-6

LOGITS = [1.5, 0.2, -0.7, 2.1, 0.9, -3.0, 1.9, 0.0]
SEEN = [0, 2, 3]


# The oracle: one list of floats in, one list of probabilities out, the filters in the order they are listed.


def softmax(logits: list[float]) -> list[float]:
    highest = max(logits)
    weights = [math.exp(logit - highest) for logit in logits]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def by_temperature(logits: list[float], temperature: float) -> list[float]:
    return [logit / temperature for logit in logits]


def by_top_k(logits: list[float], k: int) -> list[float]:
    kth = sorted(logits, reverse=True)[min(k, len(logits)) - 1]
    return [logit if logit >= kth else -math.inf for logit in logits]


def by_top_p(logits: list[float], p: float) -> list[float]:
    """Add the likeliest tokens one at a time and stop as soon as they reach p."""
    probabilities = softmax(logits)
    kept: set[int] = set()
    for i in sorted(range(len(logits)), key=lambda i: -probabilities[i]):
        kept.add(i)
        if sum(probabilities[j] for j in kept) >= p:
            break
    return [logit if i in kept else -math.inf for i, logit in enumerate(logits)]


def by_min_p(logits: list[float], min_p: float) -> list[float]:
    probabilities = softmax(logits)
    return [
        logit if q >= min_p * max(probabilities) else -math.inf for logit, q in zip(logits, probabilities, strict=True)
    ]


def by_repetition_penalty(logits: list[float], penalty: float) -> list[float]:
    return [
        (logit / penalty if logit > 0 else logit * penalty) if i in SEEN else logit for i, logit in enumerate(logits)
    ]


ORACLE = {
    "repetition_penalty": by_repetition_penalty,
    "temperature": by_temperature,
    "top_k": by_top_k,
    "top_p": by_top_p,
    "min_p": by_min_p,
}


def enumerated(settings: dict[str, float], order: tuple[str, ...] = tuple(ORACLE)) -> list[float]:
    """The probability of every token under the settings, applied in the given order."""
    logits = LOGITS
    for name in order:
        if name in settings:
            logits = ORACLE[name](logits, settings[name])  # type: ignore[operator]
    return softmax(logits)


def drawn(settings: dict[str, float], seed: int = 0, draws: int = DRAWS) -> list[int]:
    """How often each token came."""
    seen = torch.zeros(draws, len(LOGITS), dtype=torch.bool)
    seen[:, SEEN] = True
    logits = torch.tensor(LOGITS).expand(draws, -1)
    tokens = sample(logits, SamplingConfig(**settings), torch.Generator().manual_seed(seed), seen)  # type: ignore[arg-type]
    return torch.bincount(tokens, minlength=len(LOGITS)).tolist()


def p_value(counts: list[int], probabilities: list[float]) -> float:
    """Of the chi-square test; 0 if a token came that must not come."""
    if any(count for count, q in zip(counts, probabilities, strict=True) if q == 0):
        return 0.0
    bins = [[0.0, 0.0]]  # expected, observed; rare tokens share one, as the test needs five expected in each
    for q, count in sorted((q, count) for q, count in zip(probabilities, counts, strict=True) if q > 0):
        if bins[-1][0] >= 5:
            bins.append([0.0, 0.0])
        bins[-1][0] += q * sum(counts)
        bins[-1][1] += count
    expected, observed = zip(*bins, strict=True)
    return float(scipy.stats.chisquare(observed, expected).pvalue) if len(bins) > 1 else 1.0


COMBINATIONS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 1},
    {"top_k": 3},
    {"top_p": 0.6},
    {"top_p": 0.9},
    {"top_p": 1.0},
    {"min_p": 0.2},
    {"repetition_penalty": 1.8},
    {"repetition_penalty": 0.6},
    {"temperature": 1.7, "top_k": 5},
    {"temperature": 1.7, "top_p": 0.8},
    {"temperature": 1.7, "min_p": 0.4},
    {"top_k": 4, "top_p": 0.8},
    {"top_p": 0.95, "min_p": 0.35},
    {"repetition_penalty": 1.8, "temperature": 0.6},
    {"repetition_penalty": 1.8, "top_k": 3},
    {"repetition_penalty": 1.4, "temperature": 1.6, "top_k": 6, "top_p": 0.9, "min_p": 0.3},
    {"repetition_penalty": 1.4, "temperature": 1.6, "top_k": 6, "top_p": 0.8, "min_p": 0.1},
]


@pytest.mark.parametrize("settings", COMBINATIONS, ids=str)
def test_draws_follow_the_enumerated_distribution(settings):
    assert p_value(drawn(settings), enumerated(settings)) > SURE


WRONG = {
    "temperature after top-p": (
        {"temperature": 1.7, "top_p": 0.8},
        lambda s: enumerated(s, ("top_p", "temperature")),
    ),
    "temperature after min-p": (
        {"temperature": 1.7, "min_p": 0.4},
        lambda s: enumerated(s, ("min_p", "temperature")),
    ),
    "top-p before top-k": ({"top_k": 4, "top_p": 0.8}, lambda s: enumerated(s, ("top_p", "top_k"))),
    "penalty after top-k": (
        {"repetition_penalty": 1.8, "top_k": 3},
        lambda s: enumerated(s, ("top_k", "repetition_penalty")),
    ),
    "top-p without the token that crosses p": ({"top_p": 0.6}, lambda s: without_least_likely(enumerated(s))),
    "top-k with one token more": ({"top_k": 3}, lambda s: enumerated({"top_k": 4})),
    "a temperature one tenth off": ({"temperature": 0.5}, lambda s: enumerated({"temperature": 0.55})),
    "min-p relative to token 0": ({"min_p": 0.2}, lambda s: softmax(min_p_of_token_zero(LOGITS, s["min_p"]))),
    "penalty that multiplies positive logits": (
        {"repetition_penalty": 1.8},
        lambda s: softmax([q * 1.8 if i in SEEN else q for i, q in enumerate(LOGITS)]),
    ),
}


def without_least_likely(probabilities: list[float]) -> list[float]:
    least = min(q for q in probabilities if q > 0)
    kept = [0.0 if q == least else q for q in probabilities]
    return [q / sum(kept) for q in kept]


def min_p_of_token_zero(logits: list[float], min_p: float) -> list[float]:
    """A published bug: the threshold is taken from the first token, as if tokens were sorted."""
    return [logit if logit >= logits[0] + math.log(min_p) else -math.inf for logit in logits]


@pytest.mark.parametrize(("settings", "wrong"), WRONG.values(), ids=WRONG.keys())
def test_the_chi_square_test_would_tell_a_wrong_sampler_apart(settings, wrong):
    assert p_value(drawn(settings), wrong(settings)) < SURE


def test_each_row_is_drawn_from_its_own_logits():
    logits = torch.tensor([LOGITS, LOGITS[::-1]]).repeat(DRAWS // 2, 1)
    tokens = sample(logits, SamplingConfig(top_p=0.9), torch.Generator().manual_seed(0))
    expected = enumerated({"top_p": 0.9})
    for row, probabilities in ((0, expected), (1, expected[::-1])):
        counts = torch.bincount(tokens[row::2], minlength=len(LOGITS)).tolist()
        assert p_value(counts, probabilities) > SURE


# Single filters


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log().float()


def kept(logits: Tensor) -> list[int]:
    """The tokens of the only row that were not removed."""
    return torch.isfinite(logits[0]).nonzero().flatten().tolist()


real_logits = st.lists(st.floats(-12, 12, width=32), min_size=1, max_size=40)
shares = st.floats(0.01, 0.99)
FILTERS = {
    "temperature": (apply_temperature, st.floats(0.05, 5)),
    "top_k": (keep_top_k, st.integers(1, 50)),
    "top_p": (keep_top_p, st.floats(1e-6, 1)),
    "min_p": (keep_min_p, st.floats(0, 1)),
}


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0, 10.0])  # from all tokens alike to a few that hold everything
@pytest.mark.parametrize("p", [1e-6, 0.3, 0.9, 0.9999])
def test_top_p_keeps_the_first_of_those_that_are_alike_among_any_number_of_tokens(spread: float, p: float) -> None:
    logits = (spread * torch.randn(3, 3000, generator=torch.Generator().manual_seed(0))).round(decimals=1)
    logits[1] = logits[1].sort().values
    found = keep_top_p(logits, p)
    for row, left in zip(logits.tolist(), found.tolist(), strict=True):
        probabilities = softmax(row)
        order = sorted(range(len(row)), key=lambda i: (-row[i], i))
        sums = list(itertools.accumulate(probabilities[i] for i in order))
        size = next((n + 1 for n, total in enumerate(sums) if total >= p - SLACK), len(row))
        assert sorted(order[:size]) == [i for i, logit in enumerate(left) if logit > -math.inf]


@given(logits=real_logits, p=shares)
def test_top_p_keeps_the_least_set_that_reaches_p(logits, p):
    probabilities = sorted(softmax(logits), reverse=True)
    sums = [math.fsum(probabilities[: n + 1]) for n in range(len(probabilities))]
    assume(all(abs(total - p) > 2 * SLACK for total in sums))
    size = next(n + 1 for n, total in enumerate(sums) if total > p)

    left = kept(keep_top_p(torch.tensor([logits]), p))

    assert len(left) == size
    assert sorted((logits[i] for i in left), reverse=True) == sorted(logits, reverse=True)[:size]


@given(weights=st.lists(st.integers(1, 40), min_size=2, max_size=30), data=st.data())
def test_top_p_stops_exactly_where_the_sum_equals_p(weights, data):
    weights = sorted(weights, reverse=True)
    size = data.draw(st.integers(1, len(weights) - 1))
    total = sum(weights)
    p = Fraction(sum(weights[:size]), total)

    assert len(kept(keep_top_p(logits_of(*(w / total for w in weights)), float(p)))) == size


@pytest.mark.parametrize(
    ("probabilities", "p", "expected"),
    [
        ([0.5, 0.4, 0.1], 0.9, [0, 1]),
        ([0.1] * 10, 0.9, list(range(9))),
        ([0.5, 0.4, 0.1], 0.9001, [0, 1, 2]),
        ([0.5, 0.4, 0.1], 0.5, [0]),
        ([0.25, 0.5, 0.25], 0.75, [0, 1]),
        ([0.2, 0.3, 0.5], 1e-9, [2]),
        ([0.2, 0.3, 0.5], 1.0, [0, 1, 2]),
    ],
)
def test_top_p_at_the_boundary(probabilities, p, expected):
    assert kept(keep_top_p(logits_of(*probabilities), p)) == expected


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0], ids=["equal", "usual", "far apart"])
def test_top_p_of_one_keeps_all_of_fifty_thousand_tokens(spread):
    logits = spread * torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(keep_top_p(logits, 1.0)).all()


def test_top_p_of_point_nine_keeps_as_many_of_fifty_thousand_tokens_as_exact_sums_say():
    logits = torch.randn(1, 50_000, generator=torch.Generator().manual_seed(0))
    total, size = 0.0, 0
    for q in sorted(softmax(logits[0].tolist()), reverse=True):
        total, size = total + q, size + 1
        if total >= 0.9:
            break
    assert abs(len(kept(keep_top_p(logits, 0.9))) - size) <= 1  # SLACK may be worth one token here


@given(logits=real_logits, min_p=shares)
def test_min_p_is_relative_to_the_largest_probability(logits, min_p):
    probabilities = softmax(logits)
    ratios = [q / max(probabilities) for q in probabilities]
    assume(all(abs(math.log(ratio / min_p)) > 2 * SLACK for ratio in ratios))
    expected = [i for i, ratio in enumerate(ratios) if ratio >= min_p]

    assert kept(keep_min_p(torch.tensor([logits]), min_p)) == expected


@pytest.mark.parametrize("times", [2, 3, 5, 10, 20])
@given(weight=st.integers(1, 100), rest=st.floats(0.1, 1))
def test_min_p_keeps_a_token_exactly_at_the_threshold(times, weight, rest):
    weights = [times * weight, weight, rest * times * weight]
    logits = logits_of(*(w / sum(weights) for w in weights))
    assert 1 in kept(keep_min_p(logits, 1 / times))
    assert 1 not in kept(keep_min_p(logits, 1.001 / times))


def test_min_p_does_not_ask_token_zero():
    logits = torch.tensor([[-2.0, 3.0, 2.5, 0.0]])
    assert kept(keep_min_p(logits, 0.1)) == [1, 2]
    assert [i for i, q in enumerate(min_p_of_token_zero(logits[0].tolist(), 0.1)) if q > -math.inf] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("logits", "k", "expected"),
    [
        ([0.1, 3.0, 2.0, 1.0], 1, [1]),
        ([0.1, 3.0, 2.0, 1.0], 2, [1, 2]),
        ([0.1, 3.0, 2.0, 1.0], 4, [0, 1, 2, 3]),
        ([0.1, 3.0, 2.0, 1.0], 99, [0, 1, 2, 3]),
        ([2.0, 1.0, 2.0, 1.0, 1.0], 3, [0, 1, 2, 3, 4]),  # tied with the third
        ([2.0, 1.0, 2.0, 1.0, 0.5], 2, [0, 2]),
    ],
)
def test_top_k_keeps_the_k_likeliest_and_whatever_is_tied_with_the_last(logits, k, expected):
    assert kept(keep_top_k(torch.tensor([logits]), k)) == expected


def test_top_p_takes_the_first_of_equal_tokens():
    assert kept(keep_top_p(torch.zeros(1, 8), 0.5)) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", FILTERS)
@given(data=st.data(), rows=st.lists(real_logits, min_size=1, max_size=3))
def test_a_filter_leaves_its_input_alone_keeps_a_token_and_does_not_change_what_it_keeps(name, data, rows):
    width = min(map(len, rows))
    logits = torch.tensor([row[:width] for row in rows])
    before = logits.clone()
    function, settings = FILTERS[name]
    setting = data.draw(settings)

    after = function(logits, setting)

    assert torch.equal(logits, before)
    stays = torch.isfinite(after)
    assert stays.any(dim=1).all()
    assert stays.gather(1, logits.argmax(dim=1, keepdim=True)).all(), "the likeliest token was removed"
    if name != "temperature":
        assert torch.equal(after[stays], before[stays])
    assert (after[~stays] == -math.inf).all()


@pytest.mark.parametrize(
    ("function", "setting"), [(keep_top_k, 3), (keep_top_p, 0.9), (keep_min_p, 0.1), (apply_temperature, 0.7)]
)
def test_tokens_that_are_already_removed_stay_removed(function, setting):
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 0.5]])
    assert kept(function(logits, setting)) == [1, 3]


# transformers


def warper(name: str, setting: float):
    transformers = pytest.importorskip("transformers")
    kinds = {"temperature": "Temperature", "top_k": "TopK", "top_p": "TopP", "min_p": "MinP"}
    return getattr(transformers, f"{kinds[name]}LogitsWarper")(setting)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("temperature", 0.3),
        ("temperature", 1.7),
        ("top_k", 1),
        ("top_k", 7),
        ("top_k", 500),
        ("top_p", 0.05),
        ("top_p", 0.5),
        ("top_p", 0.9),
        ("min_p", 0.02),
        ("min_p", 0.5),
        ("min_p", 0.0),
    ],
)
def test_a_filter_equals_the_one_of_transformers(name, setting):
    logits = 3 * torch.randn(20, 101, generator=torch.Generator().manual_seed(1))
    function, _ = FILTERS[name]
    torch.testing.assert_close(
        function(logits, setting), warper(name, setting)(None, logits.clone()), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("penalty", [1e-320, 1e-45, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("temperature", [0, 1e-3, 1, 1e3])
def test_a_penalty_that_overflows_still_leaves_something_to_draw_from(penalty, temperature):
    logits = torch.tensor([[3.0, -2.0, 0.0, 1.0], [-3.0, -1.0, -2.0, -5.0], [0.0, 0.0, 0.0, 0.0]])
    seen = torch.tensor([[True, True, True, False], [True] * 4, [True, False, True, False]])
    config = SamplingConfig(temperature=temperature, repetition_penalty=penalty)
    assert penalise_repetition(logits, seen, penalty).isfinite().all()
    drawn = [sample(logits, config, torch.Generator().manual_seed(i), seen).tolist() for i in range(20)]
    # A tiny penalty makes a likely token certain; a huge one makes an unlikely token impossible, and a likely one even.
    assert {row[0] for row in drawn} == {0} if penalty < 1 else 1 not in {row[0] for row in drawn}
    gone = penalise_repetition(torch.tensor([[-math.inf, 1.0]]), torch.tensor([[True, True]]), penalty)
    assert gone[0, 0] == -math.inf, "what an earlier filter removed stays removed"


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_the_repetition_penalty_equals_that_of_transformers(penalty):
    transformers = pytest.importorskip("transformers")
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(4, 50, generator=generator)
    ids = torch.randint(0, 50, (4, 30), generator=generator)
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for row, tokens in enumerate(ids.tolist()):
        seen[row, tokens] = True
    before = logits.clone()

    ours = penalise_repetition(logits, seen, penalty)

    assert torch.equal(logits, before)
    assert torch.equal(ours, transformers.RepetitionPenaltyLogitsProcessor(penalty)(ids, before))
    assert not torch.equal(ours, before)


# The draw


def test_greedy_takes_the_likeliest_token_whatever_else_is_set():
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(3))
    config = SamplingConfig(temperature=0, top_k=5, top_p=0.5, min_p=0.1)
    assert config.greedy
    assert sample(logits, config).tolist() == [max(range(30), key=lambda i: row[i]) for row in logits.tolist()]


def test_greedy_takes_the_repetition_penalty_into_account():
    logits, seen = torch.tensor([[3.0, 2.0, -1.0]]), torch.tensor([[True, False, False]])
    assert sample(logits, SamplingConfig(0, repetition_penalty=2.0), seen=seen).tolist() == [1]
    assert sample(logits, SamplingConfig(0, repetition_penalty=1.2), seen=seen).tolist() == [0]


@pytest.mark.parametrize("temperature", [1e-4, 1e-37, 1e-46, 1e-300])
def test_a_very_low_temperature_is_greedy_and_does_not_overflow(temperature):
    logits = 10 * torch.randn(50, 30, generator=torch.Generator().manual_seed(3))
    tokens = sample(logits, SamplingConfig(temperature), torch.Generator().manual_seed(0))
    assert torch.equal(tokens, logits.argmax(dim=1))


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others():
    logits = torch.zeros(1000, 50)

    def tokens(seed: int) -> Tensor:
        return sample(logits, SamplingConfig(), torch.Generator().manual_seed(seed))

    assert torch.equal(tokens(1), tokens(1))
    assert not torch.equal(tokens(1), tokens(2))


def test_a_given_generator_leaves_torchs_own_alone():
    before = torch.random.get_rng_state()
    sample(torch.zeros(10, 50), SamplingConfig(), torch.Generator().manual_seed(1))
    assert torch.equal(torch.random.get_rng_state(), before)
    sample(torch.zeros(10, 50), SamplingConfig())
    assert not torch.equal(torch.random.get_rng_state(), before), "without a generator, torch's own is drawn from"


def test_sample_leaves_the_logits_alone():
    logits = torch.tensor([LOGITS])
    seen = torch.ones_like(logits, dtype=torch.bool)
    config = SamplingConfig(0.5, top_k=3, top_p=0.9, min_p=0.1, repetition_penalty=2.0)
    sample(logits, config, torch.Generator().manual_seed(0), seen)
    assert torch.equal(logits, torch.tensor([LOGITS]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_any_float_dtype_are_read(dtype):
    logits = torch.tensor([[0.0, 40.0, 0.0]], dtype=dtype).repeat(10, 1)
    assert sample(logits, SamplingConfig(top_p=0.9)).tolist() == [1] * 10


@pytest.mark.parametrize("temperature", [0, 1.0], ids=["greedy", "drawn"])
@pytest.mark.parametrize(
    ("broken", "shown"),
    [
        ([1.0, math.nan, 2.0], "nan"),
        ([-math.inf] * 3, "-inf"),
        ([1.0, math.inf, 2.0], "inf"),
        ([math.nan, math.inf, 0.0], "nan"),
    ],
)
def test_logits_that_are_no_numbers_are_refused_with_their_row(broken, shown, temperature):
    logits = torch.tensor([[1.0, 2.0, 3.0], [-math.inf, 0.0, -math.inf], broken])
    with pytest.raises(ValueError, match=rf"logits must be finite.* row 2 is {shown}$"):
        sample(logits, SamplingConfig(temperature))
    assert sample(logits[:2], SamplingConfig(temperature))[1] == 1  # a single finite logit is enough


def test_logits_of_the_wrong_rank_are_refused():
    with pytest.raises(ValueError, match=r"logits must have shape \(b,v\); got \(5,\)"):
        sample(torch.zeros(5), SamplingConfig())


def test_no_rows_give_no_tokens():
    assert sample(torch.zeros(0, 5), SamplingConfig()).shape == (0,)


# Settings

BAD = [
    ("temperature", -0.1, ValueError, "a finite number, 0 (greedy) or more"),
    ("temperature", math.nan, ValueError, "a finite number, 0 (greedy) or more"),
    ("temperature", math.inf, ValueError, "a finite number, 0 (greedy) or more"),
    ("temperature", "hot", TypeError, "a number"),
    ("temperature", True, TypeError, "a number"),
    ("temperature", None, TypeError, "a number"),
    ("top_k", 0, ValueError, "at least 1, or None for all tokens"),
    ("top_k", -3, ValueError, "at least 1, or None for all tokens"),
    ("top_k", 1.5, TypeError, "a whole number or None"),
    ("top_k", True, TypeError, "a whole number or None"),
    ("top_p", 0, ValueError, "in (0, 1], or None"),
    ("top_p", -0.5, ValueError, "in (0, 1], or None"),
    ("top_p", 1.0001, ValueError, "in (0, 1], or None"),
    ("top_p", math.nan, ValueError, "in (0, 1], or None"),
    ("top_p", "0.9", TypeError, "a number"),
    ("min_p", -0.1, ValueError, "in [0, 1], or None"),
    ("min_p", 1.1, ValueError, "in [0, 1], or None"),
    ("min_p", [0.1], TypeError, "a number"),
    ("repetition_penalty", 0, ValueError, "a finite number above 0"),
    ("repetition_penalty", -1.2, ValueError, "a finite number above 0"),
    ("repetition_penalty", math.inf, ValueError, "a finite number above 0"),
    ("repetition_penalty", None, TypeError, "a number"),
]


@pytest.mark.parametrize(("name", "value", "error", "expected"), BAD)
def test_a_bad_setting_is_refused_with_its_name_the_expectation_and_the_value(name, value, error, expected):
    with pytest.raises(error) as caught:
        SamplingConfig(**{name: value})
    assert str(caught.value) == f"{name} must be {expected}; got {value!r}"


@pytest.mark.parametrize(
    ("settings", "possible"),
    [
        ({"temperature": 0}, {3}),
        ({"top_p": 1}, set(range(8))),
        ({"top_k": 1}, {3}),
        ({"min_p": 0}, set(range(8))),
        ({"min_p": 1}, {3}),
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_are_allowed(settings, possible):
    assert {i for i, count in enumerate(drawn(settings)) if count} == possible
