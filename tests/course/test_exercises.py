"""Every exercise of the course is whole: its reference passes, and each wrong answer fails with its own message."""

import ast
import builtins
import inspect
import subprocess
import symtable
import sys
from pathlib import Path
from types import ModuleType

import build
import nbformat
import pytest
import torch

from mamba2_lab import scan
from mamba2_lab.course import exercises
from mamba2_lab.course.calls import by_name, run
from mamba2_lab.course.compare import comparable
from mamba2_lab.course.declare import Exercise, reference
from mamba2_lab.course.fill_in import blanks
from mamba2_lab.course.judge import is_blank, judge
from mamba2_lab.course.source import source_of

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
EXERCISES = exercises.all_exercises()
WRONG = [(exercise, wrong) for exercise in EXERCISES.values() for wrong in exercise.wrong_answers]
SOURCES = sorted((NOTEBOOKS / "source").glob("*.py"))

each_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
each_wrong_answer = pytest.mark.parametrize(
    "exercise, wrong", WRONG, ids=[f"{exercise.name}-{wrong.function.__name__}" for exercise, wrong in WRONG]
)
each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


@each_exercise
def test_the_reference_passes(exercise):
    verdict = judge(exercise, exercise.reference)
    assert verdict.status == "passed", verdict


@each_exercise
def test_every_other_right_answer_passes_and_is_another(exercise):
    for other in exercise.other_answers:
        assert judge(exercise, other).status == "passed", other
        assert judge(exercise, pasted(source_of(other, name=exercise.name), exercise)).status == "passed"
        cases = exercise.make_cases()
        assert any(
            run(exercise, other, case).result != run(exercise, exercise.reference, case).result for case in cases
        )


@each_exercise
def test_it_knows_three_wrong_answers_or_more_and_tells_them_apart(exercise):
    says = [wrong.says for wrong in exercise.wrong_answers]
    assert len(says) >= 3
    assert len(set(says)) == len(says)


@each_wrong_answer
def test_a_wrong_answer_fails_with_its_own_message(exercise, wrong):
    verdict = judge(exercise, wrong.function)
    assert verdict.status == "wrong"
    assert verdict.message == wrong.says, verdict.evidence


@each_exercise
def test_hints_lead_to_the_solution_and_are_not_it(exercise):
    assert len(exercise.hints) >= 2
    statements = [ast.unparse(statement) for statement in body(exercise.reference)]
    for hint in exercise.hints:
        given_away = [statement for statement in statements if squeezed(statement) in squeezed(hint)]
        assert len(given_away) < max(len(statements), 2) and squeezed(statements[-1]) not in squeezed(hint), hint


@each_exercise
def test_an_untouched_cell_is_known_as_one(exercise):
    definition = source_of(exercise.reference).splitlines()[0]
    for left_as in ("...", "pass", "'''What to do.'''\n    ...", "raise NotImplementedError"):
        function = pasted(f"{definition}\n    {left_as}", exercise)
        assert judge(exercise, function).status == "unanswered", left_as
    assert not is_blank(exercise.reference)


@each_exercise
def test_its_source_passes_when_pasted_into_a_notebook(exercise):
    assert judge(exercise, pasted(source_of(exercise.reference), exercise)).status == "passed"


@each_wrong_answer
def test_the_source_of_a_wrong_answer_does_the_same_when_pasted(exercise, wrong):
    source = source_of(wrong.function, name=exercise.name)
    assert judge(exercise, pasted(source, exercise)).message == wrong.says


@each_exercise
def test_it_has_the_docstring_and_no_annotations(exercise):
    assert inspect.getdoc(exercise.reference)
    for function in (exercise.reference, *(wrong.function for wrong in exercise.wrong_answers)):
        assert not function.__annotations__, (
            f"{function.__name__}: the reader's cell has none, and none of their imports"
        )


@each_exercise
def test_what_is_compared_can_be_compared(exercise):
    for case in exercise.make_cases():
        assert comparable(exercise.seen(exercise.reference, case))


@each_exercise
def test_no_number_is_the_same_in_every_input(exercise):
    """Or an answer that does not look at it would pass."""
    given = [by_name(exercise, case) for case in exercise.make_cases()]
    for name in given[0]:
        values = [arguments[name] for arguments in given]
        if all(isinstance(value, int | float) for value in values):
            assert len(set(values)) > 1, name


@each_notebook
def test_a_notebook_holds_its_exercises_once_each_and_open(source):
    notebook = build.read_source(source)
    found = blanks(notebook)
    own = [name for name, exercise in EXERCISES.items() if exercise.chapter.slug == source.stem]
    assert sorted(blank.name for blank in found) == sorted(own)
    for blank in found:
        reference, cell = EXERCISES[blank.name].reference, notebook.cells[blank.cell].source
        assert blank.function.name == blank.name
        assert ast.unparse(blank.function.args) == ast.unparse(definition(reference).args)
        assert ast.get_docstring(blank.function) == inspect.getdoc(reference)
        assert [ast.unparse(statement) for statement in without_docstring(blank.function)] == ["..."], cell


@each_notebook
def test_what_an_answer_uses_is_there_when_its_cell_runs(source):
    notebook = build.read_source(source)
    for blank in blanks(notebook):
        exercise = EXERCISES[blank.name]
        defined = set().union(*(names_defined(cell.source) for cell in notebook.cells[: blank.cell + 1]
                                if cell.cell_type == "code"))  # fmt: skip
        for function in (exercise.reference, *(wrong.function for wrong in exercise.wrong_answers)):
            assert names_used(function) <= defined, f"{exercise.name}, {function.__name__}"


@each_notebook
def test_the_stored_notebook_says_that_nothing_is_answered_yet(source):
    notebook = nbformat.read(NOTEBOOKS / f"{source.stem}.ipynb", as_version=4)
    for blank in blanks(notebook):
        texts = [output.data["text/plain"] for output in notebook.cells[blank.cell].outputs if "data" in output]
        assert any(text.startswith(f"{blank.name}, ") and "not answered yet" in text for text in texts), texts


def test_exercises_come_in_the_order_of_the_chapters():
    numbers = [exercise.chapter.number for exercise in EXERCISES.values()]
    assert numbers == sorted(numbers)


def test_two_exercises_of_one_name_are_refused():
    def segsum(x): ...

    segsum.__module__ = "mamba2_lab.course.exercises.chunks"
    again = reference(stars=1, hints=("?", "!"))(segsum)
    with pytest.raises(ValueError, match=r"chapters \(4, 5\) share 'segsum'"):
        exercises.by_name([again, EXERCISES["segsum"]])


def test_the_course_is_imported_without_exercises_and_figures():
    asked = (
        "import sys, mamba2_lab.course; print([name for name in sys.modules if 'exercises.' in name or 'plot' in name])"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_segsum_is_that_of_the_package():
    log_decay = -torch.rand(2, 3, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(EXERCISES["segsum"](log_decay), scan.segsum(log_decay))


# What a function is made of


def definition(function) -> ast.FunctionDef:
    (node,) = ast.parse(source_of(function)).body
    assert isinstance(node, ast.FunctionDef)
    return node


def without_docstring(node: ast.FunctionDef) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def body(function) -> list[ast.stmt]:
    return without_docstring(definition(function))


def squeezed(text: str) -> str:
    return "".join(text.split())


def pasted(source: str, exercise: Exercise):
    """The function that the source makes where only what a notebook can import or has defined is at hand."""
    module = inspect.getmodule(exercise.reference)
    names = {name: getattr(module, name) for name in names_used_by(source)}
    for name, value in names.items():
        own = getattr(value, "__module__", "").startswith("mamba2_lab.course")
        assert isinstance(value, ModuleType | Exercise) or not own, f"{name} is no name of the notebook"
    exec(source, names)
    return names[exercise.name]


def names_used(function) -> set[str]:
    return names_used_by(source_of(function))


def names_used_by(source: str) -> set[str]:
    """Names that a definition takes from around it."""
    tables = [symtable.symtable(source, "cell", "exec")]
    names = set()
    for table in tables:
        tables += table.get_children()
        if table.get_type() == "function":
            names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return names - set(dir(builtins))


def names_defined(cell: str) -> set[str]:
    """Names that a cell leaves behind."""
    symbols = symtable.symtable(cell, "cell", "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
