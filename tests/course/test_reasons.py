"""Beside each exercise stands what a reader needs to choose it, to get on with it, and to learn from its solution."""

import ast
import inspect
import re

import build
import pytest

from mamba2_lab.course import answers, exercises
from mamba2_lab.course.judge import judge
from mamba2_lab.course.other_ways import OTHER_WAYS
from mamba2_lab.course.reasons import REASONS
from mamba2_lab.course.skeletons import SKELETONS
from mamba2_lab.course.source import source_of

EXERCISES = exercises.all_exercises()
SOURCES = sorted((build.NOTEBOOKS / "source").glob("*.py"))
HEADING = re.compile(
    r"### Exercise: [^★]+ (★+)\n\n(★+) [^·]+ · importance ([123]) of 3 · (\d+) minutes · needed for [^·]+"
)


def function(source: str, name: str):
    names = dict(vars(inspect.getmodule(EXERCISES[name].reference)))
    exec(source, names)
    return names[name]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_each_exercise_says_how_hard_how_important_and_how_long_it_is_and_what_for(source):
    cells, above = build.read_source(source).cells, ""
    for cell in cells:
        if cell.cell_type == "markdown" and "### Exercise" in cell.source:
            above = cell.source[cell.source.rindex("### Exercise") :].replace("\n", " ").replace("  ", "\n\n")
        if found := re.search(r'^@exercise\("(\w+)"\)', cell.source, re.MULTILINE):
            heading = HEADING.match(above)
            assert heading, found[1]
            assert len(heading[1]) == len(heading[2]) == EXERCISES[found[1]].stars
            above = ""


def test_each_has_reasons_and_the_hard_ones_a_skeleton():
    assert REASONS.keys() == EXERCISES.keys()
    assert SKELETONS.keys() == {name for name, exercise in EXERCISES.items() if exercise.stars == 3}


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_another_way_is_right_and_another(name):
    assert judge(EXERCISES[name], function(OTHER_WAYS[name], name)).status == "passed"
    (other,), (own,) = (ast.parse(text).body for text in (OTHER_WAYS[name], source_of(EXERCISES[name].reference)))
    assert set(map(ast.dump, other.body)) - set(map(ast.dump, own.body))


@pytest.mark.parametrize("name", SKELETONS)
def test_a_skeleton_has_the_head_of_the_exercise_and_gaps(name):
    (node,) = ast.parse(SKELETONS[name]).body
    assert [argument.arg for argument in node.args.args] == list(
        inspect.signature(EXERCISES[name].reference).parameters
    )
    assert SKELETONS[name].count("...") >= 1
    assert judge(EXERCISES[name], function(SKELETONS[name], name)).status != "passed"


def test_the_last_hint_is_the_skeleton_and_the_solution_tells_why(monkeypatch):
    shown = []
    monkeypatch.setattr("mamba2_lab.course.display.display", lambda message: shown.append(repr(message)))

    def quadratic(x, log_decay, B, C, initial_state): ...

    found = answers.exercise("quadratic")(quadratic)
    count = len(EXERCISES["quadratic"].hints) + 1
    for _ in range(count):
        found.hint()
    assert shown[-2].startswith(f"quadratic: hint {count} of {count}.") and shown[-1] == SKELETONS["quadratic"]
    found.hint()
    assert shown[-2].startswith("quadratic: no hint is left.") and shown[-1] == SKELETONS["quadratic"]
    answers.exercise("toeplitz")(lambda weights: None).solution()
    assert shown[-3].startswith("Why so. An entry depends on the lag alone.") and shown[-1] == OTHER_WAYS["toeplitz"]
