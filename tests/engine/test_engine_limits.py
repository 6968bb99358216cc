"""Limits: a point of the set for any images, and learned images that keep to it in pixels."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_pools import rows_file
from tiny_runs import EAGER, tiny_data
from torch import Tensor

from limbeck.common.seeds import generator
from limbeck.data import TaskData, load
from limbeck.engine import InnerConfig, Limits, PixelConfig, Pixels
from limbeck.errors import LimbeckError
from limbeck.experiment.build import build_source
from limbeck.experiment.config import Config
from limbeck.experiment.parts import OuterConfig
from limbeck.outer.loop import distill

CLOSE = 1e-12


@st.composite
def cases(draw: st.DrawFn, norm: str) -> tuple[Limits, Tensor]:
    """Limits in float64 about valid images of two channels, and other images."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    mean, std = torch.rand(2, 1, 1, generator=rng).double(), 0.05 + torch.rand(2, 1, 1, generator=rng).double()
    low, high = (0 - mean) / std, (1 - mean) / std
    # Pixels of real images lie at the ends of their range more often than anywhere between.
    pixels = (3 * torch.rand(2, 3, 2, 3, 3, generator=rng).double() - 1).clamp(0, 1)
    limits = Limits(
        low_C11=low,
        high_C11=high,
        unit_C11=1 / std,
        centre_SMCHW=(pixels - mean) / std,
        epsilon=draw(st.floats(1e-3, 2.0)),
        norm=norm,  # type: ignore[arg-type]
    )
    spread = draw(st.sampled_from([0.0, 1e-3, 0.1, 1.0, 30.0]))
    return limits, limits.centre_SMCHW + spread * torch.randn(2, 3, 2, 3, 3, generator=rng).double()  # type: ignore[operator]


def change_of(limits: Limits, images_SMCHW: Tensor) -> Tensor:
    """How far images went from the real ones, in pixels: of each image in the limits' norm, (S, M)."""
    assert limits.centre_SMCHW is not None
    change = ((images_SMCHW - limits.centre_SMCHW) / limits.unit_C11).flatten(2)
    return change.abs().amax(-1) if limits.norm == "linf" else change.square().sum(-1).sqrt()


def valid(limits: Limits, images_SMCHW: Tensor) -> bool:
    return bool(((images_SMCHW >= limits.low_C11) & (images_SMCHW <= limits.high_C11)).all())


@given(case=cases("linf") | cases("l2"))
def test_both_bounds_hold(case: tuple[Limits, Tensor]) -> None:
    limits, images = case
    nearest = limits.nearest(images)
    assert nearest.shape == images.shape
    assert valid(limits, nearest)
    assert (change_of(limits, nearest) <= limits.epsilon * (1 + CLOSE) + CLOSE).all()


@given(case=cases("linf") | cases("l2"))
def test_once_more_changes_nothing(case: tuple[Limits, Tensor]) -> None:
    limits, images = case
    nearest = limits.nearest(images)
    torch.testing.assert_close(limits.nearest(nearest), nearest, rtol=CLOSE, atol=CLOSE)


@given(case=cases("linf") | cases("l2"), part=st.floats(0, 0.999))
def test_allowed_images_are_left_alone(case: tuple[Limits, Tensor], part: float) -> None:
    limits, images = case
    assert limits.centre_SMCHW is not None
    allowed = limits.centre_SMCHW + part * (limits.nearest(images) - limits.centre_SMCHW)  # the set is convex
    torch.testing.assert_close(limits.nearest(allowed), allowed, rtol=CLOSE, atol=CLOSE)


@given(case=cases("linf") | cases("l2"))
def test_the_inputs_are_only_read(case: tuple[Limits, Tensor]) -> None:
    limits, images = case
    assert limits.centre_SMCHW is not None
    before = images.clone(), limits.centre_SMCHW.clone()
    limits.nearest(images)
    assert torch.equal(images, before[0])
    assert torch.equal(limits.centre_SMCHW, before[1])


@given(case=cases("linf"))
def test_linf_is_the_nearest_point(case: tuple[Limits, Tensor]) -> None:
    limits, images = case
    assert limits.centre_SMCHW is not None
    # The set is a box, and the nearest point of an interval is found pixel by pixel.
    low = torch.maximum(limits.centre_SMCHW - limits.epsilon * limits.unit_C11, limits.low_C11)
    high = torch.minimum(limits.centre_SMCHW + limits.epsilon * limits.unit_C11, limits.high_C11)
    torch.testing.assert_close(
        limits.nearest(images), torch.minimum(torch.maximum(images, low), high), rtol=CLOSE, atol=CLOSE
    )


@given(case=cases("l2"))
def test_l2_comes_no_nearer_to_the_real_image_than_the_bound_asks(case: tuple[Limits, Tensor]) -> None:
    limits, images = case
    free = dataclasses.replace(limits, low_C11=limits.low_C11 - 1e6, high_C11=limits.high_C11 + 1e6)
    length, left = change_of(limits, images), change_of(limits, free.nearest(images))
    torch.testing.assert_close(left, length.clamp_max(limits.epsilon), rtol=1e-9, atol=1e-9)


@given(case=cases("linf"))
def test_without_a_centre_pixels_stay_in_their_range(case: tuple[Limits, Tensor]) -> None:
    free = dataclasses.replace(case[0], centre_SMCHW=None)
    nearest = free.nearest(case[1])
    assert valid(free, nearest)
    inside = (case[1] >= free.low_C11) & (case[1] <= free.high_C11)
    assert torch.equal(nearest[inside], case[1][inside])


# Pixels


def test_pixels_start_within_their_limits_and_are_put_back() -> None:
    limits = Limits(low_C11=torch.full((1, 1, 1), -1.0), high_C11=torch.ones(1, 1, 1), unit_C11=torch.ones(1, 1, 1))
    images = torch.tensor([-3.0, 0.5, 2.0, 1.0]).view(1, 2, 1, 1, 2)
    pixels = Pixels(PixelConfig(steps=1, epochs=1, valid_pixels=True), 2, images, InnerConfig(lr=0.1), limits)
    params = pixels.parameters()
    assert params["images"].flatten().tolist() == [-1.0, 0.5, 1.0, 1.0]
    moved = {**params, "images": 4 * params["images"]}
    assert pixels.project(moved)["images"].flatten().tolist() == [-1.0, 1.0, 1.0, 1.0]
    assert torch.equal(pixels.project(moved)["lr"], params["lr"])
    free = Pixels(PixelConfig(steps=1, epochs=1), 2, images, InnerConfig(lr=0.1))
    assert torch.equal(free.project(moved)["images"], moved["images"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        *(({"start": "real", "max_change": value}, "max_change is") for value in (0.0, -0.1, float("nan"))),
        ({"start": "real", "max_change": float("inf")}, "max_change is"),
        ({"max_change": 0.1}, "needs start real"),
        ({"norm": "l2"}, "give max_change, too"),
        ({"start": "real", "max_change": 0.1, "norm": "l1"}, "did you mean 'l2'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        PixelConfig(**settings)


# Learned sets


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    return load(str(rows_file(tmp_path_factory.mktemp("data"))), val_size=40)


def learned(rows: TaskData, **pixels: Any) -> tuple[Config, Tensor, Tensor]:
    """The configuration, the learned images as pixels, (S, M, C, H, W), and their labels, (S, M, K)."""
    config = Config(
        data="rows",
        learner="linear",
        source=PixelConfig(**{"steps": 2, "epochs": 2, "ipc": 2, "start": "real", **pixels}),
        outer=OuterConfig(
            iterations=12,
            inits=2,
            real_batch=32,
            lr_images=0.5,
            warmup=0,
            schedule="constant",
            validate_every=12,
            validate_inits=2,
        ),
        engine=EAGER,
        val_size=40,
    )
    run = distill(config, rows)
    return config, run.preprocessing.invert(run.images), run.labels


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 8 / 255), ("linf", 0.3), ("l2", 0.5)])
def test_learned_images_keep_to_the_bound_in_pixels(
    norm: Literal["linf", "l2"], epsilon: float, rows: TaskData
) -> None:
    config, pixels, labels = learned(rows, max_change=epsilon, norm=norm)
    source = build_source(config, rows, generator(config.seed, "start"))
    assert isinstance(source, Pixels)
    assert source.limits is not None
    assert source.limits.centre_SMCHW is not None
    real = rows.preprocessing.invert(source.limits.centre_SMCHW)
    change = (pixels - real).flatten(2)
    length = change.abs().amax(-1) if norm == "linf" else change.square().sum(-1).sqrt()
    assert length.max() <= epsilon + 1e-6
    assert length.max() >= 0.99 * epsilon  # and they make use of it
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    known = rows.preprocessing.invert(rows.preprocessing.apply(rows.train_x)).flatten(1)
    for batch, one_hot in zip(real, labels, strict=True):
        distance, home = torch.cdist(batch.flatten(1), known, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        assert distance.max() < 1e-5  # real images
        assert torch.equal(one_hot, torch.eye(3)[rows.train_y[home]])  # with their own labels


def test_the_bound_is_a_part_of_the_range_that_pixels_have() -> None:
    data = tiny_data()  # pixels of any size
    low, high = data.pixel_range
    assert high - low > 3
    config, pixels, _ = learned(data, max_change=0.05)
    source = build_source(config, data, generator(config.seed, "start"))
    assert isinstance(source, Pixels)
    assert source.limits is not None
    assert source.limits.centre_SMCHW is not None
    change = (pixels - data.preprocessing.invert(source.limits.centre_SMCHW)).abs() / (high - low)
    assert 0.049 < change.max() <= 0.05 + 1e-6
    assert pixels.min() >= low - 1e-5
    assert pixels.max() <= high + 1e-5


def test_free_images_stay_valid_where_that_is_asked_for(rows: TaskData) -> None:
    _, pixels, _ = learned(rows, start="noise", valid_pixels=True)
    assert pixels.min() == pytest.approx(0, abs=1e-6)
    assert pixels.max() == pytest.approx(1, abs=1e-6)
    _, pixels, _ = learned(rows, start="noise")
    assert pixels.min() < -0.1
    assert pixels.max() > 1.1
