"""Initial weights: distributions drawn for many networks at once, and the families that training samples from.

Shapes: n networks, stacked in front of each parameter's own shape.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm

from limbeck.common.seeds import own_state
from limbeck.engine import KEYS, Noisy, carried_names, copy_module, trainable_parameters
from limbeck.errors import LimbeckError, unknown
from limbeck.models.distributions import DISTRIBUTIONS, Draw
from limbeck.models.origin import origins
from limbeck.models.stateful import BatchNorm

RESET: Final = "reset"
CONSTRUCTOR: Final = "constructor"
AUTO: Final = "auto"
_LAYERS: Final = (
    nn.Linear,
    _ConvNd,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
"""Layers of torch whose parameters of two and more dimensions are weights."""


def distribution_names() -> tuple[str, ...]:
    """Names that `draw` knows; the first is the default."""
    return (AUTO, *DISTRIBUTIONS, RESET, CONSTRUCTOR)


def draw(
    module: nn.Module,
    distribution: str,
    n: int,
    generator: torch.Generator,
    *,
    gain: float = 1.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> dict[str, Tensor]:
    """Initial weights of n networks like `module`: {parameter's name: (n, *shape)}, and of buffers that are carried.

    As in Wang et al. 2018 (arXiv 1811.10959, section 3.2), weights (two or more dimensions) follow the distribution and
    biases are 0; a normalisation's weight is 1 and its bias 0. So much for the layers of torch and of Limbeck. What
    else is a parameter, such as a PReLU's slope, a scale, a class token or a temperature, keeps the module's value, and
    what is frozen (``requires_grad=False``) or no floating-point number is not drawn at all.

    "constructor" constructs the module n times instead, as the user's code does, and "reset" calls the modules' own
    `reset_parameters`, n times. "auto", the default, is "constructor" for a module of the user's and "xavier" for ours.

    Args:
        distribution: "auto", "xavier" (normal) and "xavier-uniform" (Glorot & Bengio 2010), "kaiming" (normal, fan-in,
            for ReLU; He et al. 2015), "orthogonal" (Saxe et al. 2014), "normal" (standard deviation 0.02), "reset" or
            "constructor".
        n: number of networks, at least 1.
        generator: on the CPU. Draws are made in float32 there and then converted, so that one seed gives the same
            weights in every precision and on every device.
        gain: positive factor on the weights; must be 1 for "reset" and "constructor".
        dtype, device: of the result; each parameter's own by default.

    Raises:
        LimbeckError: unknown distribution, n < 1, a gain that is not positive, or a generator on another device.
    """
    if distribution not in distribution_names():
        raise unknown("initial-weight distribution", distribution, distribution_names())
    if n < 1:
        raise LimbeckError(f"The number of initial weights must be at least 1, not {n}.")
    if not (math.isfinite(gain) and gain > 0):
        raise LimbeckError(f"The gain of initial weights must be a positive number, not {gain}.")
    if generator.device.type != "cpu":
        raise LimbeckError(f"Initial weights are drawn by a generator on the CPU, not on '{generator.device}'.")
    if distribution == AUTO:
        distribution = CONSTRUCTOR if origins(module) else "xavier"
    if distribution in (RESET, CONSTRUCTOR):
        if gain != 1.0:
            raise LimbeckError(f"The distribution '{distribution}' has no gain; leave it at 1 instead of {gain}.")
        initial = (_reset if distribution == RESET or not origins(module) else _construct)(module, n, generator)
    else:
        kinds = _kinds_of_parameters(module)
        initial = {
            name: _weights(kinds.get(name, "own"), parameter.detach(), n, DISTRIBUTIONS[distribution], gain, generator)
            for name, parameter in trainable_parameters(module).items()
        }
    weights = {
        name: initial[name].to(device=device or parameter.device, dtype=dtype or parameter.dtype)
        for name, parameter in trainable_parameters(module).items()
    }
    own = {name: module.get_buffer(name) for name in carried_names(module)}
    carried = {name: initial.get(name, value.expand(n, *value.shape)).clone() for name, value in own.items()}
    weights |= {
        name: value.to(device=device or value.device, dtype=dtype or value.dtype) for name, value in carried.items()
    }
    return with_fresh_noise(module, weights, generator)


def with_fresh_noise(module: nn.Module, weights: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Weights (n, ...) with the keys of layers' noise drawn anew: a fixed init and a pool have none of their own."""
    fresh = {}
    for path, layer in module.named_modules():
        if isinstance(layer, Noisy):
            name = f"{path}.key".lstrip(".")
            keys = torch.randint(KEYS, (pool_size(weights),), generator=generator)
            fresh[name] = keys.to(weights.get(name, layer.key))
    return weights | fresh


@dataclass(frozen=True, kw_only=True, eq=False)
class InitialWeights(ABC):
    """Where initial weights come from, in training and, never the same ones, in evaluation.

    Except for a fixed one: there the single theta_0 is the task, so both see it.
    """

    @property
    @abstractmethod
    def resampled(self) -> bool:
        """Whether `sample` gives other weights each time."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights of n networks to train on: {name: (n, *shape)}. `generator` is on the CPU and moves on."""

    @abstractmethod
    def held_out(self, n: int, seed: int) -> dict[str, Tensor]:
        """Weights of n networks for evaluation, the same for the same seed: {name: (n, *shape)}."""

    def validation(self, n: int, seed: int) -> dict[str, Tensor]:
        """Weights of n networks for selection: neither trained on nor, where they are few, kept for evaluation."""
        return self.held_out(n, seed)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FixedInit(InitialWeights):
    """One theta_0 ("fixed" in Wang et al. 2018), drawn from `distribution` by `seed`, 0 <= seed < 2^63."""

    module: nn.Module
    distribution: str
    seed: int
    gain: float = 1.0
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None

    @property
    def resampled(self) -> bool:
        return False

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """theta_0, (1, *shape); the generator is not used. Raises `LimbeckError` unless n is 1."""
        return self._theta(n)

    def held_out(self, n: int, seed: int) -> dict[str, Tensor]:
        """theta_0, (1, *shape), whatever the seed. Raises `LimbeckError` unless n is 1."""
        return self._theta(n)

    def _theta(self, n: int) -> dict[str, Tensor]:
        if n != 1:
            raise LimbeckError(f"A fixed initialisation is a single one; ask for n = 1, not {n}, or use a random one.")
        generator = torch.Generator().manual_seed(_seed(self.seed))
        return draw(self.module, self.distribution, 1, generator, gain=self.gain, dtype=self.dtype, device=self.device)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RandomInit(InitialWeights):
    """Fresh draws from `distribution` each time ("random" in Wang et al. 2018)."""

    module: nn.Module
    distribution: str
    gain: float = 1.0
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None

    @property
    def resampled(self) -> bool:
        return True

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """n fresh draws."""
        return self._draw(n, generator)

    def held_out(self, n: int, seed: int) -> dict[str, Tensor]:
        """n draws of a stream of their own, which no training generator seeded below 2^31 can enter at its start."""
        return self._draw(n, _held_out_generator("random", seed))

    def _draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        return draw(self.module, self.distribution, n, generator, gain=self.gain, dtype=self.dtype, device=self.device)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PoolInit(InitialWeights):
    """Saved states {name: (N, *shape)} in three parts: to train on, then `validation_count` for selection, and the last
    `held_out_count` for evaluation.

    Raises `LimbeckError` when the states disagree on N, a part is empty, or nothing is left to train on.
    """

    states: Mapping[str, Tensor]
    held_out_count: int
    validation_count: int = 1

    def __post_init__(self) -> None:
        total = pool_size(self.states)
        if self.held_out_count < 1 or self.validation_count < 1:
            raise LimbeckError("A pool must hold out at least 1 network for evaluation and 1 for validation.")
        if self._training < 1:
            raise LimbeckError(
                f"The pool has {total} networks; {self.held_out_count} held out for evaluation and "
                f"{self.validation_count} for validation leave none to train on. Make a larger pool, or lower "
                "--held-out or --validate-inits."
            )

    @property
    def resampled(self) -> bool:
        return True

    @property
    def _training(self) -> int:
        return pool_size(self.states) - self.held_out_count - self.validation_count

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """n states of the training part, all different as long as there are enough."""
        if n < 1:
            raise LimbeckError(f"The number of initial weights must be at least 1, not {n}.")
        if n <= self._training:
            return self._take(torch.randperm(self._training, generator=generator)[:n])
        return self._take(torch.randint(self._training, (n,), generator=generator))

    def validation(self, n: int, seed: int) -> dict[str, Tensor]:
        """n different states of the part for selection. Raises `LimbeckError` when it has fewer."""
        return self._part("validation", self.validation_count, self._training, n, seed)

    def held_out(self, n: int, seed: int) -> dict[str, Tensor]:
        """n different states of the held-out part. Raises `LimbeckError` when it has fewer."""
        return self._part("pool", self.held_out_count, self._training + self.validation_count, n, seed)

    def _part(self, kind: str, size: int, first: int, n: int, seed: int) -> dict[str, Tensor]:
        if not 1 <= n <= size:
            what = "for validation" if kind == "validation" else "for evaluation"
            raise LimbeckError(f"The pool holds out {size} networks {what}, so ask for 1 to {size}, not {n}.")
        return self._take(torch.randperm(size, generator=_held_out_generator(kind, seed))[:n] + first)

    def _take(self, rows: Tensor) -> dict[str, Tensor]:
        return {name: state.detach()[rows.to(state.device)] for name, state in self.states.items()}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SavedInit(InitialWeights):
    """One saved state {name: shape}, such as a trained network: the single theta_0 of training and evaluation."""

    state: Mapping[str, Tensor]

    @property
    def resampled(self) -> bool:
        return False

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """theta_0, (1, *shape). Raises `LimbeckError` unless n is 1."""
        return self.held_out(n, 0)

    def held_out(self, n: int, seed: int) -> dict[str, Tensor]:
        """theta_0, (1, *shape), whatever the seed. Raises `LimbeckError` unless n is 1."""
        if n != 1:
            raise LimbeckError(f"A fixed initialisation is a single one; ask for n = 1, not {n}.")
        return {name: value.detach()[None].clone() for name, value in self.state.items()}


def pool_size(states: Mapping[str, Tensor]) -> int:
    """N of stacked states {name: (N, *shape)}. Raises `LimbeckError` when they are empty or disagree."""
    sizes = {state.shape[0] if state.ndim else 0 for state in states.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise LimbeckError(
            f"The states of a pool must all have the same first dimension, at least 1; these have {sorted(sizes)}."
        )
    return sizes.pop()


def _weights(kind: str, own: Tensor, n: int, distribution: Draw, gain: float, generator: torch.Generator) -> Tensor:
    shape = (n, *own.shape)
    if kind == "one":
        return torch.ones(shape, dtype=torch.float32)
    if kind == "zero":
        return torch.zeros(shape, dtype=torch.float32)
    return distribution(shape, gain, generator) if kind == "weight" else own.expand(shape).clone()


def _kinds_of_parameters(module: nn.Module) -> dict[str, str]:
    """``weight``, ``one`` or ``zero`` for each parameter of a layer that is known; others keep their own values."""
    kinds = {}
    for path, layer in module.named_modules():
        norm = isinstance(layer, (BatchNorm, _NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm))
        if not norm and not isinstance(layer, _LAYERS) and not type(layer).__module__.startswith("limbeck."):
            continue
        for leaf, parameter in layer.named_parameters(recurse=False):
            kind = "own"
            if norm:  # whatever its dimensions: layer norm's weight may have three
                kind = "zero" if leaf == "bias" else "one"
            elif parameter.ndim >= 2:
                kind = "weight"
            elif "bias" in leaf or leaf == "beta":
                kind = "zero"
            kinds[f"{path}.{leaf}".lstrip(".")] = kind
    return kinds


def _construct(module: nn.Module, n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The weights of n modules that are constructed anew; what was put around them keeps its values."""
    named = trainable_parameters(module) | {name: module.get_buffer(name) for name in carried_names(module)}
    own = {name: value.detach().expand(n, *value.shape).clone() for name, value in named.items()}
    for path, origin in origins(module).items():
        seeds = torch.randint(2**31, (n,), generator=generator).tolist()
        made = [origin.make(seed) for seed in seeds]
        networks = [dict(network.named_parameters()) | dict(network.named_buffers()) for network in made]
        for inner in networks[0]:
            name = f"{path}.{inner}".lstrip(".")
            if name in own:
                own[name] = torch.stack([network[inner].detach() for network in networks])
    return own


def _reset(module: nn.Module, n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The weights of n copies that reset themselves."""
    seeds = torch.randint(2**31, (n,), generator=generator).tolist()
    networks = []
    for seed in seeds:
        with own_state(seed):
            networks.append({name: p.detach() for name, p in trainable_parameters(reset(module)).items()})
    return {name: torch.stack([weights[name] for weights in networks]) for name in networks[0]}


def reset(module: nn.Module) -> nn.Module:
    """A copy on the CPU whose layers have drawn their weights anew, by `reset_parameters` where they have one.

    They draw from torch's global random state.
    """
    fresh = copy_module(module).to(device="cpu", dtype=torch.float32)
    frozen = {name: p.detach().clone() for name, p in fresh.named_parameters() if not p.requires_grad}
    with torch.no_grad():
        for layer in reversed(list(fresh.modules())):  # children first, so that a parent has the last word
            draw_anew = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
            if callable(draw_anew):
                with parametrize.cached():  # a weight that is composed is one tensor, drawn into and taken apart again
                    draw_anew()
                    for leaf in getattr(layer, "parametrizations", ()):
                        with contextlib.suppress(NotImplementedError, RuntimeError):  # it cannot be taken apart
                            setattr(layer, leaf, getattr(layer, leaf))
            for leaf in ("weight_orig", "weight_v"):  # what hooks compose a weight of
                if isinstance(getattr(layer, leaf, None), nn.Parameter):
                    layer.get_parameter(leaf).copy_(layer.weight)  # type: ignore[arg-type]
            for hook in layer._forward_pre_hooks.values():
                if isinstance(hook, WeightNorm) and hook.name == "weight":
                    norms = torch.norm_except_dim(layer.get_parameter("weight_v"), 2, hook.dim)
                    layer.get_parameter("weight_g").copy_(norms)
        for name, value in frozen.items():
            fresh.get_parameter(name).copy_(value)
    return fresh


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**63:
        raise LimbeckError(f"A seed must be a whole number from 0 to 2^63 - 1, not {seed}.")
    return seed


def _held_out_generator(kind: str, seed: int) -> torch.Generator:
    """A generator whose stream no small seed can start.

    The CPU generator uses only the low 32 bits of its seed, so a hash alone could meet a training seed; with bit 31 set
    it cannot meet one below 2^31.
    """
    digest = hashlib.sha256(f"held-out initial weights, {kind}, {_seed(seed)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big") | 1 << 31)
