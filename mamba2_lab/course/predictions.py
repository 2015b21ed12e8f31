"""Predict before you see: `predict` asks, `outcome` shows the guess beside what came out.

    predict("level", "It rains 10 mm, and a fifth is lost in every hour. What is left after an hour?", unit="mm")

    outcome("level", 0.8 * 10)

Nothing here stops a run: who makes no guess is told the outcome all the same.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from IPython.display import display

from mamba2_lab.course.display import WIDTH, as_html, say
from mamba2_lab.course.folder import read_guesses, write_guess

AGREED, ASIDE = "#009e73", "#0072b2"  # Okabe and Ito's green and blue
ASKS = "Predict, then run the next cell."
CLOSE = 0.1  # a guess so near to a number, as a share of it, is as good as right
EMPHASIS = re.compile(r"\*(\w[^*]*)\*")


@dataclass(frozen=True)
class Question:
    """What a reader is asked: to choose, to give a number, or to say in words."""

    name: str
    text: str
    choices: tuple[str, ...] = ()
    unit: str | None = None  # of a number; "" for one without a unit, None if no number is asked for

    def __str__(self) -> str:
        choices = "".join(f"\n  ( ) {choice}" for choice in self.choices)
        return f"{ASKS} {self.text}{choices}"

    def as_html(self) -> str:
        """How it looks where no kernel runs."""
        choices = "".join(f'<li style="list-style: circle">{in_html(choice)}</li>' for choice in self.choices)
        listed = f'<ul style="margin: 2px 0">{choices}</ul>' if choices else ""
        return framed(f"<b>{ASKS}</b> {in_html(self.text)}{listed}")


_asked: dict[str, Question] = {}
_guesses: dict[str, str] = {}


def predict(name: str, question: str, choices: Sequence[str] = (), *, unit: str | None = None) -> None:
    """Ask the reader for a guess, and keep it.

    Args:
        name: by which `outcome` finds the guess, and the file of the reader's guesses keeps it.
        choices: the answers to choose from. unit: of the number that is asked for, "" if it has none. Without either
            the reader answers in words.

    Raises:
        TypeError: if choices is a text. ValueError: if both choices and a unit are given.
    """
    if isinstance(choices, str):
        raise TypeError(f"choices must be a sequence of texts; got the text {choices!r}")
    if choices and unit is not None:
        raise ValueError(f"unit must be None where there are choices; got {unit!r}")
    asked = _asked[name] = Question(name, question, tuple(choices), unit)
    bundle = _form(asked)._repr_mimebundle_()
    display(bundle | {"text/plain": str(asked), "text/html": asked.as_html()}, raw=True)


def outcome(name: str, found: object = None) -> None:
    """Show the reader's guess beside what came out.

    Args:
        name: of the question. found: what came out; None if the output above says it.
    """
    asked = _asked.get(name, Question(name, ""))
    guess, came = _guess(name), _in_words(found, asked.unit)
    if not guess:
        if found is not None:
            say(came, "", colour=ASIDE)
    elif asked.choices and guess == str(found):
        say(f"You said {guess}", "So it is.", colour=AGREED)
    elif asked.unit is not None and (distance := _distance(guess, found)) is not None:
        verdict = "exactly right" if distance == 0 else "close" if distance <= CLOSE else "not close"
        colour = AGREED if distance <= CLOSE else ASIDE
        say(f"You said {_with_unit(guess, asked.unit)}", f"{came}: {verdict}.", colour=colour)
    else:
        say(f"You said: {guess}", f"{came}.", colour=ASIDE)


def in_html(text: str) -> str:
    """Escaped; what stands in backticks is code, what stands in asterisks is in italics."""
    return EMPHASIS.sub(r"<em>\1</em>", as_html(text))


def framed(inner: str) -> str:
    """A block with a blue line at its left."""
    style = f"border-left: 5px solid {ASIDE}; padding: 4px 12px; max-width: {WIDTH}px"
    return f'<div role="note" style="{style}">{inner}</div>'


def _guess(name: str) -> str:
    return _guesses.get(name) or read_guesses().get(name, "")


def _form(asked: Question):  # type: ignore[no-untyped-def]  # ipywidgets comes without types
    """The question with its field. The guess is kept as soon as it is made."""
    import ipywidgets

    guess = _guess(asked.name)
    title = ipywidgets.HTML(framed(f"<b>{ASKS}</b> {in_html(asked.text)}"))
    kept = ipywidgets.HTML(_kept(guess))
    wide = ipywidgets.Layout(width="max-content", max_width="100%")
    if asked.choices:
        chosen = guess if guess in asked.choices else None
        field = ipywidgets.RadioButtons(options=asked.choices, value=chosen, layout=wide)
    else:
        hint = "in a few words" if asked.unit is None else f"a number{', in ' + asked.unit if asked.unit else ''}"
        width = "560px" if asked.unit is None else "220px"
        field = ipywidgets.Text(guess, placeholder=hint, continuous_update=False, layout={"width": width})

    def take(change: dict) -> None:
        if guess := str(change["new"] or "").strip():
            _guesses[asked.name] = guess
            write_guess(asked.name, guess)
        kept.value = _kept(guess)

    field.observe(take, "value")
    field.add_class("mamba2-lab-guess")
    return ipywidgets.VBox([title, ipywidgets.Box([field, kept], layout={"padding": "0 0 0 17px"})])


def _kept(guess: str) -> str:
    return f"<em>kept: {html.escape(guess)}</em>" if guess else ""


def _in_words(found: object, unit: str | None) -> str:
    """What came out, as a sentence without its full stop."""
    if found is None:
        return "What came out stands above"
    if isinstance(found, bool) or not isinstance(found, int | float):
        return f"What came out: {found}"
    return f"It is {_with_unit(f'{found:,}' if isinstance(found, int) else f'{found:.3g}', unit)}"


def _with_unit(number: str, unit: str | None) -> str:
    return f"{number} {unit}" if unit else number


def _distance(guess: str, found: object) -> float | None:
    """How far the guess is from a number, as a share of it; None if one of the two is no number."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    match = re.search(r"[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?", guess, re.IGNORECASE)
    if match is None:
        return None
    number = float(match[0].replace(",", ""))
    return abs(number - found) / abs(found) if found else abs(number)
