"""Zero-cost scores: what a network tells of itself before any training, from one batch or none.

Abdelfattah et al. 2021 (arXiv 2101.08134) compare them. Everything is computed in float64. Shapes: N images of a batch,
D pixels, A activations of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.common.registry import Registry
from limbeck.common.seeds import generator
from limbeck.engine import Tensors, call_with
from limbeck.errors import LimbeckError, unknown
from limbeck.models import BatchNorm, draw
from limbeck.models.nets import ChannelResponseNorm
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.common import require_positive
from limbeck.nas.proxies.scale import RANK, Scale
from limbeck.nas.spaces.base import Arch, Space


@final
@dataclass(frozen=True, kw_only=True)
class ZeroCost(Proxy):
    """Score untrained networks.

    Args:
        kind: a name in ``SCORES``, such as "naswot", or in ``SIZES``, which are the bars that the others have to clear.
        inits: initial weights that a score averages over; at least 1.
        batch: N, training images, the same for all architectures; at least 2.
    """

    kind: str
    inits: int = 1
    batch: int = 64

    def __post_init__(self) -> None:
        if self.kind not in zero_cost_names():
            raise unknown("zero-cost score", str(self.kind), zero_cost_names())
        require_positive(self, "inits")
        if self.batch < 2:
            raise LimbeckError(f"batch is {self.batch}; images are compared, so it must be at least 2.")

    @property
    def name(self) -> str:
        return self.kind

    @property
    def scale(self) -> Scale:
        return Scale(unit=self.kind) if self.kind in SIZES else RANK

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        tell(f"{self.kind}: nothing to prepare")
        return _Untrained(config=self)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Untrained(Scorer):
    config: ZeroCost

    def score(self, task: Task, arch: Arch) -> float:
        kind, inits = self.config.kind, self.config.inits
        if kind in SIZES:
            return float(SIZES[kind](task.space, arch))
        module = task.space.build(arch).to(task.device, torch.float64)
        x_NCHW, y_N = task.data.sample(generator(task.seed, "zero-cost batch"), self.config.batch)
        weights = draw(module, "kaiming", inits, generator(task.seed, f"zero-cost weights {task.space.text(arch)}"))
        scores = [
            SCORES[kind](module, {name: value[index] for name, value in weights.items()}, x_NCHW.double(), y_N)
            for index in range(inits)
        ]
        return sum(scores) / inits


def synflow(module: nn.Module, weights: Tensors, x_NCHW: Tensor, y_N: Tensor) -> float:
    """log Σ |θ ∂R/∂θ| (SynFlow, Tanaka et al. 2020, arXiv 2006.05467), with R the summed output for an image of ones.

    R is of the network with the magnitudes of its weights and without normalisation. Rectifiers pass what is positive;
    other activations are left out, too, so that R is the sum over paths of the products of weights for all networks
    alike. The logarithm is because R grows exponentially with depth. The batch gives the image's shape only.
    """
    module.eval()
    ones_2CHW = torch.ones_like(x_NCHW[:2])  # two: batch normalisation computes its variance, though unused
    magnitudes = {name: weights[name].abs().requires_grad_() for name, _ in module.named_parameters()}
    hooks = [
        layer.register_forward_hook(_pass_on)
        for layer in module.modules()
        if isinstance(layer, (*_NORMS, *_ACTIVATIONS))
    ]
    try:
        flow = call_with(module, weights | magnitudes, (ones_2CHW,)).sum() / 2
    finally:
        for hook in hooks:
            hook.remove()
    slopes = torch.autograd.grad(flow, list(magnitudes.values()), materialize_grads=True)
    total = sum(((w * g.abs()).sum() for w, g in zip(magnitudes.values(), slopes, strict=True)), flow.new_zeros(()))
    return float(total.detach().log())


def jacob_cov(module: nn.Module, weights: Tensors, x_NCHW: Tensor, y_N: Tensor) -> float:
    """−Σ_i log(σ_i + k) + 1/(σ_i + k), k = 10⁻⁵ (Mellor et al. 2020, arXiv 2006.04647v1).

    σ_i are the eigenvalues of the correlation matrix, over pixels, of the N images' gradients of the summed output; it
    is highest where images pull in different directions. NaN for a network whose gradient is constant over pixels.
    """
    images = x_NCHW.clone().requires_grad_()
    (slopes_NCHW,) = torch.autograd.grad(call_with(module, weights, (images,)).sum(), images)
    correlation_NN = torch.corrcoef(slopes_NCHW.flatten(1))
    if not correlation_NN.isfinite().all():
        return float("nan")
    shifted_N = torch.linalg.eigvalsh(correlation_NN) + 1e-5
    return -float((shifted_N.log() + 1 / shifted_N).sum())


@torch.no_grad()
def naswot(module: nn.Module, weights: Tensors, x_NCHW: Tensor, y_N: Tensor) -> float:
    """log |det K|, K_ij = A − Hamming distance of the binary codes of images i and j (Mellor et al. 2021).

    In arXiv 2006.04647. The code says which of the A numbers that go into activations are positive: for a rectifier
    those that pass, for a sigmoid those whose output is above a half. −∞ where two images have the same code.
    """
    with _Codes() as recorder:
        call_with(module, weights, (x_NCHW,))
    if not recorder.codes:
        raise LimbeckError(
            "naswot reads which activations are on, and this network has none that it knows (rectifiers and their kin, "
            "sigmoid, tanh); use another proxy."
        )
    codes_NA = torch.cat(recorder.codes, dim=1).double()
    kernel_NN = codes_NA @ codes_NA.T + (1 - codes_NA) @ (1 - codes_NA).T
    return float(torch.linalg.slogdet(kernel_NN).logabsdet)


def grad_norm(module: nn.Module, weights: Tensors, x_NCHW: Tensor, y_N: Tensor) -> float:
    """Σ ‖∂ℓ/∂θ‖ over parameters, ℓ the cross-entropy of the batch (Abdelfattah et al. 2021)."""
    own = {name: weights[name].clone().requires_grad_() for name, _ in module.named_parameters()}
    loss = F.cross_entropy(call_with(module, weights | own, (x_NCHW,)), y_N)
    slopes = torch.autograd.grad(loss, list(own.values()), materialize_grads=True)
    return sum(float(slope.norm()) for slope in slopes)


Score: TypeAlias = Callable[[nn.Module, Tensors, Tensor, Tensor], float]
"""The score of a network, its weights by name, and a batch of images (N, C, H, W) and classes (N,)."""

SCORES: Final[Registry[Score]] = Registry(
    "zero-cost score",
    ("synflow", synflow),
    ("jacob_cov", jacob_cov),
    ("naswot", naswot),
    ("grad_norm", grad_norm),
)
"""Scores of networks at initialisation, by name: a new one is a function and a line here."""

SIZES: Final[Registry[Callable[[Space, Arch], int]]] = Registry(
    "size of networks", ("parameters", Space.parameters), ("flops", Space.flops)
)
"""Scores that count, by name."""


def zero_cost_names() -> tuple[str, ...]:
    """The kinds of ``ZeroCost``."""
    return (*SCORES, *SIZES)


_NORMS: Final = (
    _NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    BatchNorm,
    ChannelResponseNorm,
)
_ACTIVATIONS: Final = (nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid)
_OPERATORS: Final = frozenset(
    getattr(torch.ops.aten, name)
    for name in (
        "relu",
        "leaky_relu",
        "elu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "hardtanh",
        "hardswish",
        "tanh",
        "sigmoid",
    )
)


def _pass_on(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return inputs[0]


@final
class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Which inputs of activations are positive, (N, ·) booleans each, be they modules or calls of functions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.codes: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _OPERATORS:
            self.codes.append((cast(Tensor, args[0]) > 0).flatten(1))
        return func(*args, **(kwargs or {}))
