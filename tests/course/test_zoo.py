"""Each animal of the zoo is the mixer but for its one mistake, and shows the signs that notebook 06 tells of."""

import pytest
import torch
from support.oracle.mamba2 import perturb

from mamba2_lab.course import zoo
from mamba2_lab.layers import Mamba2

CUT, EXCHANGED, L = 6, 4, 12
SIZES = {"d_model": 16, "headdim": 4, "d_state": 8, "ngroups": 2, "chunk_size": 4, "dt_min": 0.02, "dt_max": 0.5}
each_animal = pytest.mark.parametrize("animal", zoo.ANIMALS, ids=lambda animal: animal.__name__)


@pytest.fixture(scope="module")
def block() -> Mamba2:
    torch.manual_seed(3)
    return perturb(Mamba2(**SIZES, dt_limit=(0.0, 0.3)))


@pytest.fixture(scope="module")
def text() -> torch.Tensor:
    return 2 * torch.randn(L, SIZES["d_model"], generator=torch.Generator().manual_seed(4))


def error(animal: type[Mamba2], block: Mamba2, text: torch.Tensor) -> torch.Tensor:
    """(l,h), relative to the right output."""
    right = zoo.read(block, text, CUT)
    return (zoo.read(zoo.breed(animal, block), text, CUT) - right).norm(dim=-1) / right.norm(dim=-1)


def change(animal: type[Mamba2], block: Mamba2, text: torch.Tensor) -> torch.Tensor:
    """(l,), how far the output moves if one token is exchanged."""
    other = text.clone()
    other[EXCHANGED] = text[0]
    bred = zoo.breed(animal, block)
    return (zoo.read(bred, other, CUT) - zoo.read(bred, text, CUT)).norm(dim=(1, 2))


@torch.no_grad()
def test_what_is_read_is_what_reaches_out_proj(block, text):
    inside = zoo.read(block, text, CUT)
    assert inside.shape == (L, 8, 4)
    torch.testing.assert_close(block.out_proj(inside.flatten(1)), block(text[None])[0], rtol=1e-4, atol=1e-5)
    assert not block.out_proj._forward_pre_hooks, "nobody must listen any longer"


@each_animal
def test_an_animal_has_the_weights_of_the_block_and_another_output(animal, block, text):
    bred = zoo.breed(animal, block)
    assert bred.config == block.config
    assert all(torch.equal(weight, bred.state_dict()[name]) for name, weight in block.state_dict().items())
    assert error(animal, block, text).max() > 0.1


@each_animal
def test_only_one_of_them_sees_the_future(animal, block, text):
    before = change(animal, block, text)[:EXCHANGED]
    if animal is zoo.LooksAhead:
        assert (before[1:] > 1e-2).all() and before[0] == 0, "three tokens, no more"
    else:
        assert (before == 0).all()


def test_one_is_wrong_through_the_norm_alone_where_luck_gives_heads_their_own_group(block, text):
    by_head = error(zoo.DealsOutGroups, block, text)
    torch.testing.assert_close(by_head[:, 0], by_head[:, 2], rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(by_head[:, 5], by_head[:, 7], rtol=1e-2, atol=1e-4)
    assert (by_head[:, 1] - by_head[:, 3]).abs().max() > 1e-2
    assert by_head[0].max() > 1e-2, "wrong from the first token on"


def loudness(animal: type[Mamba2], block: Mamba2, text: torch.Tensor) -> torch.Tensor:
    """(l,g), the mean square of each group with the weights of the norm divided out."""
    unscaled = zoo.read(zoo.breed(animal, block), text, CUT) / block.norm.weight.detach().view(8, 4)
    return unscaled.square().unflatten(1, (2, 4)).mean(dim=(2, 3))


@each_animal
def test_the_loudness_of_groups_tells_the_two_norms_apart(animal, block, text):
    by_group = loudness(animal, block, text)
    sound = torch.ones_like(by_group)
    if animal is zoo.GatesAfterTheNorm:
        assert ((by_group.mean(dim=1) - 1).abs() > 1e-2).all()
    elif animal is zoo.NormalisesAllTogether:
        assert ((by_group - 1).abs().max(dim=1).values > 1e-2).any()
        torch.testing.assert_close(by_group.mean(dim=1), sound[:, 0], rtol=1e-3, atol=1e-3)
    else:
        torch.testing.assert_close(by_group, sound, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "animal", [zoo.NormalisesAllTogether, zoo.GatesAfterTheNorm], ids=lambda animal: animal.__name__
)
def test_two_of_them_err_by_whole_groups(animal, block, text):
    by_group = error(animal, block, text).unflatten(1, (2, 4))
    torch.testing.assert_close(by_group, by_group[..., :1].expand_as(by_group), rtol=1e-2, atol=1e-4)


def test_one_is_right_until_it_reads_token_by_token(block, text):
    by_token = error(zoo.StepsWithoutLimit, block, text).amax(dim=1)
    assert (by_token[:CUT] == 0).all()
    assert by_token[CUT:].max() > 0.1


def test_one_is_right_at_the_first_token_only(block, text):
    by_token = error(zoo.ExchangesReadingAndWriting, block, text).amax(dim=1)
    assert by_token[0] < 1e-4
    assert (by_token[1:] > 1e-3).all()


def test_an_animal_forgets_no_limit_where_there_is_none(text):
    torch.manual_seed(3)
    unlimited = perturb(Mamba2(**SIZES))
    assert error(zoo.StepsWithoutLimit, unlimited, text).max() == 0


def test_groups_cannot_be_mistaken_where_there_is_one(text):
    torch.manual_seed(3)
    one = perturb(Mamba2(**{**SIZES, "ngroups": 1}))
    for animal in (zoo.DealsOutGroups, zoo.NormalisesAllTogether):
        assert error(animal, one, text).max() < 1e-4
