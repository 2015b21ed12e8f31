"""The synthetic tasks: every answer can be found in the inputs by a plain search, and nothing else is scored."""

import pytest
import torch

from mamba2_lab.data.synthetic import (
    IGNORED,
    TaskBatch,
    accuracy,
    associative_recall,
    induction_heads,
    selective_copying,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(batch: TaskBatch) -> list[tuple[list[int], list[int]]]:
    return list(zip(batch.input_ids.tolist(), batch.targets.tolist(), strict=True))


def test_selective_copying_asks_for_the_symbols_in_the_order_in_which_they_came() -> None:
    for inputs, targets in rows(selective_copying(50, 20, 5, seeded())):
        assert targets[:20] == [IGNORED] * 20
        assert inputs[20:] == [1] * 5
        assert [token for token in inputs[:20] if token != 0] == targets[20:]
        assert all(2 <= token <= 15 for token in targets[20:])


def test_selective_copying_puts_symbols_everywhere_and_uses_them_all() -> None:
    inputs = selective_copying(2000, 10, 3, seeded(), symbols=4).input_ids[:, :10]
    assert set(inputs.unique().tolist()) == {0, 2, 3, 4, 5}
    share = (inputs != 0).float().mean(dim=0)
    assert (share - 0.3).abs().max() < 0.05


def test_induction_heads_ask_for_what_followed_the_special_token() -> None:
    seen = set()
    for inputs, targets in rows(induction_heads(500, 8, seeded())):
        first = inputs.index(0)
        assert inputs.count(0) == 2 and inputs[-1] == 0
        assert targets[:-1] == [IGNORED] * 7 and targets[-1] == inputs[first + 1] != 0
        seen.add(first)
    assert seen == set(range(6))


def test_associative_recall_asks_for_the_value_that_stood_behind_the_key() -> None:
    for inputs, targets in rows(associative_recall(50, 6, 4, seeded(), keys=10, values=3)):
        shown = dict(zip(inputs[0:12:2], inputs[1:12:2], strict=True))
        assert len(shown) == 6 and all(key < 10 <= value < 13 for key, value in shown.items())
        assert targets[:12] == [IGNORED] * 12
        assert len(set(inputs[12:])) == 4 and targets[12:] == [shown[key] for key in inputs[12:]]


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator: selective_copying(4, 9, 3, generator),
        lambda generator: induction_heads(4, 9, generator),
        lambda generator: associative_recall(4, 5, 3, generator),
    ],
)
def test_the_same_seed_draws_the_same_batch_and_another_seed_another(draw) -> None:
    assert torch.equal(draw(seeded(1)).input_ids, draw(seeded(1)).input_ids)
    assert not torch.equal(draw(seeded(1)).input_ids, draw(seeded(2)).input_ids)


def test_accuracy_counts_the_scored_positions_only() -> None:
    batch = TaskBatch(torch.zeros(1, 4, dtype=torch.long), torch.tensor([[IGNORED, 2, 1, IGNORED]]))
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 2, 0, 0]]), 3).float()
    assert accuracy(logits, batch) == 0.5


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: selective_copying(1, 4, 5, seeded()), r"copied must be 1\.\.4, the length; got 5"),
        (lambda: induction_heads(1, 2, seeded()), "length must be at least 3; got 2"),
        (lambda: associative_recall(1, 5, 1, seeded(), keys=4), r"pairs must be 1\.\.4, the number of keys; got 5"),
        (lambda: associative_recall(1, 3, 4, seeded()), r"queries must be 1\.\.3, the number of pairs; got 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(draw, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()
