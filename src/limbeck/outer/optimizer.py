"""The outer optimiser: averaging over inits, clipping, and the memory that a rollback needs.

Shapes: B inits, N real images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from limbeck.engine import Group, Source, Tensors
from limbeck.experiment.parts import OuterConfig


def clip_and_average(grads: Tensors, clip_init: float | None, clip: float | None) -> tuple[Tensors, Tensor]:
    """Average per-init gradients (B, ...) after clipping each init's global norm, then clip the average.

    A few inits carry most of the gradient's norm (its largest value is hundreds of times its median), so clipping only
    the average would throw the others away. Returns the average and the norms (B,) before clipping.
    """
    norm_B = torch.stack([g.reshape(len(g), -1).square().sum(1) for g in grads.values()]).sum(0).sqrt()
    scale_B = torch.ones_like(norm_B)
    if clip_init is not None:
        scale_B = (clip_init / norm_B.clamp_min(1e-30)).clamp_max(1.0)
    mean = {name: torch.tensordot(scale_B / len(scale_B), g, dims=1) for name, g in grads.items()}
    if clip is not None:
        norm = torch.stack([g.square().sum() for g in mean.values()]).sum().sqrt()
        factor = (clip / norm.clamp_min(1e-30)).clamp_max(1.0)
        mean = {name: g * factor for name, g in mean.items()}
    return mean, norm_B


def own_gradient(source: Source, x_NCHW: Tensor, y_N: Tensor) -> tuple[Tensor, Tensors] | None:
    """What a source asks of itself on real images, a scalar, and its gradient; None where it asks nothing."""
    leaves = {name: value.detach().requires_grad_() for name, value in source.parameters().items()}
    with torch.enable_grad():
        loss = source.own_loss(leaves, x_NCHW, y_N)
    if loss is None:
        return None
    grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return loss.detach(), dict(zip(leaves, grads, strict=True))


@final
class OuterOptimizer:
    """Adam over a source's parameters, a learning rate for each group of them; they are updated in place."""

    def __init__(self, config: OuterConfig, params: Tensors, group_of: Callable[[str], Group]) -> None:
        self._params = params
        self._rates = {name: config.rate_of(group_of(name)) for name in params}
        self._adam = torch.optim.Adam(
            [{"params": [value], "lr": self._rates[name]} for name, value in params.items()],
            betas=(config.beta1, config.beta2),
        )

    def step(self, grads: Tensors, factor: float) -> None:
        """One update at ``factor`` times the configured rates."""
        for group, (name, value) in zip(self._adam.param_groups, self._params.items(), strict=True):
            group["lr"] = self._rates[name] * factor
            value.grad = grads[name]
        self._adam.step()

    def project(self, source: Source) -> None:
        """Bring the parameters back to where the source allows them to be."""
        for name, value in source.project(self._params).items():
            self._params[name].copy_(value)

    def idle(self) -> frozenset[str]:
        """The parameters whose gradients were exactly zero in all steps."""
        moments = {name: self._adam.state.get(value, {}).get("exp_avg") for name, value in self._params.items()}
        return frozenset(name for name, moment in moments.items() if moment is not None and not moment.any())

    def restart(self) -> None:
        """Forget Adam's moments. An entry that has had no gradient so far would take its first steps far too large:
        the correction for moments that start at 0 counts the iterations in which the entry took no part."""
        self._adam.state.clear()

    def tensors(self) -> Tensors:
        """A copy of parameters and Adam's moments, flat by name."""
        saved = {f"param.{name}": value.detach().clone() for name, value in self._params.items()}
        for name, value in self._params.items():
            for key, moment in self._adam.state.get(value, {}).items():
                saved[f"adam.{key}.{name}"] = moment.detach().clone()
        return saved

    def load(self, saved: Tensors) -> None:
        """Restore what ``tensors`` gave, bit for bit."""
        for name, value in self._params.items():
            value.copy_(saved[f"param.{name}"])
            moments: dict[str, Any] = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"adam.{key}.{name}" in saved:
                    moments[key] = saved[f"adam.{key}.{name}"].clone()
            if moments:
                self._adam.state[value] = moments
            else:
                self._adam.state.pop(value, None)
