"""Shifts, turns, zooms and mirror images: which way, how far, and how they are drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_runs import generator
from torch import Tensor

from limbeck.common.augmentation import Augmentation, move_images

ALL = {"shift": 2.0, "turn": 20.0, "zoom": 0.2, "flip": True}


def images(count: int = 3, height: int = 7, width: int = 9, channels: int = 2) -> Tensor:
    return torch.randn(count, channels, height, width, generator=generator(1), dtype=torch.float64)


def moved(x_MCHW: Tensor, *, turn: float = 0.0, zoom: float = 1.0, left: float = 0.0, up: float = 0.0) -> Tensor:
    """All images moved in the same way."""
    turn_M, zoom_M, left_M, up_M = (x_MCHW.new_full((len(x_MCHW),), value) for value in (turn, zoom, left, up))
    return move_images(x_MCHW, turn_M=turn_M, zoom_M=zoom_M, left_M=left_M, up_M=up_M)


def transform_images(x_MCHW: Tensor, rng: torch.Generator, **bounds: Any) -> Tensor:
    """Each image changed within bounds by a draw of its own."""
    return Augmentation(**bounds).transform(x_MCHW, rng)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


# --- which way and how far -------------------------------------------------------------------------------------------


def test_images_that_are_not_moved_stay_as_they_are() -> None:
    assert_equal(moved(images()), images())


@pytest.mark.parametrize(("left", "up"), [(1, 0), (-2, 0), (0, 1), (0, -3), (2, -1)])
def test_a_shift_of_whole_pixels_rolls_the_image_and_repeats_its_edge(left: int, up: int) -> None:
    x = images()
    result = moved(x, left=left, up=up)
    inside = (..., slice(max(-up, 0), 7 - max(up, 0)), slice(max(-left, 0), 9 - max(left, 0)))
    assert_equal(result[inside], x.roll((-up, -left), (-2, -1))[inside])
    rows, columns = ((torch.arange(size) + by).clamp(0, size - 1) for size, by in ((7, up), (9, left)))
    assert_equal(result, x[..., rows, :][..., columns])


def test_half_a_pixel_is_the_mean_of_two() -> None:
    x = images()
    assert_equal(moved(x, left=0.5)[..., :-1], (x[..., 1:] + x[..., :-1]) / 2)
    assert_equal(moved(x, up=0.5)[..., :-1, :], (x[..., 1:, :] + x[..., :-1, :]) / 2)


@pytest.mark.parametrize("quarters", [-1, 1, 2])
def test_a_positive_turn_goes_counter_clockwise(quarters: int) -> None:
    x = images(height=8, width=8)
    assert_equal(moved(x, turn=90.0 * quarters), torch.rot90(x, quarters, (-2, -1)))


def test_a_turn_keeps_its_angle_in_pixels_where_images_are_not_square() -> None:
    x = torch.zeros(1, 1, 5, 9, dtype=torch.float64)
    x[0, 0, 2, 4 + 2] = 1.0  # two pixels right of the centre
    assert moved(x, turn=90.0)[0, 0].nonzero().tolist() == [[0, 4]]  # two above it


@pytest.mark.parametrize("zoom", [0.8, 1.25])
def test_a_zoom_keeps_the_centre_and_scales_what_is_around_it(zoom: float) -> None:
    x = images(height=7, width=7)
    assert_equal(moved(x, zoom=zoom)[..., 3, 3], x[..., 3, 3])
    across = torch.arange(7, dtype=torch.float64).expand(1, 1, 7, 7)
    inside = moved(across, zoom=zoom)[0, 0, 3, 2:5]
    assert_equal(inside, 3 + torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) / zoom)


def test_a_zoom_above_one_enlarges() -> None:
    dot = torch.zeros(1, 1, 9, 9)
    dot[0, 0, 3:6, 3:6] = 1.0
    assert moved(dot, zoom=2.0).sum() > 3 * dot.sum() > 9 * moved(dot, zoom=0.5).sum()


def test_the_shift_comes_before_the_turn() -> None:
    x = images(height=8, width=8)
    expected = torch.rot90(moved(x, left=2), 1, (-2, -1))
    assert_equal(moved(x, left=2, turn=90.0), expected)


def test_each_image_is_moved_by_its_own_numbers() -> None:
    x = images(3)
    zero, one, left_M = torch.zeros_like(x[:, 0, 0, 0]), torch.ones_like(x[:, 0, 0, 0]), x.new_tensor([0, 1, -1])
    result = move_images(x, turn_M=zero, zoom_M=one, left_M=left_M, up_M=zero)
    for m, left in enumerate((0, 1, -1)):
        assert_equal(result[m : m + 1], moved(x[m : m + 1], left=left))


# --- at random -------------------------------------------------------------------------------------------------------


def test_without_settings_the_images_are_the_same_and_nothing_is_drawn() -> None:
    x, rng = images(), generator(3)
    assert transform_images(x, rng) is x
    assert torch.equal(rng.get_state(), generator(3).get_state())


def test_the_same_generator_gives_the_same_images() -> None:
    x = images(6)
    one, again, other = (transform_images(x, generator(seed), **ALL) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_generator_moves_on() -> None:
    x, rng = images(6), generator(5)
    assert not torch.equal(transform_images(x, rng, shift=2), transform_images(x, rng, shift=2))


@pytest.mark.parametrize("name", ["shift", "turn", "zoom"])
def test_each_image_has_a_draw_of_its_own(name: str) -> None:
    x = images(1).expand(20, -1, -1, -1)
    results = transform_images(x, generator(2), **{name: ALL[name]})
    assert len({tuple(row.flatten().tolist()) for row in results}) == 20


def test_half_of_the_images_are_mirrored_and_nothing_else_happens_to_them() -> None:
    x = images(400, channels=1)
    result = transform_images(x, generator(2), flip=True)
    kinds = [("same" if torch.equal(new, old) else "mirrored", new, old) for new, old in zip(result, x, strict=True)]
    assert all(torch.equal(new, old.flip(-1)) for kind, new, old in kinds if kind == "mirrored")
    assert 160 < sum(kind == "mirrored" for kind, _, _ in kinds) < 240


def ramp(count: int) -> Tensor:
    """Images whose pixels say where they are: column and row, counted from the centre."""
    side = torch.arange(21, dtype=torch.float64) - 10
    return torch.stack([side.expand(21, 21), side[:, None].expand(21, 21)]).expand(count, -1, -1, -1)


def test_shifts_are_uniform_up_to_the_bound_along_each_axis() -> None:
    across_M, down_M = transform_images(ramp(2000), generator(4), shift=3)[..., 10, 10].unbind(1)
    for by_M in (across_M, down_M):
        assert 2.9 < by_M.max() <= 3 and -3 <= by_M.min() < -2.9
        assert abs(by_M.mean()) < 0.15 and abs(by_M.std() - 3 / 3**0.5) < 0.1
    assert abs(torch.corrcoef(torch.stack([across_M, down_M]))[0, 1]) < 0.1


def test_turns_are_uniform_up_to_the_bound_either_way() -> None:
    across_M, down_M = transform_images(ramp(2000), generator(4), turn=30)[..., 10, 15].unbind(1)
    degrees_M = torch.rad2deg(torch.atan2(down_M, across_M))
    assert (across_M.square() + down_M.square() - 25).abs().max() < 1e-4
    assert 29 < degrees_M.max() <= 30 + 1e-6 and -30 - 1e-6 <= degrees_M.min() < -29
    assert abs(degrees_M.std() - 30 / 3**0.5) < 1


def test_zooms_are_uniform_around_one() -> None:
    factors_M = 4 / transform_images(ramp(2000), generator(4), zoom=0.5)[:, 0, 10, 14]
    assert 1.49 < factors_M.max() <= 1.5 + 1e-9 and 0.5 - 1e-9 <= factors_M.min() < 0.51
    assert abs(factors_M.mean() - 1) < 0.03 and abs(factors_M.std() - 0.5 / 3**0.5) < 0.02


def test_the_images_keep_their_dtype() -> None:
    for dtype in (torch.float32, torch.float64):
        assert transform_images(images().to(dtype), generator(), **ALL).dtype == dtype
