"""A supernet: weights of all architectures of a space in common stores, from which each network's are cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from limbeck.common.seeds import generator
from limbeck.engine import Learner, Tensors
from limbeck.errors import LimbeckError
from limbeck.models import draw
from limbeck.nas.proxies.base import Scorer, Task
from limbeck.nas.proxies.common import on, shapes_of, validate_as_is
from limbeck.nas.spaces.base import Arch
from limbeck.nas.training import Measure


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Supernet(Scorer):
    """Scores an architecture by validation with the weights that it inherits.

    Attributes:
        stores: trained weights by the names in ``Space.shared``.
        images: validation images; None for all.
        measure: of the network on validation images.
    """

    stores: Tensors
    images: int | None = None
    measure: Measure = "accuracy"

    def score(self, task: Task, arch: Arch) -> float:
        child = Child.of(task, arch)
        # Stores that training never met get their initial weights for this score only, so that no score depends on
        # another.
        stores = on(task.device, self.stores | new_stores(self.stores, child, task))
        return validate_as_is(task, child.module, child.cut(stores), self.images, self.measure)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Child:
    """A network of the space, the store of each of its parameters, and the parameters' shapes."""

    module: nn.Module
    learner: Learner
    store_of: dict[str, str]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, task: Task, arch: Arch) -> Child:
        """The network of an architecture; raises LimbeckError where the space's stores do not match its parameters."""
        module = task.space.build(arch).to(task.device)
        store_of, shapes = task.space.shared(arch), shapes_of(module)
        if store_of.keys() != shapes.keys():
            wrong = ", ".join(sorted(store_of.keys() ^ shapes.keys()))
            raise LimbeckError(
                f"The space {task.space.name} must name a store for each parameter of {task.space.text(arch)} and for "
                f"nothing else; it does not for {wrong}."
            )
        return cls(module=module, learner=Learner.of(module), store_of=store_of, shapes=shapes)

    def cut(self, stores: Mapping[str, Tensor]) -> Tensors:
        """The network's parameters by name, each the leading part of its store."""
        return {
            name: stores[self.store_of[name]][tuple(slice(size) for size in shape)]
            for name, shape in self.shapes.items()
        }


@torch.no_grad()
def new_stores(stores: Mapping[str, Tensor], child: Child, task: Task) -> Tensors:
    """The stores that a network needs and that are missing or too small, with what they had in their leading part.

    New numbers are drawn with the mean and the spread of the initial weights of the parameter that asked for them,
    which are a constant for norms and biases. They depend on the store's name and size only, and on the seed.
    """
    new: Tensors = {}
    initial: Tensors = {}
    for name, shape in child.shapes.items():
        store = child.store_of[name]
        old = new.get(store, stores.get(store))
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
        noise = torch.randn(size, generator=generator(task.seed, f"store {store} {size}"), dtype=torch.float32).to(like)
        spread = like.std(correction=0) if like.numel() > 1 else like.new_zeros(())
        new[store] = like.mean() + spread * noise
        if old is not None:
            new[store][tuple(slice(length) for length in old.shape)] = old.to(like)
    return new
