"""Answers of learners: each wrong one is told why it is wrong, each right one passes, however it is written."""

from collections import Counter

import pytest
from support.learners import RIGHT, UNEXPLAINED, WRONG

from mamba2_lab.course import exercises
from mamba2_lab.course.judge import judge

EXERCISES = exercises.all_exercises()


def named(answers):
    return {"argvalues": answers, "ids": [f"{answer.exercise}-{answer.function.__name__}" for answer in answers]}


@pytest.mark.parametrize("answer", **named(WRONG))
def test_a_wrong_answer_is_told_why(answer):
    verdict = judge(EXERCISES[answer.exercise], answer.function)
    assert verdict.status == "wrong"
    assert verdict.evidence, f"bare numbers: {verdict.message}"
    assert answer.says in verdict.message


@pytest.mark.parametrize("answer", **named(UNEXPLAINED))
def test_a_wrong_answer_that_nobody_foresaw_is_refused_with_an_input_and_numbers(answer):
    verdict = judge(EXERCISES[answer.exercise], answer.function)
    assert verdict.status == "wrong"
    assert verdict.message.startswith("On `")


@pytest.mark.parametrize("answer", **named(RIGHT))
def test_a_right_answer_passes_however_it_is_written(answer):
    verdict = judge(EXERCISES[answer.exercise], answer.function)
    assert verdict.status == "passed", verdict


def test_nine_wrong_answers_in_ten_are_told_why():
    assert len(WRONG) >= 9 * len(UNEXPLAINED)


def test_every_exercise_has_three_of_each():
    for answers in (WRONG, RIGHT):
        count = Counter(answer.exercise for answer in answers)
        assert count.keys() == EXERCISES.keys()
        assert min(count.values()) >= 3
    assert all(answer.says for answer in WRONG)
