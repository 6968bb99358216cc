"""What a learned set has to beat: the images of each baseline and the order in which they are used."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import generator, tiny_data
from torch import Tensor

from limbeck.data import TaskData, kmeans_per_class
from limbeck.errors import LimbeckError
from limbeck.evaluation.baselines import (
    STEP_SIZES,
    Layout,
    baseline_names,
    check_baselines,
    class_average,
    make_baseline,
    random_real,
)

DATA = tiny_data()


def with_training(x_NCHW: Tensor, y_N: Tensor) -> TaskData:
    """The tiny task with other training images."""
    return replace(DATA, train_x=x_NCHW, train_y=y_N)


def normalised(label: int, data: TaskData = DATA) -> Tensor:
    """The training images of a class as networks see them, by hand."""
    pre = data.preprocessing
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (pre.mean, pre.std))
    return (data.train_x[data.train_y == label].float() * pre.scale - mean) / std


# --- layout ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    batches=st.integers(1, 4),
    ipc=st.integers(1, 3),
    classes=st.integers(2, 4),
    channels=st.integers(1, 3),
    step_size=st.floats(0.001, 1),
    data=st.data(),
)
def test_arrange_equals_a_loop(
    batches: int, ipc: int, classes: int, channels: int, step_size: float, data: st.DataObject
) -> None:
    order = tuple(data.draw(st.lists(st.integers(0, batches - 1), min_size=1, max_size=8)))
    layout = Layout(batches=batches, ipc=ipc, order=order)
    assert layout.per_class == batches * ipc
    x_KnCHW = torch.randn(classes, batches * ipc, channels, 2, 5, generator=generator(1))
    arranged = layout.arrange(x_KnCHW, step_size)
    assert len(arranged) == len(order)
    for index, batch in zip(order, arranged, strict=True):
        assert batch.x_MCHW.shape == (classes * ipc, channels, 2, 5)
        assert batch.y_MK.shape == (classes * ipc, classes)
        for row, (label, position) in enumerate(itertools.product(range(classes), range(ipc))):
            assert torch.equal(batch.x_MCHW[row], x_KnCHW[label, index * ipc + position])
            assert batch.y_MK[row].tolist() == [float(k == label) for k in range(classes)]
        assert set(batch.h) == {"lr"}
        assert float(batch.h["lr"]) == pytest.approx(step_size)


def test_every_image_is_used_once_in_an_epoch() -> None:
    x_KnCHW = torch.arange(24.0).view(2, 12, 1, 1, 1)
    arranged = Layout(batches=4, ipc=3, order=(0, 1, 2, 3)).arrange(x_KnCHW, 0.1)
    used = torch.cat([batch.x_MCHW.flatten() for batch in arranged])
    assert sorted(used.tolist()) == list(range(24))


def test_step_sizes_are_three_a_decade() -> None:
    assert STEP_SIZES[0] == pytest.approx(0.001)
    assert STEP_SIZES[-1] == pytest.approx(1)
    assert np.diff(np.log10(STEP_SIZES)) == pytest.approx(np.full(9, 1 / 3))


# --- names -----------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert check_baselines(baseline_names()) == baseline_names()
    assert check_baselines([]) == ()
    for name in baseline_names():
        images = make_baseline(name)(DATA, 4, generator())
        assert images.shape == (3, 4, 1, 8, 8)
        assert images.dtype == torch.float32
    with pytest.raises(LimbeckError, match="did you mean 'kmeans'"):
        make_baseline("k-means")
    with pytest.raises(LimbeckError, match="baseline"):
        check_baselines(["random", "herdings"])


# --- images ----------------------------------------------------------------------------------------------------------


def test_random_images_are_of_their_class_and_all_different() -> None:
    images = random_real(DATA, 10, generator(4))
    for label in range(3):
        distances = torch.cdist(images[label].flatten(1), normalised(label).flatten(1))
        assert distances.amin(1).max() < 1e-4
        assert len(set(distances.argmin(1).tolist())) == 10
    assert torch.equal(images, random_real(DATA, 10, generator(4)))
    assert not torch.equal(images, random_real(DATA, 10, generator(5)))


def test_the_average_equals_numpy() -> None:
    images = class_average(DATA, 3, generator())
    assert images.shape == (3, 3, 1, 8, 8)
    for label in range(3):
        raw = DATA.train_x[DATA.train_y == label].double().numpy().mean(0)
        expected = (raw * DATA.preprocessing.scale - DATA.preprocessing.mean[0]) / DATA.preprocessing.std[0]
        for copy in images[label]:
            np.testing.assert_allclose(copy.numpy(), expected, atol=1e-5)


def test_the_average_of_bytes_is_not_rounded() -> None:
    x_NCHW = torch.tensor([0, 255, 254, 255, 10, 11], dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    data = with_training(x_NCHW, torch.tensor([0, 0, 1, 1, 2, 2]))
    means = class_average(data, 1, generator())[:, 0].flatten(1)
    expected = [(v * data.preprocessing.scale - data.preprocessing.mean[0]) for v in (127.5, 254.5, 10.5)]
    torch.testing.assert_close(means[:, 0] * data.preprocessing.std[0], torch.tensor(expected))


def inertia(points_ND: np.ndarray[Any, Any], groups: list[list[int]]) -> float:
    return float(sum(((points_ND[g] - points_ND[g].mean(0)) ** 2).sum() for g in groups))


def best_partition(points_ND: np.ndarray[Any, Any], k: int) -> list[list[int]]:
    """The global optimum of k-means, by trying every assignment."""
    partitions: list[list[list[int]]] = []
    for assignment in itertools.product(range(k), repeat=len(points_ND)):
        groups = [[i for i, group in enumerate(assignment) if group == g] for g in range(k)]
        if all(groups):
            partitions.append(groups)
    return min(partitions, key=lambda groups: inertia(points_ND, groups))


def obvious_clusters() -> TaskData:
    """Three classes of seven images each, in three clusters far apart of three, two and two images."""
    centres = 20 * torch.randn(3, 3, 1, 8, 8, generator=generator(8))
    y_N = torch.arange(3).repeat_interleave(7)
    cluster_N = torch.tensor([0, 1, 2, 0, 1, 2, 0]).repeat(3)
    return with_training(centres[y_N, cluster_N] + 0.1 * torch.randn(21, 1, 8, 8, generator=generator(9)), y_N)


def test_kmeans_finds_the_optimum_of_obvious_clusters() -> None:
    data = obvious_clusters()
    images = kmeans_per_class(data, 3, generator(0))
    assert images.shape == (3, 3, 1, 8, 8)
    for label in range(3):
        points = normalised(label, data).flatten(1).double().numpy()
        optimum = sorted(points[group].mean(0).tolist() for group in best_partition(points, 3))
        np.testing.assert_allclose(sorted(images[label].flatten(1).tolist()), optimum, atol=1e-3)


def test_kmeans_of_one_is_the_mean_and_follows_its_generator() -> None:
    torch.testing.assert_close(kmeans_per_class(DATA, 1, generator()), class_average(DATA, 1, generator()))
    one, two, other = (kmeans_per_class(DATA, 4, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_kmeans_centroids_are_the_means_of_what_is_nearest_to_them() -> None:
    images = kmeans_per_class(DATA, 4, generator(2))
    for label in range(3):
        members, centroids = normalised(label).flatten(1), images[label].flatten(1)
        nearest = torch.cdist(members, centroids).argmin(1)
        for index in range(4):
            torch.testing.assert_close(centroids[index], members[nearest == index].mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_class", [3, 5, 8, 20])
def test_more_centroids_than_distinct_images(per_class: int) -> None:
    """Six images a class, three of them distinct: the centroids are those three, however many are asked for."""
    distinct = torch.randn(3, 3, 1, 8, 8, generator=generator(6))
    y_N = torch.arange(3).repeat_interleave(6)
    data = with_training(distinct[y_N, torch.arange(3).repeat(6)], y_N)
    images = kmeans_per_class(data, per_class, generator(0))
    assert images.shape == (3, per_class, 1, 8, 8)
    assert images.isfinite().all()
    for label in range(3):
        distances = torch.cdist(images[label].flatten(1).double(), normalised(label, data).flatten(1).double())
        assert distances.amin(1).max() < 1e-3
        assert distances.amin(0).max() < 1e-3
