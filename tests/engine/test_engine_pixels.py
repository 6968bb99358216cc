"""Pixels: what is learned, where it starts, and how it becomes the batch of a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_cases import generator
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.engine import Batch, InnerConfig, PixelConfig, Pixels, Tensors
from limbeck.errors import LimbeckError


def _images(config: PixelConfig, classes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(config.steps, config.ipc * classes, 1, 2, 2, generator=generator(), dtype=dtype)


def _pixels(classes: int = 3, dtype: torch.dtype = torch.float64, **settings: Any) -> Pixels:
    inner = InnerConfig(**{name: settings.pop(name) for name in list(settings) if hasattr(InnerConfig, name)})
    config = PixelConfig(**settings)
    return Pixels(config, classes, _images(config, classes, dtype), inner)


# Where learning starts


@given(lr=st.floats(1e-6, 1e3), steps=st.integers(1, 4), epochs=st.integers(1, 4))
def test_step_sizes_start_at_lr(lr: float, steps: int, epochs: int) -> None:
    pixels = _pixels(lr=lr, steps=steps, epochs=epochs)
    lr_T = pixels.decode(pixels.parameters())[2]["lr"]
    assert lr_T.shape == (steps * epochs,)
    torch.testing.assert_close(lr_T, torch.full_like(lr_T, lr), rtol=1e-7, atol=0)


@given(lr=st.floats(1e-6, 1e3), factor=st.floats(1.001, 1e4))
def test_bounded_step_sizes_start_at_lr(lr: float, factor: float) -> None:
    pixels = _pixels(lr=lr, lr_max=lr * factor)
    lr_T = pixels.decode(pixels.parameters())[2]["lr"]
    torch.testing.assert_close(lr_T, torch.full_like(lr_T, lr), rtol=1e-7, atol=0)


@pytest.mark.parametrize("lr", [1e-4, 0.02, 1.0, 30.0])
@pytest.mark.parametrize("bounded", [False, True])
def test_step_sizes_start_at_lr_in_float32(lr: float, bounded: bool) -> None:
    pixels = _pixels(dtype=torch.float32, lr=lr, lr_max=2 * lr if bounded else None)
    lr_T = pixels.decode(pixels.parameters())[2]["lr"]
    assert lr_T.dtype == torch.float32
    torch.testing.assert_close(lr_T, torch.full_like(lr_T, lr), rtol=1e-5, atol=0)


@given(raw=st.floats(-500, 500))
def test_step_sizes_stay_in_their_range(raw: float) -> None:
    for lr_max in (None, 0.5):
        pixels = _pixels(lr=0.1, lr_max=lr_max)
        params = {**pixels.parameters(), "lr": torch.full((pixels.steps,), raw, dtype=torch.float64)}
        lr_T = pixels.decode(params)[2]["lr"]
        assert (lr_T > 0).all()
        assert lr_T.isfinite().all()
        assert lr_max is None or (lr_T <= lr_max).all()


@given(classes=st.integers(2, 12), ipc=st.integers(1, 3), confidence=st.floats(0.51, 0.999))
def test_soft_labels_start_at_their_confidence(classes: int, ipc: int, confidence: float) -> None:
    pixels = _pixels(classes, labels="soft", ipc=ipc, label_confidence=confidence, steps=2)
    _, labels_SMK, _ = pixels.decode(pixels.parameters())
    assert labels_SMK.shape == (2, ipc * classes, classes)
    torch.testing.assert_close(labels_SMK.sum(-1), torch.ones(2, ipc * classes).double())
    own = labels_SMK[:, torch.arange(ipc * classes), torch.arange(classes).repeat_interleave(ipc)]
    torch.testing.assert_close(own, torch.full_like(own, confidence))
    others = labels_SMK.sort(-1).values[..., :-1]
    torch.testing.assert_close(others, torch.full_like(others, (1 - confidence) / (classes - 1)))


@given(scale=st.floats(0, 50), seed=st.integers(0, 1000))
def test_soft_labels_stay_distributions(scale: float, seed: int) -> None:
    pixels = _pixels(labels="soft", steps=2)
    raw = scale * torch.randn(2, 3, 3, generator=generator(seed), dtype=torch.float64)
    _, labels_SMK, _ = pixels.decode({**pixels.parameters(), "labels": raw})
    assert (labels_SMK >= 0).all()
    torch.testing.assert_close(labels_SMK.sum(-1), torch.ones(2, 3).double())


def test_hard_labels_are_one_hot_rows_class_by_class_and_are_not_learned() -> None:
    pixels = _pixels(ipc=2, steps=2)
    assert set(pixels.parameters()) == {"images", "lr"}
    _, labels_SMK, _ = pixels.decode(pixels.parameters())
    assert labels_SMK.dtype == torch.float64
    assert labels_SMK[1].argmax(-1).tolist() == pixels.y_M.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(labels_SMK.sum(-1), torch.ones(2, 6).double())
    assert torch.equal(labels_SMK.max(-1).values, torch.ones(2, 6).double())


def test_images_start_as_given_and_are_a_copy() -> None:
    config = PixelConfig(steps=2, ipc=1)
    given_SMCHW = _images(config, 3)
    pixels = Pixels(config, 3, given_SMCHW)
    assert torch.equal(pixels.parameters()["images"], given_SMCHW)
    pixels.parameters()["images"].zero_()
    assert given_SMCHW.any()


# The batch of a step


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_epochs_go_through_the_same_images_with_step_sizes_of_their_own(labels: str) -> None:
    pixels = _pixels(steps=3, epochs=2, labels=labels)
    assert pixels.steps == 6
    params = {n: v + 0.1 * torch.randn(v.shape, generator=generator(1)) for n, v in pixels.parameters().items()}
    images, labels_SMK, h = pixels.decode(params)
    batches = [pixels.batch(params, t) for t in range(6)]
    for t, batch in enumerate(batches):
        assert torch.equal(batch.x_MCHW, params["images"][t % 3])
        assert torch.equal(batch.x_MCHW, images[t % 3])
        assert torch.equal(batch.y_MK, labels_SMK[t % 3])
        assert batch.h.keys() == {"lr"}
        assert batch.h["lr"].shape == ()
        assert torch.equal(batch.h["lr"], h["lr"][t])
    assert len({batch.h["lr"].item() for batch in batches}) == 6


@pytest.mark.parametrize("lr_max", [None, 0.5])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_the_pull_back_is_that_of_the_batches(labels: str, lr_max: float | None) -> None:
    pixels = _pixels(steps=2, epochs=3, labels=labels, lr=0.1, lr_max=lr_max)
    params = {n: v + 0.1 * torch.randn(v.shape, generator=generator(1)) for n, v in pixels.parameters().items()}
    before = {n: v.clone() for n, v in params.items()}
    rng = generator(2)
    cotangents = [
        Batch(
            torch.randn(4, 3, 1, 2, 2, generator=rng, dtype=torch.float64),
            torch.randn(4, 3, 3, generator=rng, dtype=torch.float64),
            {"lr": torch.randn(4, generator=rng, dtype=torch.float64)},
        )
        for _ in range(6)
    ]
    pullback = pixels.pullback(params, 4)
    for t in reversed(range(6)):
        pullback.batch(t)[1](cotangents[t])
    grads = pullback.result()
    assert grads.keys() == params.keys()

    for b in range(4):
        leaves: Tensors = {n: v.detach().requires_grad_() for n, v in params.items()}
        total = torch.zeros((), dtype=torch.float64)
        for t, cotangent in enumerate(cotangents):
            batch = pixels.batch(leaves, t)
            total = total + (batch.x_MCHW * cotangent.x_MCHW[b]).sum() + batch.h["lr"] * cotangent.h["lr"][b]
            total = total + (batch.y_MK * cotangent.y_MK[b]).sum()
        total.backward()
        for name, leaf in leaves.items():
            torch.testing.assert_close(grads[name][b], leaf.grad)
    assert all(torch.equal(value, before[name]) for name, value in params.items())


# Bad input


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        *(({name: value}, name) for name in ("steps", "epochs", "ipc") for value in (0, -1)),
        *(({"label_confidence": value}, "label_confidence") for value in (0.0, 1.0, -0.5, 1.5, float("nan"))),
        ({"labels": "sift"}, "soft"),
        ({"start": "noisy"}, "noise"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LimbeckError, match=said):
        PixelConfig(**settings)


@pytest.mark.parametrize(("classes", "confidence"), [(4, 0.25), (3, 0.2), (1, 0.9)])
def test_a_label_confidence_that_does_not_favour_the_own_class(classes: int, confidence: float) -> None:
    with pytest.raises(LimbeckError, match="label_confidence"):
        _pixels(classes, labels="soft", label_confidence=confidence)
    assert _pixels(classes, labels="hard").classes == classes


@pytest.mark.parametrize("shape", [(3, 6, 1, 2, 2), (2, 3, 1, 2, 2), (2, 7, 1, 2, 2), (6, 1, 2, 2), (2,)])
def test_images_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(LimbeckError, match=r"expected \(2, 6, C, H, W\)"):
        Pixels(PixelConfig(steps=2, ipc=2), 3, torch.zeros(shape))
