"""Selections: the contract of all, and each against what it is defined by."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import tiny_data

from limbeck.common.seeds import generator
from limbeck.errors import LimbeckError
from limbeck.evaluation.baselines import make_baseline
from limbeck.evaluation.selections import SELECTIONS, select_by_herding, select_k_center, select_per_class

DATA = tiny_data()


@pytest.mark.parametrize("name", SELECTIONS.names)
@pytest.mark.parametrize("n", [1, 5, 30])
def test_every_selection_gives_different_members_and_the_same_again(name: str, n: int) -> None:
    x_ND = torch.randn(30, 4, generator=generator(0, "x"))
    index_n = SELECTIONS[name](x_ND, n, generator(1, "select"))
    assert index_n.shape == (n,) and len(set(index_n.tolist())) == n and int(index_n.min()) >= 0
    assert int(index_n.max()) < 30
    assert torch.equal(index_n, SELECTIONS[name](x_ND, n, generator(1, "select")))


@pytest.mark.parametrize("name", SELECTIONS.names)
def test_real_images_of_each_class_come_back(name: str) -> None:
    x_KnCHW = select_per_class(DATA, name, 3, generator(0, "select"))
    assert x_KnCHW.shape == (DATA.num_classes, 3, *DATA.image_shape)
    for label in range(DATA.num_classes):
        members = DATA.preprocessing.apply(DATA.train_x[DATA.train_y == label]).flatten(1)
        assert float(torch.cdist(x_KnCHW[label].flatten(1), members).amin(1).max()) < 1e-3
    assert torch.equal(x_KnCHW, make_baseline(name)(DATA, 3, generator(0, "select"))) or name == "random"


@pytest.mark.parametrize("name", SELECTIONS.names)
def test_more_than_there_are_come_again(name: str) -> None:
    most = int(DATA.train_y.bincount().max()) + 3
    assert select_per_class(DATA, name, most, generator(0, "select")).shape[1] == most


def test_herding_starts_nearest_to_the_mean_and_follows_it() -> None:
    x_ND = torch.tensor([[0.0], [1.0], [2.0], [9.0]])  # the mean is 3
    assert select_by_herding(x_ND, 2, generator(0, "h")).tolist() == [
        2,
        1,
    ]  # (2 + 1) / 2 is off by 1.5, (2 + 9) / 2 by 2.5


def test_k_center_goes_to_the_farthest() -> None:
    x_ND = torch.tensor([[0.0], [4.0], [5.0], [11.0]])  # the mean is 5
    assert select_k_center(x_ND, 3, generator(0, "k")).tolist() == [2, 3, 0]


def test_the_nearest_real_images_to_centres_are_near() -> None:
    spots = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x_ND = spots.repeat(10, 1) + 0.1 * torch.randn(30, 2, generator=generator(0, "x"))
    index_n = SELECTIONS["kmeans-nearest"](x_ND, 3, generator(0, "k"))
    assert {int(i) % 3 for i in index_n} == {0, 1, 2}


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(LimbeckError, match="herdin"):
        select_per_class(DATA, "herdin", 1, generator(0, "select"))
