"""How an exercise is written down: its reference answer, its inputs, an independent oracle, and known wrong answers.

    @reference(stars=1, hints=("What is left after one step? And after two?", "A power of the decay."))
    def impulse_response(decay, l):
        '''decay (h,), l tokens -> (h, l): what is left at each token of an impulse at the first.'''
        return decay[:, None] ** torch.arange(l)

    @impulse_response.cases
    def two_memories_and_a_single_token():
        return [given(torch.tensor([0.5, 0.9]), 5), given(torch.tensor([0.5]), 1)]

    @impulse_response.oracle
    def step_by_step(decay, l):
        return [[math.prod([a] * t) for t in range(l)] for a in decay.tolist()]

    impulse_response.slip(
        "Column 0 must be 1: what has just been written has not decayed yet.",
        decays_at_once={"torch.arange(l)": "torch.arange(1, l + 1)"},
    )

    @impulse_response.wrong("The same share is lost at each token, not the same amount: it never falls below 0.")
    def falls_in_a_line(decay, l):
        return 1 - (1 - decay[:, None]) * torch.arange(l)

The function under `@reference` is what a reader's answer is measured against, what `solution()` shows, and what takes
the place of an answer that is missing or wrong. It and every wrong answer have to run when pasted into the notebook:
they use what the notebook has imported or defined by then (an exercise before it counts), no helper that lives in the
module of exercises. They carry no annotations, as the reader's cell carries none, so a module of exercises begins with
`# mypy: allow-untyped-defs`. The docstring under `def` stands in the notebook's cell too.

`cases` returns the inputs, each a `given(...)` call, from plain to special; between them they must tell every wrong
answer from the right one, and from each other. Random inputs come from `inputs.Draws`. `oracle` computes the values
that are expected, in float64, by another formula than the reference; tensors, arrays, numbers and nested lists are all
welcome. Type, shape and dtype come from the reference.

A wrong answer is a diagnosis: a reader whose results are the same is told its message. The message names the
misconception; where and by how much the result is off is added to it. Most mistakes are a `slip`, the reference with
another text in the place of one that stands once in its body (or with several, put in at once; `"x": "y", "y": "x"`
exchanges two). The name of the wrong answer stands before the edit. What is other code is a function under `wrong`.

`also_right` takes edits as well: answers whose values are not the oracle's, but which the text of the exercise allows.

An exercise that returns several things names them as they stand in a sentence,
`step.returns("`y_t`", "the new state")`, and each is judged by itself. One that is long says under `stages` where to
look on the way, so that a reader is told up to where all is right. Under `grows` stand inputs of any length, for an
exercise in which the work is the point.

No author foresees every mistake. What is no known one may still be one of those that are the same everywhere, such as a
turned sign (`causes`), or a slight change of the reference, such as a factor left out (`slight`).

Where the result itself cannot be compared with the oracle's (it is drawn at random, or many answers are right),
`observe` says what to look at instead:

    @draw_token.observe
    def how_often_each_token_comes(answer, probabilities):
        return torch.bincount(torch.stack([answer(probabilities) for _ in range(4000)]), minlength=3) / 4000
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mamba2_lab.checks import require, require_whole
from mamba2_lab.course.chapters import CHAPTERS, Chapter
from mamba2_lab.course.source import edited

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Case:
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def given(*args: Any, **kwargs: Any) -> Case:
    """One input of an exercise: the arguments as its function takes them."""
    return Case(args, kwargs)


@dataclass(frozen=True)
class WrongAnswer:
    """A plausible mistake: a function that makes it, and what to say to a reader who makes it too.

    edit: what it changes in the reference, if it is a slip.
    """

    function: Callable[..., Any]
    says: str
    edit: Mapping[str, str] | None = None


@dataclass(eq=False)
class Exercise:
    """One exercise. Called, it is its reference answer, so that one exercise can use another."""

    reference: Callable[..., Any]
    stars: int
    hints: tuple[str, ...]
    rtol: float
    atol: float
    wrong_answers: list[WrongAnswer] = field(default_factory=list)
    other_answers: list[Callable[..., Any]] = field(default_factory=list)
    returned: tuple[str, ...] = ()
    _parts: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.reference(*args, **kwargs)

    @property
    def name(self) -> str:
        """That of the reference: `@exercise(name)` in a notebook."""
        return self.reference.__name__

    @property
    def chapter(self) -> Chapter:
        """The chapter whose module declares it.

        Raises:
            ValueError: if the module is named after no chapter.
        """
        module = self.reference.__module__.rpartition(".")[2]
        for chapter in CHAPTERS:
            if chapter.topic == module:
                return chapter
        raise ValueError(f"exercise {self.name} must be declared in a module named after a chapter; got {module}.py")

    # What an author adds, each as a decorator

    def cases(self, make: Function) -> Function:
        """The inputs: a function without arguments that returns `given(...)` calls."""
        return self._add("cases", make)

    def oracle(self, compute: Function) -> Function:
        """The values expected: a function of the same arguments."""
        return self._add("oracle", compute)

    def observe(self, look: Function) -> Function:
        """What is compared, if not the result: a function of the answer and its arguments."""
        return self._add("observe", look)

    def returns(self, *names: str) -> None:
        """The names of what it returns, where that is more than one thing: each is judged, and spoken of, by itself."""
        self.returned = names

    def stages(self, look: Function) -> Function:
        """What to look at on the way, in an answer that is wrong: a function of the answer and its arguments.

        It gives a dict, from the first stage to the last, whose keys are the words for them in a message.
        """
        return self._add("stages", look)

    def grows(self, make: Function) -> Function:
        """Inputs for an answer whose work may grow in proportion to the length, hardly faster: a function of it."""
        return self._add("grows", make)

    def also_right(self, **edits: Mapping[str, str]) -> None:
        """Answers with other values than the oracle's, which the text of the exercise allows as well.

        Args:
            edits: the name of each = {what stands in the body of the reference: what takes its place}.

        Raises:
            ValueError: if an edit cannot be made, see `edited`.
        """
        self.other_answers += [edited(self.reference, name, edit) for name, edit in edits.items()]

    def wrong(self, says: str) -> Callable[[Function], Function]:
        """A known mistake, and what a reader who makes it is told."""

        def add(function: Function) -> Function:
            self.wrong_answers.append(WrongAnswer(function, says))
            return function

        return add

    def slip(self, says: str, /, **edit: Mapping[str, str]) -> None:
        """A known mistake that is an edit of the reference, and what a reader who makes it is told.

        Args:
            edit: the name of the wrong answer = {what stands in the body of the reference: what takes its place}.

        Raises:
            TypeError: if it is not one keyword.
            ValueError: if the edit cannot be made, see `edited`.
        """
        if len(edit) != 1:
            given = ", ".join(edit) or "none"
            raise TypeError(f"a slip of {self.name} must be one wrong answer under its name; got {given}")
        ((name, replaced),) = edit.items()
        self.wrong_answers.append(WrongAnswer(edited(self.reference, name, replaced), says, replaced))

    def two_slips(self) -> Iterator[WrongAnswer]:
        """Two of them in one answer, for each two that do not touch the same text."""
        slips = [wrong for wrong in self.wrong_answers if wrong.edit]
        for one, other in itertools.combinations(slips, 2):
            name = f"{one.function.__name__}_and_{other.function.__name__}"
            with contextlib.suppress(ValueError):  # the texts overlap
                both = edited(self.reference, name, {**(one.edit or {}), **(other.edit or {})})
                yield WrongAnswer(both, f"Two mistakes at once. {one.says} And: {other.says}")

    def _add(self, part: str, function: Function) -> Function:
        if part in self._parts:
            raise ValueError(f"exercise {self.name} has its {part} already: {self._parts[part].__name__}")
        self._parts[part] = function
        return function

    # What a verdict asks for

    def make_cases(self) -> Sequence[Case]:
        """Every input, made anew."""
        cases = list(self._part("cases")())
        if not cases or not all(isinstance(case, Case) for case in cases):
            raise TypeError(f"the cases of exercise {self.name} must be one or more given(...) calls; got {cases!r}")
        return cases

    def expected(self, case: Case) -> Any:
        """What the oracle says."""
        return self._part("oracle")(*case.args, **case.kwargs)

    def seen(self, answer: Callable[..., Any], case: Case) -> Any:
        """What is compared with it: the result of the answer, unless `observe` looks at something else."""
        if "observe" in self._parts:
            return self._parts["observe"](answer, *case.args, **case.kwargs)
        return answer(*case.args, **case.kwargs)

    def stages_of(self, answer: Callable[..., Any], case: Case) -> dict[str, Any]:
        """What an answer does on the way, by name; nothing if the exercise does not say where to look."""
        return self._parts["stages"](answer, *case.args, **case.kwargs) if "stages" in self._parts else {}

    @property
    def counts_work(self) -> bool:
        """Whether the work of an answer may not grow much faster than the length."""
        return "grows" in self._parts

    def make_of_length(self, length: int) -> Case:
        """An input of that length, on which work is counted."""
        return self._part("grows")(length)

    @property
    def is_observed(self) -> bool:
        """Whether something else than the result is looked at."""
        return "observe" in self._parts

    @property
    def subject(self) -> str:
        """What is compared, for a sentence: the result, or what the name of the `observe` function says."""
        return self._parts["observe"].__name__.replace("_", " ") if "observe" in self._parts else "the result"

    def _part(self, part: str) -> Callable[..., Any]:
        if part not in self._parts:
            raise ValueError(f"exercise {self.name} has no {part}: give it some with @{self.name}.{part}")
        return self._parts[part]


def reference(
    *, stars: int, hints: Sequence[str], rtol: float = 1e-4, atol: float = 1e-6
) -> Callable[[Callable[..., Any]], Exercise]:
    """Declare an exercise; the function below is its reference answer and gives it its name.

    Args:
        stars: 1 (a line) to 3 (think).
        hints: from a nudge to nearly there, opened one at a time.
        rtol, atol: an entry may differ from the oracle's by rtol * its size + atol.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    require_whole("stars", stars)
    require(1 <= stars <= 3, "stars", "1, 2 or 3", stars)
    if isinstance(hints, str):  # a tuple of one, its comma forgotten, would be opened letter by letter
        raise TypeError(f"hints must be a sequence of texts; got the text {hints!r}")

    def declare(function: Callable[..., Any]) -> Exercise:
        return Exercise(function, stars, tuple(hints), rtol, atol)

    return declare
