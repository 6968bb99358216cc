"""Initial weights: distributions drawn for many networks at once, and the families that training samples from.

Shapes: n networks, stacked in front of each parameter's own shape.
"""

from __future__ import annotations

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from limbeck.common.seeds import own_state
from limbeck.engine import KEYS, Noisy, carried_names
from limbeck.errors import LimbeckError, unknown
from limbeck.models.stateful import BatchNorm

_Draw = Callable[[tuple[int, ...], float, torch.Generator], Tensor]
"""(n, *shape) of a weight, gain, generator -> the n weights in float32."""


def distribution_names() -> tuple[str, ...]:
    """Names that `draw` knows; the first is the default."""
    return (*_DRAWS, _RESET)


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
    biases are 0; a normalisation's weight is 1 and its bias 0. Other parameters of fewer than two dimensions, such as a
    PReLU's slope, keep the module's value. "reset" calls the modules' own `reset_parameters` instead, n times.

    Args:
        distribution: "xavier" (normal) and "xavier-uniform" (Glorot & Bengio 2010), "kaiming" (normal, fan-in, for
            ReLU; He et al. 2015), "orthogonal" (Saxe et al. 2014), "normal" (standard deviation 0.02) or "reset".
        n: number of networks, at least 1.
        generator: on the CPU. Draws are made in float32 there and then converted, so that one seed gives the same
            weights in every precision and on every device.
        gain: positive factor on the weights; must be 1 for "reset".
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
    if distribution == _RESET:
        if gain != 1.0:
            raise LimbeckError(f"The distribution 'reset' has no gain; leave it at 1 instead of {gain}.")
        initial = _reset(module, n, generator)
    else:
        constants = _norm_parameters(module)
        initial = {
            name: _weights(name, parameter.detach(), n, constants, _DRAWS[distribution], gain, generator)
            for name, parameter in module.named_parameters()
        }
    weights = {
        name: initial[name].to(device=device or parameter.device, dtype=dtype or parameter.dtype)
        for name, parameter in module.named_parameters()
    }
    own = {name: module.get_buffer(name) for name in carried_names(module)}
    carried = {name: value.expand(n, *value.shape).clone() for name, value in own.items()}
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


def _weights(
    name: str,
    own: Tensor,
    n: int,
    constants: Mapping[str, float],
    distribution: _Draw,
    gain: float,
    generator: torch.Generator,
) -> Tensor:
    shape = (n, *own.shape)
    leaf = name.rpartition(".")[2]
    if name in constants:
        return torch.full(shape, constants[name], dtype=torch.float32)
    if own.ndim >= 2:
        return distribution(shape, gain, generator)
    if "bias" in leaf or leaf == "beta":
        return torch.zeros(shape, dtype=torch.float32)
    return own.expand(shape).clone()


def _norm_parameters(module: nn.Module) -> dict[str, float]:
    """Start values of the affine parameters of normalisations, whatever their dimensions (layer norm's have three)."""
    kinds = (BatchNorm, _NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    return {
        f"{path}.{leaf}".lstrip("."): 0.0 if leaf == "bias" else 1.0
        for path, layer in module.named_modules()
        if isinstance(layer, kinds)
        for leaf, _ in layer.named_parameters(recurse=False)
    }


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fan-in and fan-out of a weight (n, out, in, *kernel)."""
    receptive = math.prod(shape[3:])
    return shape[2] * receptive, shape[1] * receptive


def _xavier(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32).mul_(gain * math.sqrt(2.0 / sum(_fans(shape))))


def _xavier_uniform(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    bound = gain * math.sqrt(6.0 / sum(_fans(shape)))
    return torch.empty(shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)


def _kaiming(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32).mul_(gain * math.sqrt(2.0 / _fans(shape)[0]))


def _orthogonal(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    n, rows, columns = shape[0], shape[1], math.prod(shape[2:])
    gauss = torch.randn((n, rows, columns), generator=generator, dtype=torch.float32)
    q, r = torch.linalg.qr(gauss if rows >= columns else gauss.mT)
    # QR is unique, and q uniform among orthogonal matrices, only with r's diagonal made positive.
    q = q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q).unsqueeze(-2)
    weights: Tensor = q if rows >= columns else q.mT
    return weights.reshape(shape).mul(gain)


def _normal(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32).mul_(0.02 * gain)


def _reset(module: nn.Module, n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """n times the modules' own reset, on copies; it draws from the global state, which is therefore forked."""
    seeds = torch.randint(2**31, (n,), generator=generator).tolist()
    networks: list[dict[str, Tensor]] = []
    for seed in seeds:
        fresh = copy.deepcopy(module).to(device="cpu", dtype=torch.float32)
        with own_state(seed), torch.no_grad():
            for layer in reversed(list(fresh.modules())):  # children first, so that a parent has the last word
                reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
                if callable(reset):
                    reset()
        networks.append({name: parameter.detach() for name, parameter in fresh.named_parameters()})
    return {name: torch.stack([weights[name] for weights in networks]) for name in networks[0]}


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


_RESET: Final = "reset"
_DRAWS: Final[Mapping[str, _Draw]] = MappingProxyType(
    {
        "xavier": _xavier,
        "xavier-uniform": _xavier_uniform,
        "kaiming": _kaiming,
        "orthogonal": _orthogonal,
        "normal": _normal,
    }
)
