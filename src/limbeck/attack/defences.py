"""The defender's view of a batch: how it differs from honest ones, which cheap defences stop it, and what they cost.

Every threshold is taken from honest batches, real images with their own labels, as large as the suspicious one and at
its step size: a defender has nothing else. Shapes: B networks, M images a batch, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import one_hot

from limbeck.common.files import finite
from limbeck.data import TaskData
from limbeck.engine import Batch, Kernels, Learner, State, Tensors
from limbeck.evaluation.train_and_score import chunks, concatenate, confusion

QUANTILE = 0.95
"""Of honest norms: what lies above is cut or looked at."""

HONEST_BATCHES = 20
"""From which the thresholds are taken."""

FEW = 10
"""Networks that honest batches are tried on."""

COST_BATCHES = 5
"""Further honest batches, on which the cost of a defence is measured."""

JUDGED_EXAMPLES = 2000
CHECK_EXAMPLES = 500
TOLERANCE = 2.0
"""The held-out check refuses a step after which a class loses more than so many percentage points of so many images."""

NOISE = 1.0
"""Noise multiplier of differential privacy, in units of the clipping bound over the batch's size."""


@final
@dataclass(frozen=True, kw_only=True)
class Defended:
    """What a defence does to an attack and to honest batches, means over networks.

    Attributes:
        row: the defence and its setting.
        rate: part of the source class that is taken for the target after the defended step, in percent.
        rate_std: its sample standard deviation over networks.
        accepted: part of the networks that took the attack's step, in percent.
        honest_accuracy: validation accuracy after a defended step on an honest batch, in percent.
        honest_accepted: part of the honest steps that were taken, in percent.
        honest_kept: mean length of the defended honest update over that of the undefended one; noise makes it long.
    """

    row: str
    rate: float
    rate_std: float
    accepted: float
    honest_accuracy: float
    honest_accepted: float
    honest_kept: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, None for what is not finite."""
        return finite(vars(self))


@final
@dataclass(frozen=True, kw_only=True)
class Difference:
    """How a batch differs from honest ones; distances are Euclidean in pixels whose range is 1.

    Attributes:
        gradient_norm, honest_gradient_norm: means over networks, and over honest batches.
        above: part of the networks whose gradient is longer than 95 % of the honest ones, in percent.
        loss, honest_loss: likewise, cross-entropy in nats.
        neighbour, honest_neighbour: median distance of an image to the nearest training image; of real ones that are
            not in training.
        wrong_neighbours, honest_wrong_neighbours: part of the images whose nearest training image has another label.
        out_of_range: part of the pixels that no real image can have, in percent.
    """

    gradient_norm: float
    honest_gradient_norm: float
    above: float
    loss: float
    honest_loss: float
    neighbour: float
    honest_neighbour: float
    wrong_neighbours: float
    honest_wrong_neighbours: float
    out_of_range: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, None for what is not finite."""
        return finite(vars(self))


class Defence(ABC):
    """What a trainer does about a step before it counts."""

    @property
    @abstractmethod
    def row(self) -> str:
        """Its name and setting."""

    def gradients(self, learner: Learner, states: State, batch: Batch, rng: torch.Generator) -> Tensors:
        """The gradients (B, ...) that the optimiser gets."""
        return _gradients(learner, states, batch)

    def accepted(self, before: State, after: State) -> State:
        """The states that the networks go on with."""
        return after


@final
class Undefended(Defence):
    """Takes every step."""

    @property
    def row(self) -> str:
        return "none"


@final
class GradientClipping(Defence):
    """Scales gradients down to a norm (Pascanu et al. 2013, algorithm 1)."""

    def __init__(self, bound: float) -> None:
        self.bound = bound

    @property
    def row(self) -> str:
        return f"gradient clipped to norm {self.bound:.3g}"

    def gradients(self, learner: Learner, states: State, batch: Batch, rng: torch.Generator) -> Tensors:
        grads = _gradients(learner, states, batch)
        return _scaled(grads, (self.bound / _norm_B(grads).clamp_min(1e-30)).clamp_max(1.0))


@final
class UpdateBound(Defence):
    """Scales the whole update down to a norm, whatever the step size (norm clipping of federated learning)."""

    def __init__(self, bound: float) -> None:
        self.bound = bound

    @property
    def row(self) -> str:
        return f"update bounded to norm {self.bound:.3g}"

    def accepted(self, before: State, after: State) -> State:
        update = {name: value - before.params[name] for name, value in after.params.items()}
        update = _scaled(update, (self.bound / _norm_B(update).clamp_min(1e-30)).clamp_max(1.0))
        return after._replace(params={name: before.params[name] + value for name, value in update.items()})


@final
class HeldOutCheck(Defence):
    """Refuses a step after which any class does worse on a few held-out examples."""

    def __init__(self, kernels: Kernels, x_NCHW: Tensor, y_N: Tensor, classes: int, tolerance: float) -> None:
        self._kernels, self._x_NCHW, self._y_N, self._classes = kernels, x_NCHW, y_N, classes
        self.tolerance = tolerance

    @property
    def row(self) -> str:
        return f"held-out check of {len(self._y_N)}, {self.tolerance:g} points"

    def accepted(self, before: State, after: State) -> State:
        lost_BK = self._recall(before) - self._recall(after)
        fine_B = (lost_BK <= self.tolerance).all(1).to(self._y_N.device)
        pairs = zip(before, after, strict=True)
        return State(*({name: _where(fine_B, new[name], old[name]) for name in new} for old, new in pairs))

    def _recall(self, states: State) -> Tensor:
        counts_BKK = confusion(self._kernels, states.network, [(self._x_NCHW, self._y_N)], self._classes)
        return 100 * counts_BKK.diagonal(dim1=1, dim2=2) / counts_BKK.sum(2).clamp_min(1)


@final
class Noise(Defence):
    """Clips each example's gradient and adds noise to their mean (differentially private SGD, Abadi et al. 2016)."""

    def __init__(self, bound: float, multiplier: float) -> None:
        self.bound, self.multiplier = bound, multiplier

    @property
    def row(self) -> str:
        return f"examples clipped to {self.bound:.3g}, noise {self.multiplier:g}"

    def gradients(self, learner: Learner, states: State, batch: Batch, rng: torch.Generator) -> Tensors:
        def of_example(params: Tensors, buffers: Tensors, x_CHW: Tensor, y_K: Tensor) -> Tensors:
            grads: Tensors = grad(lambda p: learner.inner_loss(p, buffers, x_CHW[None], y_K[None])[0])(params)
            length = torch.stack([value.square().sum() for value in grads.values()]).sum().sqrt()
            scale = (self.bound / length.clamp_min(1e-30)).clamp_max(1.0)
            return {name: scale * value for name, value in grads.items()}

        def of_batch(params: Tensors, buffers: Tensors) -> Tensors:
            each = vmap(of_example, in_dims=(None, None, 0, 0))(params, buffers, batch.x_MCHW, batch.y_MK)
            return {name: value.mean(0) for name, value in each.items()}

        spread = self.multiplier * self.bound / len(batch.x_MCHW)
        return {
            name: value + spread * torch.randn(value.shape, generator=rng).to(value)
            for name, value in vmap(of_batch)(states.params, states.buffers).items()
        }


@torch.no_grad()
def try_defences(
    kernels: Kernels,
    networks: Tensors,
    batches: Sequence[Batch],
    data: TaskData,
    rng: torch.Generator,
    rate_of: Callable[[Tensors], Tensor],
) -> Iterator[Defended]:
    """Let networks (B, ...) take the steps behind each defence, and steps on honest batches.

    Args:
        kernels: of the networks' learner.
        networks: that were trained.
        batches: the attack, a step each.
        data: the real task.
        rng: draws honest batches and noise.
        rate_of: networks to the part of the source class that is taken for the target, (B,) in percent.
    """
    learner, chunk = kernels.learner, kernels.execution.chunk
    honest = [_honest(data, batches, rng) for _ in range(HONEST_BATCHES)]
    others = [_honest(data, batches, rng) for _ in range(COST_BATCHES)]
    some = next(chunks(networks, FEW))
    norms = torch.stack([_norms_B(learner, some, steps[0], chunk) for steps in honest])
    plain = Undefended()
    moves = torch.stack(
        [_moved_B(learner, some, _stepped(learner, plain, some, steps[:1], rng, chunk)) for steps in honest]
    )
    bound, move = float(norms.nanquantile(QUANTILE)), float(moves.nanquantile(QUANTILE))
    # The check decides on images of its own: at most half of those that are held out, the others are for judging it.
    size = min(CHECK_EXAMPLES, len(data.val_y) // 2)
    x_NCHW, y_N = _held_out(data, size + JUDGED_EXAMPLES, rng)
    check = HeldOutCheck(kernels, x_NCHW[:size], y_N[:size], data.num_classes, TOLERANCE)
    judged = x_NCHW[size:], y_N[size:]
    full = torch.stack([_moved_B(learner, some, _stepped(learner, plain, some, each, rng, chunk)) for each in others])
    for defence in (plain, GradientClipping(bound), UpdateBound(move), check, Noise(bound, NOISE)):
        after = _stepped(learner, defence, networks, batches, rng, chunk)
        rate_B = rate_of(after)
        accuracy, taken, moved = [], [], []
        for steps in others:
            defended = _stepped(learner, defence, some, steps, rng, chunk)
            counts_BKK = confusion(kernels, defended, [judged], data.num_classes)
            accuracy.append(100 * counts_BKK.diagonal(dim1=1, dim2=2).sum(1) / counts_BKK.sum((1, 2)))
            moved_B = _moved_B(learner, some, defended)
            taken.append(100.0 * (moved_B != 0).float())  # also where it is not a number
            moved.append(moved_B)
        yield Defended(
            row=defence.row,
            rate=float(rate_B.mean()),
            rate_std=float(rate_B.std()) if len(rate_B) > 1 else 0.0,
            accepted=float(100.0 * (_moved_B(learner, networks, after) != 0).float().mean()),
            honest_accuracy=float(torch.stack(accuracy).mean()),
            honest_accepted=float(torch.stack(taken).mean()),
            honest_kept=float(torch.stack(moved).mean() / full.mean().clamp_min(1e-30)),
        )


@torch.no_grad()
def difference(
    kernels: Kernels, networks: Tensors, batches: Sequence[Batch], data: TaskData, rng: torch.Generator
) -> Difference:
    """Compare a batch with honest ones, on networks (B, ...)."""
    learner, chunk = kernels.learner, kernels.execution.chunk
    some = next(chunks(networks, FEW))
    first = batches[0]
    honest = [_honest(data, batches, rng)[0] for _ in range(HONEST_BATCHES)]
    honest_norms = torch.stack([_norms_B(learner, some, batch, chunk) for batch in honest])
    norm_B = _norms_B(learner, networks, first, chunk)
    x_MCHW, labels_M = first.x_MCHW, first.y_MK.argmax(1)
    real_NCHW, real_N = _held_out(data, 200, rng)
    near_M, kind_M = _neighbours(x_MCHW, data)
    near_N, kind_N = _neighbours(real_NCHW, data)
    pixels = data.preprocessing.invert(x_MCHW)
    low, high = data.pixel_range
    outside = (pixels < low - 1e-4) | (pixels > high + 1e-4)
    return Difference(
        gradient_norm=float(norm_B.mean()),
        honest_gradient_norm=float(honest_norms.mean()),
        above=float(100.0 * (~(norm_B <= honest_norms.nanquantile(QUANTILE))).float().mean()),
        loss=float(_losses_B(learner, networks, first, chunk).mean()),
        honest_loss=float(torch.stack([_losses_B(learner, some, batch, chunk) for batch in honest]).mean()),
        neighbour=float(near_M.median()),
        honest_neighbour=float(near_N.median()),
        wrong_neighbours=float(100.0 * (kind_M != labels_M).float().mean()),
        honest_wrong_neighbours=float(100.0 * (kind_N != real_N).float().mean()),
        out_of_range=float(100.0 * outside.float().mean()),
    )


def _honest(data: TaskData, batches: Sequence[Batch], rng: torch.Generator) -> list[Batch]:
    """Real images with their labels, as many and at the same hyper-parameters."""
    honest = []
    for batch in batches:
        x_MCHW, y_M = data.sample(rng, len(batch.x_MCHW))
        honest.append(Batch(x_MCHW, one_hot(y_M, data.num_classes).to(x_MCHW.dtype), batch.h))
    return honest


def _held_out(data: TaskData, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some examples that no network was trained on: normalised images and labels."""
    index_N = torch.randperm(len(data.val_y), generator=rng)[:n].to(data.val_y.device)
    return data.preprocessing.apply(data.val_x[index_N]), data.val_y[index_N]


def _stepped(
    learner: Learner, defence: Defence, networks: Tensors, batches: Sequence[Batch], rng: torch.Generator, chunk: int
) -> Tensors:
    """Networks (B, ...) after a step on each batch behind a defence."""
    done = []
    for part in chunks(networks, chunk):
        states: State = vmap(learner.init)(part)
        for batch in batches:
            grads = defence.gradients(learner, states, batch, rng)
            after: State = vmap(learner.optimizer.update, in_dims=(0, 0, None))(states, grads, batch.h)
            states = defence.accepted(states, after._replace(buffers=_buffers(learner, states, batch)))
        done.append(states.network)
    return concatenate(done)


def _gradients(learner: Learner, states: State, batch: Batch) -> Tensors:
    """Gradients (B, ...) of the loss on a batch."""

    def of_network(params: Tensors, buffers: Tensors) -> Tensors:
        grads: Tensors = grad(lambda p: learner.inner_loss(p, buffers, batch.x_MCHW, batch.y_MK)[0])(params)
        return grads

    result: Tensors = vmap(of_network)(states.params, states.buffers)
    return result


def _buffers(learner: Learner, states: State, batch: Batch) -> Tensors:
    """What layers carry on after a step on a batch."""
    if not states.buffers:
        return {}
    result: Tensors = vmap(lambda p, b: learner.inner_loss(p, b, batch.x_MCHW, batch.y_MK)[1])(
        states.params, states.buffers
    )
    return result


def _norms_B(learner: Learner, networks: Tensors, batch: Batch, chunk: int) -> Tensor:
    """Length (B,) of the gradient of each network."""
    parts = chunks(networks, chunk)
    return torch.cat([_norm_B(_gradients(learner, vmap(learner.init)(part), batch)) for part in parts])


def _losses_B(learner: Learner, networks: Tensors, batch: Batch, chunk: int) -> Tensor:
    """Loss (B,) of each network on a batch, in training."""

    def of_network(weights: Tensors) -> Tensor:
        state = learner.init(weights)
        return learner.inner_loss(state.params, state.buffers, batch.x_MCHW, batch.y_MK)[0]

    return torch.cat([vmap(of_network)(part) for part in chunks(networks, chunk)])


def _neighbours(x_NCHW: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
    """Distance to the nearest training image in pixels, (N,), and that image's label, (N,)."""
    query_ND = data.preprocessing.invert(x_NCHW).flatten(1)
    best_N = torch.full((len(query_ND),), float("inf"), device=query_ND.device)
    kind_N = torch.zeros(len(query_ND), dtype=torch.long, device=query_ND.device)
    for known_NCHW, known_y_N in data.split_batches("train", 5000):
        distance_NN = torch.cdist(query_ND, data.preprocessing.invert(known_NCHW).flatten(1))
        nearest_N, index_N = distance_NN.min(1)
        kind_N = torch.where(nearest_N < best_N, known_y_N[index_N], kind_N)
        best_N = torch.minimum(nearest_N, best_N)
    return best_N, kind_N


def _norm_B(tensors: Tensors) -> Tensor:
    return torch.stack([value.flatten(1).square().sum(1) for value in tensors.values()]).sum(0).sqrt()


def _moved_B(learner: Learner, before: Tensors, after: Tensors) -> Tensor:
    """How far the parameters went."""
    return _norm_B({name: value - before[name] for name, value in after.items() if name not in learner.carried})


def _scaled(tensors: Tensors, scale_B: Tensor) -> Tensors:
    return {name: value * _like(scale_B, value) for name, value in tensors.items()}


def _where(chosen_B: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.where(_like(chosen_B, left), left, right)


def _like(values_B: Tensor, other: Tensor) -> Tensor:
    return values_B.view(-1, *[1] * (other.dim() - 1))
