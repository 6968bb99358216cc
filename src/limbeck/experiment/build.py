"""What a configuration wants learned, built for a task."""

from __future__ import annotations

import dataclasses

import torch

from limbeck.artefact.distilled import generator_for
from limbeck.data import TaskData
from limbeck.engine import Generator, Limits, PixelConfig, Pixels, RealBatches, Source
from limbeck.experiment.config import Config
from limbeck.experiment.warm_start import warm_start
from limbeck.models import ConvEncoder


def make_source(config: Config, data: TaskData, rng: torch.Generator) -> Source:
    """The source that ``config.source`` names; ``rng`` draws what it starts from."""
    if config.source == "pixels":
        return _pixels(config, data, rng)
    if config.source == "generator":
        return _generator(config, data, rng)
    steps, batch = config.generator.inner_steps, config.generator.batch
    return RealBatches(data.sample, steps, batch, data.num_classes, rng, config.inner)


def prepare(source: Source, data: TaskData, rng: torch.Generator) -> str | None:
    """Let a source that starts from real images learn to, before anything else; what to tell a person, or None."""
    if not (isinstance(source, Generator) and source.config.warm_start):
        return None
    iterations = source.config.warm_start
    error = warm_start(source, data, iterations, rng)
    return f"warm start: {iterations} iterations on real images, reproduced to a mean squared error of {error:.3f}"


def _pixels(config: Config, data: TaskData, rng: torch.Generator) -> Pixels:
    chosen, classes = config.pixels, data.num_classes
    if chosen.start == "noise":
        shape = (chosen.steps, chosen.ipc * classes, *data.image_shape)
        start = torch.randn(shape, generator=rng).to(data.train_x.device)
    else:
        start = real_images(data, chosen, rng)
    return Pixels(chosen, classes, start, config.inner, _limits(config, data, start))


def real_images(data: TaskData, config: PixelConfig, rng: torch.Generator) -> torch.Tensor:
    """Normalised training images to start from, as many of each class in each batch: (S, M, C, H, W)."""
    drawn = data.per_class(rng, config.steps * config.ipc)  # (K, S·ipc, C, H, W)
    split = drawn.reshape(data.num_classes, config.steps, config.ipc, *data.image_shape)
    return split.transpose(0, 1).flatten(1, 2)


def _limits(config: Config, data: TaskData, start_SMCHW: torch.Tensor) -> Limits | None:
    """What the learned images may be, in normalised space."""
    chosen, device = config.pixels, data.train_x.device
    if chosen.max_change is None and not chosen.valid_pixels:
        return None
    preprocessing = data.preprocessing
    mean_C11, unit_C11 = (
        torch.tensor(values, device=device)[:, None, None] for values in (preprocessing.mean, preprocessing.std)
    )
    low, high = data.pixel_range
    free = Limits(
        low_C11=(low - mean_C11) / unit_C11, high_C11=(high - mean_C11) / unit_C11, unit_C11=(high - low) / unit_C11
    )
    if chosen.max_change is None:
        return free
    return dataclasses.replace(free, centre_SMCHW=start_SMCHW.clone(), epsilon=chosen.max_change, norm=chosen.norm)


def _generator(config: Config, data: TaskData, rng: torch.Generator) -> Generator:
    seed = int(torch.randint(2**31, (1,), generator=rng))
    chosen, device = config.generator, data.train_x.device
    module = generator_for(config, data.image_shape, data.num_classes, seed).to(device)
    weights = dict(module.named_parameters())
    encoder = None
    if chosen.warm_start or chosen.reconstruction:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            encoder = ConvEncoder(data.image_shape, chosen.latent).to(device)
    return Generator(chosen, module, weights, data.num_classes, rng, config.inner, encoder)
