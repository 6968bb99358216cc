"""What a configuration wants learned, built for a task."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from limbeck.common.seeds import own_state
from limbeck.data import TaskData, kmeans_per_class
from limbeck.engine import (
    GeneratorConfig,
    Limits,
    Materials,
    Source,
    SourceConfig,
    carried_names,
    trainable_parameters,
)
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.models import (
    Augmented,
    ConvEncoder,
    FixedInit,
    InitialWeights,
    LearnerLike,
    PoolInit,
    RandomInit,
    SavedInit,
    WeightNorm,
    build_generator,
    build_learner,
    check_pool,
    equal_starts,
    load_pool,
    pool_digest,
)


def gather_materials(config: Config, data: TaskData, rng: torch.Generator) -> Materials:
    """What the source of a configuration is built from; ``rng`` draws what it starts from."""
    device, shape, classes = data.train_x.device, data.image_shape, data.num_classes

    def make_encoder(latent: int, seed: int) -> nn.Module:
        with own_state(seed):
            return ConvEncoder(shape, latent).to(device)

    def make_generator(wanted: SourceConfig, seed: int) -> nn.Module:
        assert isinstance(wanted, GeneratorConfig)
        config.importable(wanted.generator)
        return generator_for(wanted, shape, classes, seed).to(device)

    return Materials(
        classes=classes,
        image_shape=shape,
        device=device,
        inner=config.inner,
        rng=rng,
        sample=data.sample,
        per_class=data.per_class,
        kmeans=lambda rng, n: kmeans_per_class(data, n, rng),
        valid_pixels=lambda: valid_pixels(data),
        make_generator=make_generator,
        make_encoder=make_encoder,
    )


def build_source(config: Config, data: TaskData, rng: torch.Generator) -> Source:
    """The source that a configuration names, for a task; ``rng`` draws what it starts from."""
    return config.source.build(gather_materials(config, data, rng))


def valid_pixels(data: TaskData) -> Limits:
    """The set of images in normalised space whose pixels are within the range that those of the data have."""
    preprocessing, device = data.preprocessing, data.train_x.device
    mean_C11, unit_C11 = (
        torch.tensor(values, device=device, dtype=torch.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    low, high = data.pixel_range
    return Limits(
        low_C11=(low - mean_C11) / unit_C11, high_C11=(high - mean_C11) / unit_C11, unit_C11=(high - low) / unit_C11
    )


def initial_weights(config: Config, module: nn.Module) -> InitialWeights:
    """The distribution of initial weights that a configuration names; of a network that was given, θ₀ is its own."""
    init = config.init
    if init.init == "fixed" and init.distribution == "auto" and isinstance(config.given.get(config.learner), nn.Module):
        own = {name: p.detach().clone() for name, p in trainable_parameters(module).items()}
        return SavedInit(state=own | {name: module.get_buffer(name).clone() for name in carried_names(module)})
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


def warn_of_equal_starts(config: Config, module: nn.Module) -> None:
    """Warn where initial weights that are drawn by a constructor do not differ; it is called for that."""
    init = config.init
    if init.init != "random" or init.distribution not in ("auto", "constructor"):
        return
    alike = equal_starts(module)
    if alike:
        warnings.warn(
            f"Initial weights of this learner do not differ in {', '.join(alike[:3])}"
            f"{' and more' if len(alike) > 3 else ''}: what makes it gives the same each time (trained weights, or "
            "a seed of its own).",
            stacklevel=3,
        )


def network_for(
    config: Config, shape: tuple[int, int, int], classes: int, *, learner: LearnerLike | None = None
) -> nn.Module:
    """The network that a configuration trains, or another learner's in its place.

    Raises:
        LimbeckError: what is wrong with the learner, or it is not at hand (see ``Config.learner_of``).
    """
    wanted = config.learner_of(config.learner) if learner is None else learner
    module = build_learner(wanted, shape=shape, num_classes=classes)
    return with_augmentation(config, WeightNorm(module) if config.weight_norm else module)


def with_augmentation(config: Config, module: nn.Module) -> nn.Module:
    """The network with the augmentation in front that a configuration names, if it names one."""
    if isinstance(module, Augmented) or not (config.augment_shift or config.augment_flip):
        return module
    augmented = Augmented(module, shift=config.augment_shift, flip=config.augment_flip)
    augmented.training = module.training
    return augmented.to(next(module.parameters()).device)


def generator_for(config: GeneratorConfig, shape: tuple[int, int, int], classes: int, seed: int = 0) -> nn.Module:
    """The network from noise and labels to images that a config names, with the weights that ``seed`` gives it."""
    module = build_generator(
        config.generator,
        shape=shape,
        num_classes=classes,
        batch=config.batch,
        latent=config.latent,
        hidden=config.hidden,
        width=config.width,
        scale=config.output_scale,
        seed=seed,
    )
    return WeightNorm(module) if config.generator_weight_norm else module
