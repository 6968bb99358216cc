"""Distilling with a generator or over real batches: the outer loop, the artefact, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Recorder, assert_same_run, same_tensors, tiny_config, tiny_data
from torch import Tensor, nn

from limbeck.artefact.distilled import Distilled
from limbeck.engine import Execution, Kernels, RealLoss
from limbeck.engine.source.generator import CURRICULA
from limbeck.errors import LimbeckError
from limbeck.evaluation.judge import evaluate
from limbeck.evaluation.train_and_score import score, train
from limbeck.experiment.build import initial_weights
from limbeck.outer.loop import distill

DATA = tiny_data()
SGD = {"optimizer": "sgd", "momentum": 0.5, "learn_momentum": "per-step"}


def flat_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> nn.Module:
    """A user's generator: one linear layer."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(latent + num_classes, shape[0] * shape[1] * shape[2])

        def forward(self, z_MZ: Tensor, y_MK: Tensor) -> Tensor:
            flat: Tensor = self.line(torch.cat([z_MZ, y_MK], 1))
            return flat.view(-1, *shape)

    return Flat()


def broken_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> nn.Module:
    """A generator of images that are a column too wide."""
    wider: tuple[int, int, int] = (*shape[:2], shape[2] + 1)
    return flat_generator(wider, num_classes, latent)


def infinite_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> nn.Module:
    """A generator with an infinite bias."""
    module = flat_generator(shape, num_classes, latent)
    nn.init.constant_(module.line.bias, float("inf"))  # type: ignore[arg-type, union-attr]
    return module


def forgetful_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> nn.Module:
    """A generator with dropout."""
    return nn.Sequential(nn.Dropout(0.5), flat_generator(shape, num_classes, latent))


def noisy_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> nn.Module:
    """A generator with noise of its own."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = flat_generator(shape, num_classes, latent)

        def forward(self, z_MZ: Tensor, y_MK: Tensor) -> Tensor:
            images: Tensor = self.flat(z_MZ, y_MK)
            return images + torch.randn_like(images)

    return Noisy()


def counting_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> nn.Module:
    """A generator that counts its batches."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = flat_generator(shape, num_classes, latent)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, z_MZ: Tensor, y_MK: Tensor) -> Tensor:
            self.count += 1
            images: Tensor = self.flat(z_MZ, y_MK)
            return images

    return Counting()


def fourier_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> nn.Module:
    """A generator with random features that are not learned."""

    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = flat_generator(shape, num_classes, latent)
            self.register_buffer("frequencies", torch.randn(latent, latent))

        def forward(self, z_MZ: Tensor, y_MK: Tensor) -> Tensor:
            images: Tensor = self.flat((z_MZ @ self.frequencies).sin(), y_MK)
            return images

    return Fourier()


def picky_generator(shape: tuple[int, int, int]) -> nn.Module:
    """A function that does not take what it is given."""
    return flat_generator(shape, 3, 4)


def empty_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> nn.Module:
    """A module without parameters."""
    return nn.Identity()


def no_generator(shape: tuple[int, int, int], num_classes: int, latent: int) -> int:
    """No module at all."""
    return 3


@pytest.mark.parametrize("curriculum", [*CURRICULA, "real"])
def test_resume_equals_uninterrupted(tmp_path: Path, curriculum: str) -> None:
    if curriculum == "real":
        config = tiny_config(source="real", inner=SGD)
    else:
        config = tiny_config(source="generator", inner=SGD, generator={"curriculum": curriculum})
    distill(config, DATA, out=tmp_path / "whole")
    distill(config, DATA, out=tmp_path / "parts", reporter=Recorder(4))
    distill(config, DATA, out=tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("source", ["generator", "real"])
def test_the_artefact_holds_what_was_validated(tmp_path: Path, source: Any) -> None:
    """Its batches, from the disk, train a network as the generator's do."""
    shuffled = {"curriculum": "all-shuffled"} if source == "generator" else {}
    config = tiny_config(source=source, inner=SGD, generator=shuffled)
    result = distill(config, DATA, out=tmp_path)
    loaded = Distilled.load(tmp_path)
    assert loaded.images.shape == (3, 6, 1, 8, 8)
    assert loaded.order.tolist() == [0, 1, 2]
    assert set(loaded.hyperparameters) == {"lr", "momentum", "weight_decay"}
    assert same_tensors(loaded.generator, result.generator)
    assert bool(loaded.generator) == (source == "generator")
    assert all(torch.equal(getattr(loaded, n), getattr(result, n)) for n in ("images", "labels"))
    weights = initial_weights(config, loaded.network()).held_out(2, config.seed + 1)
    kernels = Kernels(loaded.learner(), RealLoss(), Execution(chunk=2))
    trained = train(kernels, list(loaded.batches()), weights)
    best = score(kernels, trained, DATA.split_batches("val", 1000), 3).mean
    assert best == pytest.approx(loaded.info["validation"]["accuracy"])
    scores = evaluate(loaded, DATA, n=3)
    assert [row.row for row in scores.rows] == ["distilled", "random", "best-random", "kmeans", "average"]
    assert scores.distilled.scores.n == 3


def test_a_generator_without_a_curriculum_makes_images_without_limit(tmp_path: Path) -> None:
    config = tiny_config(source="generator", generator={"curriculum": "none"})
    distill(config, DATA, out=tmp_path)
    run = Distilled.load(tmp_path)
    x_NCHW, y_N = run.generate(20, seed=1)
    assert x_NCHW.shape == (20, 1, 8, 8)
    assert torch.bincount(y_N).tolist() == [7, 7, 6]
    assert x_NCHW.abs().max() <= config.source.output_scale
    assert torch.equal(run.generate(8, seed=1)[0], x_NCHW[:8])
    assert not torch.equal(run.generate(8, seed=2)[0], x_NCHW[:8])


@pytest.mark.parametrize("curriculum", ["none", "shuffled-batches"])
def test_batches_are_drawn_anew(curriculum: str) -> None:
    run = distill(tiny_config(source="generator", generator={"curriculum": curriculum}), DATA)
    recorded, one, again, other = (list(run.batches(seed=seed)) for seed in (None, 1, 1, 2))
    assert all(torch.equal(a.x_MCHW, b.x_MCHW) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a.x_MCHW, b.x_MCHW) for a, b in zip(one, other, strict=True))
    assert [float(b.h["lr"]) for b in one] == [float(b.h["lr"]) for b in recorded]
    if curriculum == "shuffled-batches":
        assert sorted(float(b.x_MCHW.sum()) for b in one) == sorted(float(b.x_MCHW.sum()) for b in recorded)
    else:
        images = torch.cat([b.x_MCHW for b in one])
        assert torch.equal(images, run.generate(len(images), seed=1)[0])


def test_recorded_batches_only() -> None:
    for config in (tiny_config(), tiny_config(source="generator")):
        with pytest.raises(LimbeckError, match="leave out the seed"):
            list(distill(config, DATA).batches(seed=0))


def test_what_a_generator_does_not_learn_is_kept(tmp_path: Path) -> None:
    settings = {"curriculum": "none", "generator": "test_teaching:fourier_generator"}
    result = distill(tiny_config(source="generator", generator=settings, iterations=2), DATA, out=tmp_path)
    assert "module.frequencies" in result.generator
    x_NCHW, y_N = Distilled.load(tmp_path, trust=True).generate(6, seed=3)
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    g = result.generator
    weight = g["module.flat.line.weight"]
    weight = g["length.0"][:, None] * weight / weight.norm(dim=1, keepdim=True)
    features = torch.cat([(z @ g["module.frequencies"]).sin(), torch.nn.functional.one_hot(y_N, 3).float()], 1)
    torch.testing.assert_close(x_NCHW.flatten(1), features @ weight.T + g["module.flat.line.bias"])


def test_what_cannot_be_generated(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="not made by a generator"):
        distill(tiny_config(iterations=1), DATA).generate(3)
    with pytest.raises(LimbeckError, match="curriculum full.*curriculum='none'"):
        distill(tiny_config(source="generator", iterations=1), DATA).generate(3)
    with pytest.raises(LimbeckError, match="n is 0"):
        distill(tiny_config(source="generator", iterations=1), DATA).generate(0)


def test_real_batches_learn_hyperparameters_only() -> None:
    result = distill(tiny_config(source="real", inner=SGD, iterations=30, lr_steps=0.1), DATA)
    assert len(set(result.hyperparameters["lr"].tolist())) == 3
    assert len(set(result.hyperparameters["momentum"].tolist())) == 3
    assert result.hyperparameters["weight_decay"].tolist() == [0.0, 0.0, 0.0]
    train = DATA.preprocessing.apply(DATA.train_x)
    assert all((train == x).flatten(1).all(1).any() for x in result.images.flatten(0, 1))


@pytest.mark.parametrize("source", ["pixels", "generator", "real"])
def test_hyperparameters_shared_by_all_steps(source: Any) -> None:
    inner = SGD | {"learn_lr": "shared", "learn_momentum": "shared"}
    run = distill(tiny_config(source=source, inner=inner, lr_steps=0.1), DATA)
    for name, start in (("lr", 0.1), ("momentum", 0.5)):
        assert len(run.hyperparameters[name].unique()) == 1
        assert abs(float(run.hyperparameters[name][0]) - start) > 1e-4


def test_weight_norm_of_the_learner(tmp_path: Path) -> None:
    config = replace(tiny_config(iterations=60, validate_every=20), weight_norm=True)
    run = distill(config, DATA, out=tmp_path)
    names = {name for name, _ in run.network().named_parameters()}
    assert names == {"module.linear.weight", "module.linear.bias", "length.0"}
    row = evaluate(Distilled.load(tmp_path), DATA, n=4, baselines=()).distilled
    assert row.scores.mean > row.before + 10


def test_a_generator_of_ones_own() -> None:
    result = distill(
        tiny_config(source="generator", generator={"generator": "test_teaching:flat_generator"}, iterations=2), DATA
    )
    assert set(result.generator) == {"module.line.weight", "module.line.bias", "length.0"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("con", "did you mean 'conv'"),
        ("test_teaching:nothing", "nothing"),
        ("no_such_package:f", "The generator 'no_such_package:f' cannot be loaded"),
        ("test_teaching:broken_generator", r"gives \(6, 1, 8, 9\) for 6 images; the data needs \(6, 1, 8, 8\)"),
        ("test_teaching:infinite_generator", "not finite"),
        ("test_teaching:forgetful_generator", "generator's layer '0'.*at random"),
        ("test_teaching:noisy_generator", "draws random numbers"),
        ("test_teaching:counting_generator", "updates a buffer"),
        ("test_teaching:picky_generator", "failed when called with.*unexpected keyword"),
        ("test_teaching:empty_generator", "no parameter to learn"),
        ("test_teaching:no_generator", "returned int"),
    ],
)
def test_generators_that_do_not_fit(name: str, said: str) -> None:
    with pytest.raises(LimbeckError, match=said):
        distill(tiny_config(source="generator", generator={"generator": name}), DATA)


def test_a_generator_teaches() -> None:
    """From chance to well above it, on patterns under noise."""
    config = tiny_config(
        source="generator",
        inner=SGD,
        iterations=60,
        lr_images=0.01,
        inits=4,
        validate_every=20,
        generator={"batch": 12},
    )
    recorder = Recorder()
    distill(config, DATA, reporter=recorder)
    best = max(record["val_mean"] for record in recorder.records if "val_mean" in record)
    assert best > 70
