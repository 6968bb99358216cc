"""Weight sharing: one supernet is trained, and every architecture is scored with the weights that it inherits.

Pham et al. 2018 (ENAS, arXiv 1802.03268) share the weights of all architectures; sampling them uniformly and scoring
them without training is the single-path one-shot method of Guo et al. 2020 (arXiv 1904.00420); narrow networks take
the leading channels of wide ones' as in Cai et al. 2020 (Once-for-All, arXiv 1908.09791).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.common.seeds import generator
from limbeck.engine import Batch, Learner, Tensors
from limbeck.errors import LimbeckError
from limbeck.models import draw
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.common import (
    descend,
    fit,
    numpy_generator,
    on,
    require_one_network,
    require_positive,
    shapes_of,
    validated_as_is,
)
from limbeck.nas.spaces.base import Arch
from limbeck.nas.training import Measure, Schedule


@final
@dataclass(frozen=True, kw_only=True)
class WeightSharing(Proxy):
    """Score by validation accuracy with weights inherited from a supernet.

    The supernet is one tensor for each name in ``Space.shared``. A step draws architectures uniformly and follows the
    mean of their gradients, each on the same real batch.

    Args:
        schedule: of the supernet's training by Adam; a seconds budget makes it depend on the machine.
        paths: architectures a step, at least 1.
        clip: largest norm of a step's gradient.
        images: validation images; all by default.
        measure: of the network on validation images.
        label: the proxy's name; ``sharing`` by default.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(steps=2000))
    paths: int = 1
    clip: float = 5.0
    images: int | None = None
    measure: Measure = "accuracy"
    label: str = "sharing"

    def __post_init__(self) -> None:
        require_one_network(self.schedule)
        require_positive(self, "paths", "clip", "images")

    @property
    def name(self) -> str:
        return self.label

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        child_of = functools.lru_cache(maxsize=512)(functools.partial(_child, task))
        first = child_of(task.space.sample(numpy_generator(task.seed, "first architecture of a supernet")))
        stores = {name: nn.Parameter(value) for name, value in _grown({}, first, task).items()}
        groups = [{"params": [store]} for store in stores.values()]
        optimizer = torch.optim.Adam(groups, weight_decay=self.schedule.weight_decay)

        def step(architectures: np.random.Generator, batch: Batch, rate: float) -> float:
            children = [child_of(task.space.sample(architectures)) for _ in range(self.paths)]
            for child in children:
                for name, value in _grown(stores, child, task).items():
                    if name in stores:
                        _forget(optimizer, stores[name])
                    stores[name] = nn.Parameter(value)
                    optimizer.add_param_group({"params": [stores[name]]})
            optimizer.zero_grad()
            total = 0.0
            for child in children:
                state = child.learner.init(_cut(stores, child))
                loss, _ = child.learner.inner_loss(state.params, state.buffers, batch.x_MCHW, batch.y_MK)
                (loss / self.paths).backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach()) / self.paths
            descend(optimizer, rate, self.clip)
            return total

        fit(task, self.schedule, "sharing", step, tell)
        return _Supernet(config=self, stores={name: value.detach().cpu() for name, value in stores.items()})


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Supernet(Scorer):
    config: WeightSharing
    stores: Tensors

    def score(self, task: Task, arch: Arch) -> float:
        child = _child(task, arch)
        # What training never met has its initial weights; they are not kept, so that no score depends on another.
        stores = on(task.device, self.stores | _grown(self.stores, child, task))
        return validated_as_is(task, child.module, _cut(stores, child), self.config.images, self.config.measure)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Child:
    """A network, and where each of its parameters comes from."""

    module: nn.Module
    learner: Learner
    store_of: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def _child(task: Task, arch: Arch) -> _Child:
    module = task.space.build(arch).to(task.device)
    store_of, shapes = task.space.shared(arch), shapes_of(module)
    if store_of.keys() != shapes.keys():
        wrong = ", ".join(sorted(store_of.keys() ^ shapes.keys()))
        raise LimbeckError(
            f"The space {task.space.name} must name a store for each parameter of {task.space.text(arch)} and for "
            f"nothing else; it does not for {wrong}."
        )
    return _Child(module=module, learner=Learner.of(module), store_of=store_of, shapes=shapes)


def _cut(stores: Mapping[str, Tensor], child: _Child) -> Tensors:
    """The child's parameters: the leading part of each store."""
    return {
        name: stores[child.store_of[name]][tuple(slice(size) for size in shape)] for name, shape in child.shapes.items()
    }


@torch.no_grad()
def _grown(stores: Mapping[str, Tensor], child: _Child, task: Task) -> Tensors:
    """The stores that the child needs new or larger, with what they had in their leading part.

    What is new is drawn with the mean and the spread of the initial weights of the parameter that asked for it, which
    are a constant for norms and biases. It depends on the store's name and size only, and on the seed.
    """
    grown: Tensors = {}
    initial: Tensors = {}
    for name, shape in child.shapes.items():
        store = child.store_of[name]
        old = grown.get(store, stores.get(store))
        if old is not None and old.ndim != len(shape):
            raise LimbeckError(
                f"The space {task.space.name} cuts '{name}' of shape {shape} from the store '{store}', which has "
                f"{old.ndim} dimensions; give it a store of its own."
            )
        size = shape if old is None else tuple(map(max, shape, old.shape))
        if old is not None and size == tuple(old.shape):
            continue
        if not initial:
            initial = draw(child.module, "kaiming", 1, generator(task.seed, "supernet"))
        like = initial[name]
        noise = torch.randn(size, generator=generator(task.seed, f"store {store} {size}")).to(like)
        spread = like.std(correction=0) if like.numel() > 1 else like.new_zeros(())
        grown[store] = like.mean() + spread * noise
        if old is not None:
            grown[store][tuple(slice(length) for length in old.shape)] = old.to(like)
    return grown


def _forget(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> None:
    """Let the optimiser go on without a parameter."""
    optimizer.state.pop(parameter, None)
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"][0] is not parameter]
