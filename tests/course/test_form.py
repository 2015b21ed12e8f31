"""An answer counts in whatever form it keeps its numbers, and what follows gets the form that it expects."""

import math

import numpy as np
import pytest
import torch

from mamba2_lab.course import exercise
from mamba2_lab.course.form import brought

row, pair = torch.tensor([1.0, 2.5]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def same(one, other):
    if isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(other, tuple | list):
        return type(one) is type(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(
    "got, like",
    [
        ([1.0, 2.5], row),
        (np.array([1.0, 2.5]), row),
        (np.array([1, 2]), torch.tensor([1.0, 2.0])),
        ([torch.tensor(1.0), 2.5], row),
        ([[1, 2], [3, 4]], pair),
        (list(pair), pair),
        (row.double(), row),
        (row, row.double()),
        (torch.tensor([1.0, 2.0]), torch.tensor([1, 2])),
        (1.5, torch.tensor(1.5)),
        (np.float64(1.5), torch.tensor(1.5)),
        ([], torch.zeros(0)),
        ([row, pair], (row, pair)),
        ((row.numpy(), 2.0), (row, 2)),
        ((1, 2), [1, 2]),
        (torch.tensor([3, 4]), [3, 4]),
        (np.array(["a", "b"]), ["a", "b"]),
        (torch.tensor(3), 3),
        (np.float32(0.5), 0.5),
        (3.0, 3),
        (np.bool_(True), True),
    ],
)
def test_it_is_brought_into_the_form_of_the_reference(got, like):
    assert same(brought(got, like), like)


@pytest.mark.parametrize(
    "got, like",
    [
        (None, row),
        ("ab", row),
        ([row, pair], row),
        ((1.0, 2.0), torch.zeros(3)),
        (row.half(), row),
        (row, torch.tensor([1, 2])),
        (2.5, 3),
        ({"a": 1.0}, {"b": 1.0}),
        (row, row),
        ((row, 2), (row, 2)),
        (math.nan, 1),
    ],
)
def test_what_loses_something_or_is_in_form_already_is_left_as_it_is(got, like):
    assert brought(got, like) is got


def test_an_adopted_answer_gives_later_cells_what_they_expect(capsys):
    @exercise("selective_scan")
    def selective_scan(x, dt, A, B, C):
        h, y = np.zeros(A.shape), []
        for t in range(len(x)):
            h = np.exp(dt[t].numpy()[:, None] * A.numpy()) * h + np.outer((dt[t] * x[t]).numpy(), B[t].numpy())
            y.append(h @ C[t].numpy())
        return y

    assert capsys.readouterr().out == (
        "selective_scan: passed. Your function is used from here on. It gives a list of 5, which is turned into what "
        "later cells expect.\n"
    )
    y = selective_scan(torch.ones(2, 3), torch.ones(2, 3), -torch.ones(3, 2), torch.ones(2, 2), torch.ones(2, 2))
    assert y.dtype == torch.float32 and y.shape == (2, 3)
