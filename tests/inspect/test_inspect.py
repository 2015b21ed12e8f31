"""Numbers about the inside of a model, against sums written out by hand."""

import torch

from mamba2_lab import Mamba2LM
from mamba2_lab.inspect import state_change

MODEL = Mamba2LM(d_model=32, n_layer=2, d_state=8, headdim=16, vocab_size=50, seed=0)


@torch.no_grad()
def test_state_change_is_the_norm_of_the_difference_over_the_sum_of_the_norms() -> None:
    _, before = MODEL.prefill(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    _, after = MODEL.step(torch.tensor([7, 8]), before)
    change = state_change(before, after, row=1)
    assert change.shape == (2, 4)
    for layer in range(2):
        for head in range(4):
            old = before.layers[layer].ssm_state[1, head].double()
            new = after.layers[layer].ssm_state[1, head].double()
            expected = (new - old).square().sum().sqrt() / (new.square().sum().sqrt() + old.square().sum().sqrt())
            torch.testing.assert_close(change[layer, head].double(), expected, rtol=1e-5, atol=0)


@torch.no_grad()
def test_state_change_is_zero_where_nothing_happened_and_one_where_nothing_was() -> None:
    _, cache = MODEL.prefill(torch.tensor([[1, 2, 3]]))
    assert state_change(cache, cache).eq(0).all()
    torch.testing.assert_close(state_change(MODEL.new_cache(1), cache), torch.ones(2, 4))
    assert state_change(MODEL.new_cache(1), MODEL.new_cache(1)).eq(0).all()
