"""Random inputs of exercises depend on their seed alone, and lie where they are said to."""

import torch

from mamba2_lab.course.inputs import Draws


def test_the_numbers_are_those_of_a_generator_with_that_seed():
    generator, draw = torch.Generator().manual_seed(7), Draws(7)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(draw.normal(2, 3), torch.randn(2, 3, generator=generator))
    assert torch.equal(draw.uniform(4), torch.rand(4, generator=generator))
    assert torch.equal(draw.signed(4), 2 * torch.rand(4, generator=generator) - 1)
    doubles = draw.normal(5, dtype=torch.float64)
    assert torch.equal(doubles, torch.randn(5, generator=generator, dtype=torch.float64))
    assert torch.equal(torch.rand(3), expected), "the random state of the notebook was moved"


def test_numbers_lie_where_they_are_said_to():
    draw, n = Draws(1), 20_000
    normal, uniform, signed = draw.normal(n), draw.uniform(n), draw.signed(n)
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03
    for numbers, low in ((uniform, 0), (signed, -1)):
        assert low <= numbers.min() < low + 0.01 and 0.99 < numbers.max() <= 1
        assert abs(numbers.mean() - (low + 1) / 2) < 0.03
