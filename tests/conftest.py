"""What holds for every test: the same random numbers on every run."""

import hypothesis
import pytest
import torch

# Found examples are not kept: a run depends on nothing but the code. No deadline: a shared machine may pause anywhere.
hypothesis.settings.register_profile("lab", derandomize=True, deadline=None, max_examples=30, database=None)
hypothesis.settings.load_profile("lab")

torch.set_num_threads(1)  # the tensors are small: threads would wait for each other more than they compute


@pytest.fixture(autouse=True)
def seed_torch() -> None:
    torch.manual_seed(0)
