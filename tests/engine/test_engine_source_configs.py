"""The contract of every kind of source: what its config says of itself holds for what it builds."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import pytest
import torch
from engine_cases import CLASSES, generator
from torch import Tensor, nn

from limbeck.engine import (
    SOURCES,
    GeneratorConfig,
    InnerConfig,
    LabelKind,
    Limits,
    Materials,
    PixelConfig,
    RealConfig,
    Source,
    SourceConfig,
)
from limbeck.errors import LimbeckError
from limbeck.experiment.recorded import decode_member, encode
from limbeck.models import ConvEncoder, build_generator

SHAPE = (1, 4, 4)
SMALL = {"inner_steps": 3, "batch": 4, "hidden": 5, "width": 4, "latent": 3}

EXAMPLES: dict[str, list[SourceConfig]] = {
    "pixels": [
        PixelConfig(steps=2, epochs=3, ipc=2),
        PixelConfig(steps=2, epochs=1, labels="soft", label_confidence=0.7),
        PixelConfig(steps=1, epochs=2, start="real", max_change=0.1, norm="l2"),
        PixelConfig(steps=2, epochs=1, valid_pixels=True),
    ],
    "generator": [
        GeneratorConfig(**SMALL),
        GeneratorConfig(**SMALL, curriculum="none", classes="random", generator_weight_norm=False),
        GeneratorConfig(**SMALL, curriculum="all-shuffled", classes="learned", reconstruction=0.1),
        GeneratorConfig(**SMALL, curriculum="shuffled-batches", warm_start=2),
    ],
    "real": [RealConfig(inner_steps=3, batch=5)],
}
"""Configs of each kind, between them with every setting at another value than its default."""


def test_every_kind_has_examples_here() -> None:
    assert SOURCES.names == tuple(EXAMPLES), "a new kind of source needs examples of its configs in this file"
    for name, configs in EXAMPLES.items():
        assert all(type(config) is SOURCES[name] for config in configs)


def each() -> pytest.MarkDecorator:
    configs = [(name, index) for name, members in EXAMPLES.items() for index in range(len(members))]
    ids = [f"{name}-{index}" for name, index in configs]
    return pytest.mark.parametrize("config", [EXAMPLES[name][index] for name, index in configs], ids=ids)


def materials(seed: int = 0, inner: InnerConfig | None = None) -> Materials:
    """A task of random images, normalised by a mean of 1/2 and a deviation of 1/4."""

    def sample(rng: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        return torch.randn(count, *SHAPE, generator=rng), torch.randint(CLASSES, (count,), generator=rng)

    def make_generator(config: GeneratorConfig, seed: int) -> nn.Module:
        return build_generator(
            config.generator,
            shape=SHAPE,
            num_classes=CLASSES,
            batch=config.batch,
            latent=config.latent,
            hidden=config.hidden,
            width=config.width,
            scale=config.output_scale,
            seed=seed,
        )

    def make_encoder(latent: int, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ConvEncoder(SHAPE, latent)

    one = torch.ones(1, 1, 1)
    return Materials(
        classes=CLASSES,
        image_shape=SHAPE,
        device=torch.device("cpu"),
        inner=inner or InnerConfig(),
        rng=generator(seed),
        sample=sample,
        per_class=lambda rng, count: torch.rand(CLASSES, count, *SHAPE, generator=rng) * 4 - 2,
        kmeans=lambda rng, count: torch.rand(CLASSES, count, *SHAPE, generator=rng) * 4 - 2,
        valid_pixels=lambda: Limits(low_C11=-2 * one, high_C11=2 * one, unit_C11=4 * one),
        make_generator=make_generator,
        make_encoder=make_encoder,
    )


def built(config: SourceConfig, seed: int = 0) -> Source:
    """The source, prepared as it is before the outer loop."""
    own = materials(seed)
    source = config.build(own)
    config.prepare(source, own)
    return source


def contents(source: Source) -> list[Tensor]:
    """All that a source starts with: its parameters and its batches."""
    params = source.parameters()
    images, labels, hyperparameters, order = source.materialise(params)
    return [*params.values(), images, labels, *hyperparameters.values(), order]


@each()
def test_steps_and_sizes_are_what_the_config_says(config: SourceConfig) -> None:
    source = built(config)
    assert source.steps == config.inner_steps >= 1
    for step in range(source.steps):
        batch = source.batch(source.parameters(), step)
        assert batch.x_MCHW.shape == (config.batch_size(CLASSES), *SHAPE)
        assert batch.y_MK.shape == (config.batch_size(CLASSES), CLASSES)
        torch.testing.assert_close(batch.y_MK.sum(1), torch.ones(config.batch_size(CLASSES)))
        assert (batch.y_MK >= 0).all() and batch.x_MCHW.isfinite().all()
        assert set(batch.h) == {"lr"}


@each()
def test_plain_tensors_are_the_batches(config: SourceConfig) -> None:
    source = built(config)
    params = source.parameters()
    images, labels, hyperparameters, order = source.materialise(params)
    assert order.shape == hyperparameters["lr"].shape == (config.inner_steps,)
    for step, index in enumerate(order.tolist()):
        batch = source.batch(params, step)
        assert torch.equal(images[index], batch.x_MCHW) and torch.equal(labels[index], batch.y_MK)
        assert torch.equal(hyperparameters["lr"][step], batch.h["lr"])


@each()
def test_groups_are_those_of_its_parameters(config: SourceConfig) -> None:
    source = built(config)
    assert {source.group_of(name) for name in source.parameters()} == config.groups


@each()
def test_what_people_read_is_a_few_words(config: SourceConfig) -> None:
    for text in (config.description, config.images_noun):
        assert text.strip() == text and 0 < len(text) < 80 and "\n" not in text
    assert config.labels_kind in get_args(LabelKind)


@each()
def test_the_seed_decides_what_is_built(config: SourceConfig) -> None:
    state = torch.get_rng_state()
    one, again, other = (contents(built(config, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(left, right) for left, right in zip(one, again, strict=True))
    assert not all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    assert torch.equal(state, torch.get_rng_state())


@each()
def test_the_config_is_kept_in_json(config: SourceConfig) -> None:
    values: Any = json.loads(json.dumps(encode(config)))
    assert values["kind"] == SOURCES.name_of(type(config))
    assert decode_member("source", values, trust=False) == config
    with pytest.raises(LimbeckError, match=f"The source '{values['kind']}' has no option 'nothing'"):
        decode_member("source", values | {"nothing": 1}, trust=False)


@each()
def test_the_config_is_frozen_and_hashable(config: SourceConfig) -> None:
    field = dataclasses.fields(config)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, field, 1)
    assert hash(config) == hash(dataclasses.replace(config))  # type: ignore[type-var]


@each()
def test_only_code_is_named_as_code(config: SourceConfig) -> None:
    assert all(":" not in name for name in config.code)
    config.check_real_batch(64)


SIZES = ("inner_steps", "batch", "steps", "epochs", "ipc", "hidden", "width", "latent")


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, f.name) for name in SOURCES for f in dataclasses.fields(SOURCES[name]) if f.name in SIZES],  # type: ignore[arg-type]
)
def test_sizes_start_at_one(name: str, field: str) -> None:
    with pytest.raises(LimbeckError, match=f"{field} is 0; it must be at least 1"):
        SOURCES[name](**{field: 0})


@pytest.mark.parametrize("name", SOURCES)
def test_every_setting_is_tried_in_one_of_the_examples(name: str) -> None:
    default = SOURCES[name]()
    for field in dataclasses.fields(SOURCES[name]):  # type: ignore[arg-type]
        values = {getattr(config, field.name) for config in EXAMPLES[name]}
        if field.name in ("generator", "output_scale", "teacher_confidence"):  # code, and what only moves a start
            continue
        assert values - {getattr(default, field.name)}, f"no example of {name} sets {field.name}"


def test_a_generator_of_ones_own_is_named_as_code() -> None:
    assert GeneratorConfig(generator="mine:net").code == ("mine:net",)


def test_reconstruction_needs_two_images() -> None:
    config = GeneratorConfig(reconstruction=0.1)
    config.check_real_batch(2)
    with pytest.raises(LimbeckError, match="reconstruction needs at least 2 images a batch"):
        config.check_real_batch(1)


def test_a_warm_start_says_what_it_reached() -> None:
    config, own = GeneratorConfig(**SMALL, warm_start=2), materials()
    message = config.prepare(config.build(own), own)
    assert message is not None and message.startswith("warm start: 2 iterations on real images")
    assert GeneratorConfig(**SMALL).prepare(GeneratorConfig(**SMALL).build(own), own) is None
