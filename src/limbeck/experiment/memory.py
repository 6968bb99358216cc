"""How much memory a learner's functions take, found out on a few images; and how much is free.

Shapes: N images.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad_and_value
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from limbeck.engine import Batch, Learner, RealLoss, State, trainable_parameters
from limbeck.engine.learner import Mode

IMAGES: Final = (2, 4)
"""Numbers of images that are tried: normalisation over the batch needs two."""

REAL_UP_TO: Final = 1e8
"""Forward operations up to which numbers are computed; beyond, only shapes are followed."""


class Line(NamedTuple):
    """Bytes as a linear function of the number of images."""

    fixed: float
    each: float

    def at(self, images: int) -> float:
        """Bytes at the peak for so many images, 0 for none."""
        return self.fixed + images * self.each if images else 0.0


class Peaks(NamedTuple):
    """What one network's functions take at their peaks, besides what they are given.

    ``pull`` is a step's pull-back, ``real`` the loss on real images with its gradient, ``predict`` the forward pass.
    """

    pull: Line
    real: Line
    predict: Line


@final
class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made while it is open and not yet gone; ``peak`` is the most so far."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._meet(value.untyped_storage())
        self.peak = max(self.peak, self._now)
        return result

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._now += storage.nbytes()
            weakref.finalize(storage, self._leave, key)

    def _leave(self, key: int) -> None:
        self._now -= self._sizes.pop(key, 0)


def peaks_of(learner: Learner, shape: tuple[int, int, int], mode: Mode, flops: float, *, pulled: bool = True) -> Peaks:
    """The peaks of one network of a learner on images (C, H, W), in a mode of differentiation.

    Args:
        learner: the learner.
        shape: of an image.
        mode: of the pull-back.
        flops: of the forward pass on one image, which decide how it is found out.
        pulled: whether the pull-back is wanted.
    """
    fake = IMAGES[-1] * flops > REAL_UP_TO
    real = _line(learner, shape, _real, fake)
    pull = _line(learner, shape, partial(_pull, mode=mode), fake) if pulled else Line(0, 0)
    if pull is None:  # derivatives that this learner has not: another mode takes its place
        pull = _line(learner, shape, partial(_pull, mode="reverse-over-reverse"), fake)
    none = Line(0, 0)
    return Peaks(pull or none, real or none, _line(learner, shape, _predict, fake) or none)


Probe = Callable[[Learner, State, Tensor, Tensor], object]


def _line(learner: Learner, shape: tuple[int, int, int], probe: Probe, fake: bool) -> Line | None:
    """Bytes of a function; None if it fails."""
    try:
        few, many = (_peak(learner, shape, probe, images, fake) for images in IMAGES)
    except Exception:
        return None if not fake else _line(learner, shape, probe, False)
    each = (many - few) / (IMAGES[1] - IMAGES[0])
    return Line(max(0.0, few - IMAGES[0] * each), each)


def _peak(learner: Learner, shape: tuple[int, int, int], probe: Probe, images: int, fake: bool) -> int:
    like = next(learner.module.parameters())
    context: AbstractContextManager[Any] = FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext()
    try:
        with context:
            zeros = partial(torch.zeros, dtype=torch.float32, device=like.device)
            state = learner.init({name: zeros(p.shape) for name, p in trainable_parameters(learner.module).items()})
            x_NCHW = zeros((images, *shape))
            y_N = torch.zeros(images, dtype=torch.long, device=like.device)
            with LiveBytes() as live:
                probe(learner, state, x_NCHW, y_N)
    finally:
        if fake:
            FakeTensorMode.cache_clear()  # a later compilation must not meet what was left there
    return int(live.peak)


def _pull(learner: Learner, state: State, x_NCHW: Tensor, y_N: Tensor, *, mode: Mode) -> object:
    with torch.no_grad():
        logits_NK = learner.predict(state.network, x_NCHW)
        labels_NK = torch.full_like(logits_NK, 1 / logits_NK.shape[1])
        h = {name: torch.zeros_like(labels_NK[0, 0]) for name in learner.optimizer.hyperparameters}
    return learner.step_vjp(mode)(state, Batch(x_NCHW, labels_NK, h), state)


def _real(learner: Learner, state: State, x_NCHW: Tensor, y_N: Tensor) -> object:
    def value(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return RealLoss().value(learner, params | buffers, x_NCHW, y_N)

    return grad_and_value(value, argnums=(0, 1))(state.params, state.buffers)


def _predict(learner: Learner, state: State, x_NCHW: Tensor, y_N: Tensor) -> object:
    with torch.no_grad():
        return learner.predict(state.network, x_NCHW)


def free_memory(device: str) -> int | None:
    """Bytes that are free on a device, None where that cannot be told."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
