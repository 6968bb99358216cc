"""Tiny problems in float64 for the engine's tests: learners, sources, optimisers and objectives, and how to compare.

Shapes: B inits, T steps, S batches, M images a step, N real images, K classes, D pixels of an image, Z latent entries.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.engine import (
    Adjoint,
    Batch,
    Execution,
    InnerConfig,
    InnerOptimizer,
    Kernels,
    Learner,
    MetaGradient,
    Objective,
    PixelConfig,
    Pixels,
    Pull,
    Pullback,
    RealBatch,
    RealLoss,
    Schedule,
    Source,
    Tensors,
)
from limbeck.models import (
    MLP,
    AlexCifarNet,
    Augmented,
    BatchNorm,
    ConvNet,
    Dropout,
    LeNet,
    LinearClassifier,
    StridedNet,
    draw,
)

Shape = tuple[int, int, int]
CLASSES = 3
MODES = ("forward-over-reverse", "reverse-over-forward", "reverse-over-reverse")

REFERENCE_LEARNERS: dict[str, tuple[Shape, Callable[[Shape], nn.Module]]] = {
    "lenet": ((1, 12, 12), lambda shape: LeNet(shape, CLASSES)),
    "alexcifarnet": ((2, 4, 4), lambda shape: AlexCifarNet(shape, CLASSES)),
    "convnet3": ((2, 8, 8), lambda shape: ConvNet(shape, CLASSES, width=3)),
    "stridednet": ((1, 5, 6), lambda shape: StridedNet(shape, CLASSES, width=3)),
    "mlp": ((1, 3, 3), lambda shape: MLP(shape, CLASSES, (5, 4))),
    "linear": ((1, 3, 3), lambda shape: LinearClassifier(shape, CLASSES)),
}
"""The learners that users can name, as small as their constructors allow: image shape, maker."""

OTHER_LEARNERS: dict[str, tuple[Shape, Callable[[Shape], nn.Module]]] = {
    "smooth-mlp": ((1, 3, 3), lambda shape: smooth_mlp(shape)),
    "smooth-convnet": (
        (1, 4, 4),
        lambda shape: ConvNet(shape, CLASSES, width=4, depth=2, norm="group", activation="softplus"),
    ),
    "running-convnet": (
        (1, 4, 4),
        lambda shape: ConvNet(shape, CLASSES, width=4, depth=2, norm="running", activation="softplus"),
    ),
    "noisy-mlp": ((1, 3, 3), lambda shape: noisy_mlp(shape)),
    "max-pool-convnet": ((1, 8, 8), lambda shape: ConvNet(shape, CLASSES, width=3, norm="none", pooling="max")),
}


def smooth_mlp(shape: Shape) -> nn.Module:
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 6), nn.Tanh(), nn.Linear(6, 5), nn.Softplus(), nn.Linear(5, CLASSES)
    )


def noisy_mlp(shape: Shape) -> nn.Module:
    """Batch normalisation, dropout and augmentation at once."""
    pixels = shape[0] * shape[1] * shape[2]
    inner = nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 6), BatchNorm(6), nn.Tanh(), Dropout(0.3), nn.Linear(6, CLASSES)
    )
    return Augmented(inner, shift=1, flip=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Problem(NamedTuple):
    """Everything a meta-gradient is taken of."""

    module: nn.Module
    learner: Learner
    source: Source
    params: Tensors
    weights: Tensors
    real: RealBatch

    def kernels(self, execution: Execution | None = None, objective: Objective | None = None) -> Kernels:
        return Kernels(self.learner, objective or RealLoss(), execution or Execution())

    def meta_gradient(
        self, adjoint: Adjoint, execution: Execution | None = None, objective: Objective | None = None
    ) -> MetaGradient:
        kernels = self.kernels(execution, objective)
        return adjoint.meta_gradient(kernels, self.source, self.params, kernels.init(self.weights), self.real)


def problem(
    name: str,
    *,
    inits: int = 3,
    config: PixelConfig | None = None,
    inner: InnerConfig | None = None,
    optimizer: InnerOptimizer | None = None,
    dtype: torch.dtype = torch.float64,
) -> Problem:
    """A learner of ``REFERENCE_LEARNERS`` or ``OTHER_LEARNERS``; soft labels and T = 2 x 2 steps unless told otherwise.

    Parameters are moved away from where they start, so that biases, step sizes and labels are all different numbers.
    """
    shape, make = (REFERENCE_LEARNERS | OTHER_LEARNERS)[name]
    source, params = pixels(shape, config or PixelConfig(steps=2, epochs=2, labels="soft"), inner, dtype=dtype)
    return around(make(shape), shape, source, params, inits=inits, optimizer=optimizer, dtype=dtype)


def pixels(
    shape: Shape, config: PixelConfig, inner: InnerConfig | None = None, *, dtype: torch.dtype = torch.float64
) -> tuple[Pixels, Tensors]:
    images = torch.randn(config.steps, config.ipc * CLASSES, *shape, generator=generator(1), dtype=dtype)
    source = Pixels(config, CLASSES, images, inner or InnerConfig(lr=0.1))
    return source, jittered(source.parameters(), 0.3, generator(2))


def around(
    module: nn.Module,
    shape: Shape,
    source: Source,
    params: Tensors,
    *,
    inits: int = 3,
    optimizer: InnerOptimizer | None = None,
    dtype: torch.dtype = torch.float64,
) -> Problem:
    weights = jittered(draw(module, "xavier", inits, generator(3), dtype=dtype), 0.05, generator(4))
    real = RealBatch(torch.randn(4, *shape, generator=generator(5), dtype=dtype), torch.tensor([0, 2, 1, 1]))
    learner = Learner.of(module) if optimizer is None else Learner(module=module, optimizer=optimizer)
    return Problem(module, learner, source, params, weights, real)


def jittered(tensors: Tensors, scale: float, rng: torch.Generator) -> Tensors:
    return {n: v + scale * torch.randn(v.shape, generator=rng, dtype=v.dtype) for n, v in tensors.items()}


def assert_close(actual: Tensor, expected: Tensor, relative: float, what: str = "value") -> None:
    """Equal within ``relative`` times the largest entry of ``expected``, which must be a number other than 0."""
    assert actual.shape == expected.shape, what
    largest = expected.abs().max().item()
    assert 0 < largest < float("inf"), f"{what} says nothing: its largest entry is {largest}"
    assert (actual - expected).abs().max().item() <= relative * largest, what


def assert_same_gradient(actual: MetaGradient, expected: MetaGradient, relative: float = 1e-9) -> None:
    """Same losses and same gradients, init by init and parameter by parameter."""
    assert_close(actual.loss_B, expected.loss_B, relative, "loss")
    assert actual.grads.keys() == expected.grads.keys()
    for name, grad in expected.grads.items():
        assert actual.grads[name].shape == grad.shape, name
        for b, grad_b in enumerate(grad):
            assert_close(actual.grads[name][b], grad_b, relative, f"{name}, init {b}")


Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, K), class indices (N,)) to a scalar."""


def trained_loss(case: Problem, params: Tensors, init: int = 0, loss: Loss = F.cross_entropy) -> float:
    """What the loss must be: a real network trained by torch.optim.SGD on pixels decoded here, step by step."""
    module = copy.deepcopy(case.module).double()
    module.load_state_dict({name: value[init] for name, value in case.weights.items()})
    sgd = torch.optim.SGD(module.parameters(), lr=1.0)
    batches = params["images"].shape[0]
    for t, raw_lr in enumerate(params["lr"]):
        sgd.param_groups[0]["lr"] = torch.log1p(raw_lr.exp()).item()
        sgd.zero_grad()
        labels_MK = params["labels"][t % batches].softmax(-1)
        F.cross_entropy(module(params["images"][t % batches]), labels_MK).backward()
        sgd.step()
    with torch.no_grad():
        module.eval()
        return loss(module(case.real.x_NCHW), case.real.y_N).item()


@final
class Watched(Objective):
    """The real loss, also after the steps named."""

    def __init__(self, also: Sequence[int]) -> None:
        self.also = also

    def value(self, learner: Learner, params: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor:
        return RealLoss().value(learner, params, x_NCHW, y_N)

    def reading_steps(self, steps: int) -> frozenset[int]:
        return frozenset({*self.also, steps})


LEARNED: dict[str, InnerConfig] = {
    "gd": InnerConfig(lr=0.1),
    "sgd": InnerConfig(
        optimizer="sgd",
        lr=0.1,
        lr_max=0.3,
        momentum=0.6,
        weight_decay=0.1,
        learn_momentum="per-step",
        learn_weight_decay="shared",
    ),
    "nesterov": InnerConfig(
        optimizer="nesterov",
        lr=0.1,
        momentum=0.6,
        weight_decay=0.1,
        learn_momentum="shared",
        learn_weight_decay="per-step",
    ),
    "adam": InnerConfig(
        optimizer="adam",
        lr=0.05,
        inner_beta1=0.8,
        inner_beta2=0.95,
        weight_decay=0.1,
        epsilon=1e-6,
        learn_lr="shared",
        learn_betas="per-step",
        learn_weight_decay="shared",
    ),
}
"""Every inner optimiser with all of its hyper-parameters learned, in one of the two ways each."""


@final
class LinearGenerator(Source):
    """Like a generator: images are a learned linear map of fixed latents, labels a learned function of the class.

    Learned: ``weight`` (D, Z), ``bias`` (D,), ``labels`` (K, K), and the hyper-parameters.
    """

    def __init__(self, shape: Shape, steps: int, inner: InnerConfig) -> None:
        self.steps = steps
        self.shape = shape
        self.schedule = Schedule(inner, steps, dtype=torch.float64)
        self.z_TMZ = torch.randn(steps, CLASSES, 4, generator=generator(6), dtype=torch.float64)

    def parameters(self) -> Tensors:
        pixels = self.shape[0] * self.shape[1] * self.shape[2]
        shapes = {"weight": (pixels, 4), "bias": (pixels,), "labels": (CLASSES, CLASSES)}
        start = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        return jittered({**start, **self.schedule.parameters()}, 0.5, generator(7))

    def batch(self, params: Tensors, step: int) -> Batch:
        flat_MD = self.z_TMZ[step] @ params["weight"].T + params["bias"]
        h = self.schedule.at(params, step)
        return Batch(flat_MD.unflatten(1, self.shape), params["labels"].softmax(-1), h)

    def pullback(self, params: Tensors, inits: int) -> Pullback:
        return _GeneratorPullback(self, params, inits)


@final
class _GeneratorPullback(Pullback):
    """Runs the generator again at each step and pulls every init's cotangent back with autograd."""

    def __init__(self, source: LinearGenerator, params: Tensors, inits: int) -> None:
        self.source = source
        self.leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        self.total = {name: value.new_zeros(inits, *value.shape) for name, value in params.items()}

    def batch(self, step: int) -> tuple[Batch, Pull]:
        return self.source.batch(self.leaves, step), partial(self.add, step)

    def add(self, step: int, cotangent: Batch) -> None:
        with torch.enable_grad():
            batch = self.source.batch(self.leaves, step)
        outputs = [batch.x_MCHW, batch.y_MK, *batch.h.values()]
        cotangents = [cotangent.x_MCHW, cotangent.y_MK, *(cotangent.h[name] for name in batch.h)]
        for b in range(cotangent.x_MCHW.shape[0]):
            grads = torch.autograd.grad(
                outputs, list(self.leaves.values()), [c[b] for c in cotangents], retain_graph=True
            )
            for name, grad in zip(self.leaves, grads, strict=True):
                self.total[name][b] += grad

    def result(self) -> Tensors:
        return self.total
