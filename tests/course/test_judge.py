"""What a reader sees who answers an exercise: rightly, wrongly, not at all, or in ways that nobody expected."""

import inspect
import math
import random
from collections import Counter
from html.parser import HTMLParser
from typing import NamedTuple

import pytest
import torch

from mamba2_lab.course import answers, display, exercise, exercises
from mamba2_lab.course.compare import difference
from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.judge import judge
from mamba2_lab.course.source import source_of

# An exercise to try things on: a memory that keeps half.


@reference(stars=1, hints=("Start with an empty memory.", "Halve it, then add."))
def remember(x):
    """x (l,) -> (l,): what is remembered at each token."""
    kept, memory = [], torch.zeros(())
    for x_t in x:
        memory = memory / 2 + x_t
        kept.append(memory)
    return torch.stack(kept)


@remember.cases
def one_impulse_and_a_few_numbers():
    return [given(torch.tensor([1.0, 0.0, 0.0])), given(torch.tensor([3.0, -1.0, 0.5, 8.0]))]


@remember.oracle
def weighted_sums(x):
    x = x.tolist()
    return [math.fsum(x[s] * 0.5 ** (t - s) for s in range(t + 1)) for t in range(len(x))]


@remember.wrong("Nothing fades: halve the memory before each token is added.")
def never_forgets(x):
    return x.cumsum(dim=0)


@remember.wrong("What comes in is halved as well; only the memory fades.")
def halves_the_input_too(x):
    kept, memory = [], torch.zeros(())
    for x_t in x:
        memory = (memory + x_t) / 2
        kept.append(memory)
    return torch.stack(kept)


@remember.wrong("Tensors have no append; gather the results in a list.")
def appends_to_a_tensor(x):
    x.new_empty(0).append(x[0])


@remember.wrong("0 / 0 is NaN: do not divide by what may be 0.")
def divides_by_zero(x):
    return x / torch.zeros_like(x)


@remember.wrong("`yield` makes a generator; gather the results and return them.")
def yields(x):
    for x_t in x:
        yield x_t / 2


@remember.wrong("Nothing fades, and what is negative counts too.")
def never_forgets_and_drops_what_is_negative(x):
    return x.clamp(min=0).cumsum(dim=0)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """The exercises of this module in place of the course's, and no hint open."""
    here = {"remember": remember}
    monkeypatch.setattr(exercises, "all_exercises", lambda: here)
    monkeypatch.setattr(answers, "_hints_opened", Counter())
    return here


def problem_with(function) -> str:
    verdict = judge(remember, function)
    assert verdict.status == "wrong"
    return verdict.message


# Right


def test_a_right_answer_is_adopted_and_used_from_here_on(capsys):
    calls = []

    @exercise("remember")
    def remember(x):
        """What I remember."""
        calls.append(x)
        weights = 0.5 ** (torch.arange(len(x))[:, None] - torch.arange(len(x)))
        return weights.tril() @ x

    assert capsys.readouterr().out == "remember: passed. Your function is used from here on.\n"
    assert remember.adopted
    calls.clear()
    x = torch.tensor([1.0, 1.0])
    assert torch.equal(remember(x), torch.tensor([1.0, 1.5]))
    assert calls[0] is x, "the reader's function was not called"
    assert (remember.__name__, remember.__doc__) == ("remember", "What I remember.")
    assert list(inspect.signature(remember).parameters) == ["x"]
    assert remember.__wrapped__.__code__.co_filename == __file__
    assert repr(remember) == "<remember: your function>"


def test_rounding_is_no_mistake():
    assert judge(remember, lambda x: remember(x) * (1 + 1e-5)).status == "passed"
    assert judge(remember, lambda x: remember(x) * (1 + 1e-3)).status == "wrong"


# Not answered


def dots(x): ...


def passes(x):
    pass


def documented(x):
    """What is remembered."""


def documented_dots(x):
    """What is remembered."""
    ...


def dots_on_several_lines(x):
    """What is remembered."""
    ...
    pass
    ...


def returns(x):
    return


def raises(x):
    raise NotImplementedError


def raises_with_a_text(x):
    """What is remembered."""
    raise NotImplementedError("later")


def raises_in_a_branch(x):
    if len(x) == 3:
        return remember(x)
    raise NotImplementedError


@pytest.mark.parametrize(
    "function",
    [
        dots,
        passes,
        documented,
        documented_dots,
        dots_on_several_lines,
        returns,
        raises,
        raises_with_a_text,
        raises_in_a_branch,
    ],
)
def test_an_open_answer_is_called_open_and_the_reference_takes_its_place(function, capsys):
    answer = exercise("remember")(function)
    assert capsys.readouterr().out == (
        "remember, 1 of 3 stars: not answered yet. The reference takes its place until you write it. "
        "`remember.hint()` opens hint 1 of 2.\n"
    )
    assert not answer.adopted
    assert torch.equal(answer(torch.tensor([1.0, 1.0])), torch.tensor([1.0, 1.5]))
    assert repr(answer) == "<remember: the reference>"


def test_an_operation_that_torch_has_not_implemented_is_a_mistake():
    message = problem_with(lambda x: torch.empty(2, device="meta").tolist())
    assert message.startswith("On `x = [1, 0, 0]`: it raised `NotImplementedError: Cannot copy out of meta tensor")


# Wrong


def test_a_wrong_answer_is_named_shown_where_and_replaced(capsys):
    answer = exercise("remember")(lambda x: torch.cumsum(x, 0))
    assert capsys.readouterr().out.splitlines() == [
        "remember: not yet right. Nothing fades: halve the memory before each token is added.",
        "On `x = [1, 0, 0]`: 2 of 3 entries of the result are off, all but entry 0, the first at [1]: "
        "expected 0.5, got 1.",
        "Until it is, the reference takes its place. `remember.hint()` opens hint 1 of 2.",
    ]
    assert not answer.adopted
    assert torch.equal(answer(torch.tensor([1.0, 1.0])), torch.tensor([1.0, 1.5]))


def test_a_known_mistake_is_seen_beside_another_one():
    def forgets_nothing_and_fails_on_longer_inputs(x):
        return x.cumsum(0) if len(x) == 3 else x.reshape(3)

    assert problem_with(forgets_nothing_and_fails_on_longer_inputs) == remember.wrong_answers[0].says


def test_a_mistake_is_not_named_for_agreeing_on_later_inputs_only():
    def forgets_nothing_if_there_is_more(x):
        return x.cumsum(0) if len(x) == 4 else x + 1

    assert problem_with(forgets_nothing_if_there_is_more).startswith("On `x = [1, 0, 0]`: 3 of 3 entries")


def test_of_two_mistakes_that_agree_at_first_the_one_that_agrees_longer_is_named():
    never, and_drops = remember.wrong_answers[0], remember.wrong_answers[-1]
    assert torch.equal(never.function(torch.tensor([1.0, 0.0, 0.0])), and_drops.function(torch.tensor([1.0, 0.0, 0.0])))
    assert problem_with(never_forgets) == never.says
    assert problem_with(never_forgets_and_drops_what_is_negative) == and_drops.says


@pytest.mark.parametrize("wrong", remember.wrong_answers, ids=lambda wrong: wrong.function.__name__)
def test_wrong_answers_that_raise_or_give_nan_are_known_too(wrong):
    assert problem_with(wrong.function) == wrong.says


def test_an_exception_is_shown_with_the_line_it_came_from():
    def one_too_far(x):
        last = x[len(x)]
        return last

    line = one_too_far.__code__.co_firstlineno + 1
    assert problem_with(one_too_far) == (
        "On `x = [1, 0, 0]`: it raised `IndexError: index 3 is out of bounds for dimension 0 with size 3` "
        f"in line {line} of its cell, `last = x[len(x)]`."
    )


def test_an_exception_inside_a_library_is_shown_with_the_line_that_led_there():
    def reads_a_text(x):
        return math.fsum(int(word) for word in ["three"])

    assert "in line" in (message := problem_with(reads_a_text))
    assert "`return math.fsum(int(word) for word in ['three'])`" in message.replace('"', "'")


def test_of_an_exception_in_a_helper_the_helper_is_shown_and_only_the_first_line_of_its_text():
    def halves(x):
        raise RuntimeError("too small\nand more that fills a page")

    def asks_a_helper(x):
        return halves(x)

    line = halves.__code__.co_firstlineno + 1
    assert f"`RuntimeError: too small` in line {line} of its cell, `raise RuntimeError(" in problem_with(asks_a_helper)


def test_a_call_that_never_begins_names_no_line():
    def takes_it_by_name_only(*, x):
        return x

    message = problem_with(takes_it_by_name_only)
    assert message.startswith("On `x = [1, 0, 0]`: it raised `TypeError: ")
    assert message.endswith("takes 0 positional arguments but 1 was given`.")


def test_the_reader_can_interrupt_an_endless_loop():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(remember, interrupted)


def test_an_input_changed_in_place_is_told_and_reaches_nobody_else():
    def adds_in_place(x):
        for t in range(1, len(x)):
            x[t] += x[t - 1] / 2
        return x

    for answer in (adds_in_place, lambda x: x.cumsum_(0)):  # a known mistake has the result of the second, too
        verdict = judge(remember, answer)
        assert verdict.message.startswith("It changes its input `x` in place")
        assert verdict.evidence == "On `x = [1, 0, 0]`: afterwards `x` is not what it was."


def test_a_result_through_which_no_gradient_flows_is_told():
    doubles = declared(lambda x: 2 * x)
    doubles.cases(lambda: [given(torch.ones(2, requires_grad=True))])
    doubles.oracle(lambda x: [2.0, 2.0])
    assert judge(doubles, lambda x: x + x).status == "passed"
    assert "no gradient can flow through the result" in judge(doubles, lambda x: torch.tensor([2.0, 2.0])).message


def words(x):
    return [str(number) for number in remember(x).tolist()]


@pytest.mark.parametrize(
    "function, says",
    [
        (lambda x: print(end=""), "the result is None (is the `return` missing?), expected a tensor of shape (3,)."),
        (words, "the result is a list of 3, expected a tensor of shape (3,)."),
        (lambda x: 0, "the result has shape (), expected (3,)."),
        (lambda x: remember, "the result is an Exercise, expected a tensor of shape (3,)."),
        (lambda x: remember(x).half(), "the result has dtype float16, expected float32."),
        (lambda x: remember(x)[:, None], "the result has shape (3, 1), expected (3,)."),
        (lambda x: remember(x)[-1], "the result has shape (), expected (3,)."),
        (lambda x: remember(x).to("meta"), "the result has device meta, expected cpu."),
        (lambda x: remember(x).to_sparse(), "the result has layout sparse_coo, expected strided."),
        (
            lambda x: remember(x).masked_fill(x == 1, math.nan),
            "1 of 3 entries of the result are off, the first at [0]: expected 1, got nan.",
        ),
        (
            lambda x: remember(x) + (x == 0) * math.inf,
            "3 of 3 entries of the result are off, the first at [0]: expected 1, got nan.",
        ),
        (
            lambda x: remember(x) * 1.00025,
            "3 of 3 entries of the result are off, the first at [0]: expected 1, got 1.0002.",
        ),
    ],
    ids=lambda value: None if callable(value) else value[:40],
)
def test_a_result_of_another_form_is_told_in_words(function, says):
    verdict = judge(remember, function)
    assert (verdict.evidence or verdict.message) == f"On `x = [1, 0, 0]`: {says}"


def test_other_parameters_are_told_even_while_the_body_is_open():
    message = "It must take the parameters `x`, under these names."

    def renamed(y): ...

    def one_more(x, verbose=False):
        return remember(x)

    assert problem_with(renamed) == problem_with(one_more) == message


def test_a_memory_of_earlier_calls_is_noticed():
    memory = [torch.zeros(())]

    def keeps_it_outside(x):
        kept = []
        for x_t in x:
            memory[0] = memory[0] / 2 + x_t
            kept.append(memory[0])
        return torch.stack(kept)

    assert problem_with(keeps_it_outside).startswith("On `x = [3, -1, 0.5, 8]`: 4 of 4 entries")


def test_a_buffer_used_again_does_not_overwrite_the_first_result():
    buffer = torch.zeros(4)

    def writes_into_one_buffer(x):
        return buffer[: len(x)].copy_(remember(x))

    assert judge(remember, writes_into_one_buffer).status == "passed"


# Random draws


def draws(x):
    return torch.rand(len(x)) + random.random()


def test_a_check_leaves_the_random_state_alone_and_always_ends_the_same():
    torch.manual_seed(7)
    random.seed(7)
    expected = torch.rand(3), random.random()
    torch.manual_seed(7)
    random.seed(7)
    verdict = judge(remember, draws)
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]
    assert judge(remember, draws) == verdict


@reference(stars=1, hints=("Chance.", "torch.rand, and compare."), atol=0.05)
def toss(p, generator):
    """True with probability p."""
    return bool(torch.rand((), generator=generator) < p)


@toss.cases
def a_coin_and_a_bent_one():
    return [given(p, torch.Generator().manual_seed(1)) for p in (0.5, 0.9)]


@toss.oracle
def as_often_as_p(p, generator):
    return p


@toss.observe
def how_often(answer, p, generator):
    return sum(answer(p, generator) for _ in range(1000)) / 1000


@toss.wrong("Exchanged: this comes out True with probability 1 - p.")
def the_other_side(p, generator):
    return bool(torch.rand((), generator=generator) > p)


def test_what_is_observed_is_compared_in_place_of_the_result():
    assert judge(toss, lambda p, generator: torch.rand((), generator=generator).item() > 1 - p).status == "passed"
    verdict = judge(toss, lambda p, generator: torch.rand((), generator=generator).item() >= p)
    assert (verdict.status, verdict.message) == ("wrong", toss.wrong_answers[0].says)
    assert verdict.evidence == "On `p = 0.9`, `generator`, a Generator: for how often, expected 0.9, got 0.096."


def test_a_generator_is_given_in_its_first_state_every_time():
    assert [judge(toss, toss.reference).status for _ in range(3)] == ["passed"] * 3


# What an author gets wrong


def test_an_unknown_name_lists_those_that_come_close():
    with pytest.raises(ValueError, match="name must be that of an exercise, such as remember; got 'remembr'"):
        exercise("remembr")


def test_only_functions_are_exercises():
    with pytest.raises(TypeError, match=r"@exercise\('remember'\) must stand over a function; got <class"):
        exercise("remember")(type("remember", (), {}))


def declared(function=lambda x: x):
    return reference(stars=1, hints=("?", "!"))(function)


def test_an_exercise_without_cases_or_oracle_says_so():
    unfinished = declared()
    with pytest.raises(ValueError, match="exercise <lambda> has no cases"):
        judge(unfinished, lambda x: x)
    unfinished.cases(lambda: [given(1.0)])
    with pytest.raises(ValueError, match="exercise <lambda> has no oracle"):
        judge(unfinished, lambda x: x)
    with pytest.raises(ValueError, match="exercise <lambda> has its cases already"):
        unfinished.cases(lambda: [given(2.0)])


@pytest.mark.parametrize("made", [[], [1.0]], ids=["none", "without given"])
def test_cases_that_are_none_are_refused(made):
    unfinished = declared()
    unfinished.cases(lambda: made)
    with pytest.raises(TypeError, match="must be one or more given"):
        judge(unfinished, lambda x: x)


def test_a_reference_that_raises_or_an_oracle_of_another_shape_is_no_fault_of_the_reader():
    fails = declared(lambda x: 1 / x)
    fails.cases(lambda: [given(0)])
    fails.oracle(lambda x: 1.0)
    with pytest.raises(RuntimeError, match="the reference of exercise <lambda> raised `ZeroDivisionError"):
        judge(fails, lambda x: 1.0)
    other_shape = declared()
    other_shape.cases(lambda: [given(torch.ones(2))])
    other_shape.oracle(lambda x: [1.0])
    with pytest.raises(ValueError, match=r"the oracle must give the result in shape \(2,\); got \(1,\)"):
        judge(other_shape, lambda x: x + 1)


def test_a_result_that_cannot_be_compared_needs_something_to_observe():
    module = declared(lambda x: torch.nn.Identity())
    module.cases(lambda: [given(1)])
    module.oracle(lambda x: None)
    with pytest.raises(TypeError, match="the result of the reference is an Identity, which cannot be compared"):
        judge(module, lambda x: torch.nn.Identity())


@pytest.mark.parametrize("options", [{"stars": 4}, {"stars": 0}, {"stars": 1.5}, {"hints": "look"}], ids=str)
def test_stars_and_hints_are_checked(options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        reference(**{"stars": 1, "hints": ("look",), **options})


def test_an_exercise_belongs_to_the_chapter_that_its_module_is_named_after():
    with pytest.raises(ValueError, match=r"exercise remember must be declared in a module named after a chapter"):
        _ = remember.chapter


# Comparing


class Pair(NamedTuple):
    y: torch.Tensor
    state: float


@pytest.mark.parametrize(
    "got, like, says",
    [
        (1_000_000, 1_000_001, "for it, expected 1000001, got 1000000."),
        (3.0, 3, ""),
        (3, 3.0, ""),
        (True, 1, "it is a bool, expected a number."),
        (1, True, "it is an int, expected a bool."),
        (False, True, "it is False, expected True."),
        ("ab", "abc", "it is 'ab', expected 'abc'."),
        (None, "abc", "it is None (is the `return` missing?), expected a str."),
        (torch.tensor([7, 1_000_000]), torch.tensor([7, 1_000_001]),
         "1 of 2 entries of it are off, the first at [1]: expected 1000001, got 1000000."),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 3j]),
         "1 of 1 entries of it are off, the first at [0]: expected 1+3i, got 1+2i."),
        (torch.tensor([math.inf, -math.inf, math.nan]), torch.tensor([math.inf, -math.inf, math.nan]), ""),
        (torch.tensor([-1e4 - 1]), torch.tensor([-1e4]),
         "1 of 1 entries of it are off, the first at [0]: expected -10000, got -10001."),
        (torch.tensor([1e30]), torch.tensor([math.inf]),
         "1 of 1 entries of it are off, the first at [0]: expected inf, got 1e+30."),
        (torch.tensor([math.inf]), torch.tensor([1e30]),
         "1 of 1 entries of it are off, the first at [0]: expected 1e+30, got inf."),
        (torch.zeros(2, 2), torch.eye(2),
         "2 of 4 entries of it are off, all on the diagonal, the first at [0, 0]: expected 1, got 0."),
        (torch.zeros(2), torch.zeros(2, requires_grad=True),
         "no gradient can flow through it: something on the way was detached, or made from plain numbers."),
        ((1.0, 2.0), (1.0, 3.0), "for it[1], expected 3, got 2."),
        ((1.0,), (1.0, 3.0), "it has 1 entries, expected 2."),
        ([1.0, 3.0], (1.0, 3.0), "it is a list of 2, expected a tuple of 2."),
        ((torch.zeros(1), 2.0), Pair(torch.zeros(1), 2.0), ""),
        ({"y": 1.0}, {"y": 2.0}, "for it['y'], expected 2, got 1."),
        ({"y": 1.0}, {"y": 1.0, "z": 2.0}, "it has the keys y; expected y, z."),
        ((x for x in "ab"), 1.0, "it is a generator (`yield` makes one; use `return`), expected a number."),
        (1.0, {"y": 1.0}, "it is a float, expected a dict of 1."),
    ],
)  # fmt: skip
def test_differences_in_words(got, like, says):
    assert difference(got, like, like, rtol=1e-5, atol=1e-6, what="it") == says


def test_an_oracle_may_answer_in_lists_without_losing_digits():
    third = torch.tensor([1 / 3], dtype=torch.float64)
    assert difference(third, third, [1 / 3], rtol=1e-15, atol=0.0) == ""


# What is shown


def test_hints_open_one_at_a_time_and_stay_open_when_the_cell_runs_again(capsys):
    exercise("remember")(dots).hint()
    answer = exercise("remember")(passes)
    capsys.readouterr()
    answer.hint()
    answer.hint()
    assert capsys.readouterr().out.splitlines() == [
        "remember: hint 2 of 2.",
        "1. Start with an empty memory.",
        "2. Halve it, then add.",
        "remember: no hint is left. `remember.solution()` shows an answer.",
        "1. Start with an empty memory.",
        "2. Halve it, then add.",
    ]


def test_a_verdict_says_where_the_next_help_is(capsys):
    answer = exercise("remember")(dots)
    answer.hint()
    exercise("remember")(dots)
    answer.hint()
    exercise("remember")(never_forgets)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("`remember.hint()` opens hint 1 of 2.")
    assert lines[3].endswith("`remember.hint()` opens hint 2 of 2.")
    assert lines[-1].endswith("`remember.solution()` shows an answer.")


def test_the_solution_is_the_source_of_the_reference_as_it_stands_in_a_cell(capsys):
    answer = exercise("remember")(dots)
    capsys.readouterr()
    answer.solution()
    shown = capsys.readouterr().out
    assert shown.splitlines()[:2] == ["def remember(x):", '    """x (l,) -> (l,): what is remembered at each token."""']
    namespace = {"torch": torch}
    exec(shown, namespace)
    assert judge(remember, namespace["remember"]).status == "passed"


def test_the_solution_is_shown_as_a_block_of_python_code(monkeypatch):
    shown = []
    answer = exercise("remember")(dots)
    monkeypatch.setattr(display, "display", shown.append)
    answer.solution()
    assert shown[0]._repr_markdown_() == f"```python\n{source_of(remember.reference)}\n```"


def test_a_source_keeps_its_lines_and_takes_the_name_of_the_cell():
    assert source_of(divides_by_zero, name="remember") == ("def remember(x):\n    return x / torch.zeros_like(x)")


class Page(HTMLParser):
    """The words of an HTML text, and what it loads from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.loads, self.roles = "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.loads += [attributes[name] for name in ("src", "href") if name in attributes]
        self.roles += [attributes["role"]] if "role" in attributes else []

    def handle_data(self, data):
        self.words += data


def test_what_is_shown_reads_the_same_as_html_and_as_text(monkeypatch):
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    for function in (remember.reference, dots, never_forgets, lambda x: x if x < 1 & 2 else "<b>"):
        answer = exercise("remember")(function)
    answer.hint()
    assert len(shown) == 5
    for message in shown:
        page = Page(message._repr_html_())
        assert "".join(page.words.split()) == "".join(repr(message).replace("`", "").split())
        assert page.loads == []
        assert page.roles == ["note"]


def test_colours_stand_beside_words_and_leave_text_and_background_to_the_theme(monkeypatch):
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    for function in (remember.reference, dots, never_forgets):
        exercise("remember")(function)
    assert [message.title.rpartition(": ")[2] for message in shown] == ["passed", "not answered yet", "not yet right"]
    assert len({message.colour for message in shown}) == 3
    for message in shown:
        assert "background" not in message._repr_html_() and " color:" not in message._repr_html_()
