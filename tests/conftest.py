"""What holds for every test: the same random numbers on every run, and a Hub of its own in place of the network."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from support.hub_server import HubServer, as_the_hub

# Found examples are not kept: a run depends on nothing but the code. No deadline: a shared machine may pause anywhere.
hypothesis.settings.register_profile("lab", derandomize=True, deadline=None, max_examples=30, database=None)
hypothesis.settings.load_profile("lab")

HUB = as_the_hub()  # before anything imports the Hub's client, which reads its environment then

torch.set_num_threads(1)  # the tensors are small: threads would wait for each other more than they compute


@pytest.fixture(autouse=True)
def seed_torch() -> None:
    torch.manual_seed(0)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub with nothing in it, and nothing from it in the cache."""
    HUB.empty()
    yield HUB
    shutil.rmtree(Path(os.environ["HF_HOME"]), ignore_errors=True)


def pytest_unconfigure() -> None:
    shutil.rmtree(Path(os.environ["HF_HOME"]), ignore_errors=True)
