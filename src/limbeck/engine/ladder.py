"""How a kernel is computed for several inits, and what takes its place where a module does not allow that.

The rungs of the ladder, from the top: all inits at once, transformed by ``torch.func``; the same without fused kernels
of attention and recurrent layers; one init after the other; that by recording operations, as training loops do. A
kernel's first result is compared with the last rung's, for one init, and the first rung that is right is kept.

Shapes: B inits.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.func import vmap

from limbeck.engine.compiling import Compiled
from limbeck.engine.forward import differentiable
from limbeck.engine.modes import first_line, perturb
from limbeck.errors import LimbeckError

RUNGS: Final = ("together", "unfused", "one by one", "recorded")
"""The ways to compute, the best first."""

_COSTS: Final = MappingProxyType(
    {
        "unfused": "attention and recurrent layers are computed without torch's fused kernels, which is slower",
        "one by one": "initial weights are computed one after the other, which is slower for small networks",
        "recorded": "initial weights are computed one after the other by autograd's double backward, which is slower "
        "and takes more memory",
    }
)
_TOLERANCE: Final = 1e-3
_COARSE: Final = 0.1
"""The tolerance where a kernel computes in bfloat16."""


@final
@dataclass(frozen=True, kw_only=True)
class Function:
    """A pure function of one init, in two forms, and which of its arguments have a leading dimension of B.

    ``recorded`` is the same function without transforms of ``torch.func``.
    """

    transformed: Callable[..., Any]
    recorded: Callable[..., Any]
    has_inits: tuple[bool, ...]
    coarse: bool = False


@final
class Ladder:
    """The rung on which a learner's kernels are computed; it only goes down.

    Args:
        module: what the kernels run.
        simple: whether the module's layers are known to be right on the first rung: then results are not compared.
    """

    def __init__(self, module: nn.Module, simple: bool) -> None:
        self._module = module
        self._simple = simple
        self._rung = 0

    @property
    def rung(self) -> str:
        """The name of the rung, of ``RUNGS``."""
        return RUNGS[self._rung]

    def descend(self, rung: str, reason: str) -> None:
        """Go down to a rung, if above it, with a warning that tells why and what it costs."""
        if RUNGS.index(rung) > self._rung:
            self._rung = RUNGS.index(rung)
            warnings.warn(f"With this learner {_COSTS[self.rung]}: {reason}.", stacklevel=4)

    def first_call(
        self, function: Function, *, batched: bool, compiled: bool, args: Sequence[Any], fall: bool = True
    ) -> tuple[Callable[..., Any], Any]:
        """The kernel on the first rung that is right for these arguments, and its result.

        Raises:
            LimbeckError: no rung computes it; says why.
            RuntimeError: torch's own, without ``fall``, where the rung that is in use does not compute it.
        """
        expected = None if self._simple else self._reference(function, args)
        tolerance = _COARSE if function.coarse else _TOLERANCE
        noise: float | None = None
        reason, failure = "", None
        for index in range(self._rung, len(RUNGS)):
            for kernel in self._kernels(function, RUNGS[index], batched=batched, compiled=compiled):
                try:
                    result = kernel(*args)
                except (LimbeckError, torch.OutOfMemoryError, MemoryError):
                    raise
                except Exception as error:  # whatever torch raises for what it cannot compute so
                    if "not enough memory" in str(error) or not fall:
                        raise
                    reason, failure = reason or first_line(error), failure or error
                    continue
                close = expected is None or _is_close(_at(0, result), expected, tolerance)
                if not close and noise is None:  # perhaps the function itself is no better determined than that
                    noise = self._noise(function, args, expected)
                    tolerance = min(max(tolerance, 10 * noise), _COARSE)
                    close = _is_close(_at(0, result), expected, tolerance)
                if close:
                    self.descend(RUNGS[index], reason)
                    return kernel, result
                reason = reason or "the result would be another than one at a time"
                if not fall:
                    raise RuntimeError(reason)
        raise LimbeckError(f"The learner cannot be trained here: {reason}.") from failure

    def _reference(self, function: Function, args: Sequence[Any]) -> Any:
        """The result for the first init by recorded operations; None where these fail."""
        try:
            return function.recorded(
                *(_at(0, arg) if flag else arg for arg, flag in zip(args, function.has_inits, strict=True))
            )
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:
            return None

    def _noise(self, function: Function, args: Sequence[Any], expected: Any) -> float:
        """By how much the reference changes, relatively, when its arguments do by a few rounding errors."""
        rng = torch.Generator().manual_seed(0)
        again = self._reference(function, args)
        if again is not None and _distance(again, expected) > 1e-5:
            raise LimbeckError(
                "The learner gives another result each time for the same weights and images, so a step cannot be "
                "computed again; whatever it draws or counts in its forward pass must go."
            )
        moved = self._reference(function, [_map(lambda value: perturb(value, rng), arg) for arg in args])
        return math.inf if moved is None else _distance(moved, expected)

    def _kernels(self, function: Function, rung: str, *, batched: bool, compiled: bool) -> Iterator[Callable[..., Any]]:
        """The kernel of a rung, compiled first where that is asked for; nothing where the rung does not differ."""
        if rung == "one by one" and not batched and self.rung != rung:
            return
        if rung == "recorded":
            yield _run_each(function.recorded, function.has_inits)
            return
        mapped = batched and rung != "one by one"
        plain = (_map_inits if mapped else _run_each if batched else _run_one)(function.transformed, function.has_inits)
        for kernel in (Compiled(plain), plain) if compiled and (mapped or not batched) else (plain,):
            yield kernel if rung == "together" else self._without_fused(kernel)

    def _without_fused(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with differentiable(self._module):
                return kernel(*args)

        return call


def _map_inits(function: Callable[..., Any], has_inits: tuple[bool, ...]) -> Callable[..., Any]:
    return vmap(function, in_dims=tuple(0 if flag else None for flag in has_inits))


def _run_one(function: Callable[..., Any], has_inits: tuple[bool, ...]) -> Callable[..., Any]:
    """The same for B = 1 without vmap, whose batching rules cost some operators (overlapping pools) dearly."""

    def call(*args: Any) -> Any:
        squeezed = [_map(lambda v: v[0], arg) if flag else arg for arg, flag in zip(args, has_inits, strict=True)]
        return _map(lambda v: v[None], function(*squeezed))

    return call


def _run_each(function: Callable[..., Any], has_inits: tuple[bool, ...]) -> Callable[..., Any]:
    """The same, one init after the other."""

    def call(*args: Any) -> Any:
        count = next(_leaves([arg for arg, flag in zip(args, has_inits, strict=True) if flag])).shape[0]
        rows = [
            function(*(_at(b, arg) if flag else arg for arg, flag in zip(args, has_inits, strict=True)))
            for b in range(count)
        ]
        return _stack(rows)

    return call


def _at(index: int, tree: Any) -> Any:
    return _map(operator.itemgetter(index), tree)


def _map(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {name: _map(function, value) for name, value in tree.items()}
    items = [_map(function, value) for value in tree]
    return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)


def _stack(trees: Sequence[Any]) -> Any:
    first = trees[0]
    if isinstance(first, Tensor):
        return torch.stack(list(trees))
    if isinstance(first, dict):
        return {name: _stack([tree[name] for tree in trees]) for name in first}
    items = [_stack([tree[i] for tree in trees]) for i in range(len(first))]
    return type(first)(*items) if hasattr(first, "_fields") else tuple(items)


def _leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    else:
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(value)


def _is_close(result: Any, expected: Any, tolerance: float) -> bool:
    return _distance(result, expected) <= tolerance


def _distance(result: Any, expected: Any) -> float:
    """The largest distance of a tensor to what is expected, relative to its norm, as far as numbers are finite; what is
    tiny beside the others counts by their size."""
    pairs = list(zip(_leaves(result), _leaves(expected), strict=True))
    scale = max((float(other.norm()) for _, other in pairs if bool(other.isfinite().all())), default=0.0)
    far = 0.0
    for one, other in pairs:
        if one.shape != other.shape:
            return math.inf
        if bool(other.isfinite().all()):
            distance = float((one - other).norm()) / max(float(other.norm()), 1e-3 * scale, 1e-30)
            far = max(far, distance if math.isfinite(distance) else math.inf)
    return far
