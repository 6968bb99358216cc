"""What a configuration wants learned, built for a task."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from limbeck.data import TaskData
from limbeck.engine import (
    Generator,
    Limits,
    PixelConfig,
    Pixels,
    RealBatches,
    Source,
)
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.warm_start import warm_start
from limbeck.models import (
    Augmented,
    ConvEncoder,
    FixedInit,
    InitialWeights,
    PoolInit,
    RandomInit,
    SavedInit,
    WeightNorm,
    build,
    build_generator,
    check_pool,
    load_pool,
    pool_digest,
)


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


def initial_weights(config: Config, module: nn.Module) -> InitialWeights:
    """The distribution of initial weights that a configuration names."""
    init = config.init
    if init.init == "fixed":
        return FixedInit(module=module, distribution=init.distribution, seed=init.init_seed, gain=init.gain)
    if init.init == "random":
        return RandomInit(module=module, distribution=init.distribution, gain=init.gain)
    path = init.pool
    states, card = load_pool(path)
    if init.pool_sha256 not in (None, pool_digest(states)):
        raise LimbeckError(f"{path} holds other networks than the run began with; put that pool there again.")
    made_with = card.get("config", {}).get("learner", config.learner)
    if made_with != config.learner:
        raise LimbeckError(f"The pool {path} is of {made_with} networks, not of {config.learner}; use that learner.")
    check_pool(states, module)
    device = next(module.parameters()).device
    states = {name: value.to(device) for name, value in states.items()}
    if init.network is None:
        return PoolInit(states=states, held_out_count=init.held_out, validation_count=config.outer.validate_inits)
    size = len(next(iter(states.values())))
    if init.network >= size:
        raise LimbeckError(f"network is {init.network}; the pool {path} has networks 0 to {size - 1}.")
    return SavedInit(state={name: value[init.network].clone() for name, value in states.items()})


def network_for(config: Config, shape: tuple[int, int, int], classes: int, *, learner: str | None = None) -> nn.Module:
    """The network that a configuration trains, or another learner's in its place.

    Raises:
        LimbeckError: what is wrong with the learner, or it is code that only a file names (``Config.untrusted``).
    """
    module = build(learner or config.importable(config.learner), shape=shape, num_classes=classes)
    return with_augmentation(config, WeightNorm(module) if config.weight_norm else module)


def with_augmentation(config: Config, module: nn.Module) -> nn.Module:
    """The network with the augmentation in front that a configuration names, if it names one."""
    if isinstance(module, Augmented) or not (config.augment_shift or config.augment_flip):
        return module
    augmented = Augmented(module, shift=config.augment_shift, flip=config.augment_flip)
    augmented.training = module.training
    return augmented.to(next(module.parameters()).device)


def generator_for(config: Config, shape: tuple[int, int, int], classes: int, seed: int = 0) -> nn.Module:
    """The generator that a configuration names, with the weights that ``seed`` gives it."""
    chosen = config.generator
    module = build_generator(
        config.importable(chosen.generator),
        shape=shape,
        num_classes=classes,
        batch=chosen.batch,
        latent=chosen.latent,
        hidden=chosen.hidden,
        width=chosen.width,
        scale=chosen.output_scale,
        seed=seed,
    )
    return WeightNorm(module) if chosen.generator_weight_norm else module
