"""The learner: a module used as a pure function, one step of its training, and that step's pull-back.

The pull-back is where the meta-gradient is won. A step is s' = U(s, g, h) with g = ∇_θ ℓ(θ, x, y). With v the cotangent
of s', let u = (∂U/∂g)ᵀ v. Second derivatives commute, so the vector-Jacobian product of ∇_θ ℓ with u is the derivative
of the gradient along u, and equally the gradient of the derivative along u:

    (θ, x, y) ↦ ⟨u, ∇_θ ℓ⟩  has gradient  D_(u,0,0) ∇_{θ,x,y} ℓ  =  ∇_{θ,x,y} D_u ℓ

No graph of a graph is ever built (the mixed-mode trick of MixFlow-MG, arXiv 2505.00793).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp

from limbeck.engine.optim import GradientDescent, InnerOptimizer
from limbeck.engine.state import Batch, State, Tensors, add

Mode = Literal["forward-over-reverse", "reverse-over-forward", "reverse-over-reverse"]
StepVjp = Callable[[State, Batch, State], tuple[State, Batch]]


def soft_cross_entropy(logits_MK: Tensor, y_MK: Tensor) -> Tensor:
    """Mean over the batch of −Σ_k y_k log softmax(logits)_k; a scalar. Equals cross-entropy for one-hot rows."""
    return -(y_MK * torch.log_softmax(logits_MK, dim=-1)).sum(dim=-1).mean()


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """A network and how it is trained in the inner loop.

    Args:
        module: any module whose forward maps (M, C, H, W) to logits (M, K). Its parameters are never written.
        optimizer: the inner optimiser.
        loss: (logits (M, K), label distributions (M, K)) to a scalar.
    """

    module: nn.Module
    optimizer: InnerOptimizer
    loss: Callable[[Tensor, Tensor], Tensor] = soft_cross_entropy

    @classmethod
    def of(cls, module: nn.Module, optimizer: InnerOptimizer | None = None) -> Learner:
        """A learner of the cross-entropy, by plain gradient descent as in Wang et al. 2018 unless told otherwise."""
        return cls(module=module, optimizer=optimizer or GradientDescent())

    def init(self, params: Tensors) -> State:
        """The state before the first step, from initial weights."""
        return State(params, self.optimizer.init(params))

    def predict(self, params: Tensors, x_MCHW: Tensor) -> Tensor:
        """Logits (M, K)."""
        logits: Tensor = functional_call(self.module, params, (x_MCHW,))
        return logits

    def inner_loss(self, params: Tensors, x_MCHW: Tensor, y_MK: Tensor) -> Tensor:
        """ℓ(θ, x, y), a scalar."""
        return self.loss(self.predict(params, x_MCHW), y_MK)

    def step(self, state: State, batch: Batch) -> State:
        """One training step; pure."""
        grads = grad(self.inner_loss)(state.params, batch.x_MCHW, batch.y_MK)
        return self.optimizer.update(state, grads, batch.h)

    def step_vjp(self, mode: Mode) -> StepVjp:
        """The pull-back of ``step`` at (state, batch): cotangent of the next state to those of state and batch."""
        if mode == "reverse-over-reverse":
            return self._reverse_over_reverse
        if mode == "reverse-over-forward" and self.optimizer.affine:
            return self._reverse_over_forward
        return self._forward_over_reverse

    def _reverse_over_reverse(self, state: State, batch: Batch, cotangent: State) -> tuple[State, Batch]:
        pull = vjp(self.step, state, batch)[1]
        result: tuple[State, Batch] = pull(cotangent)
        return result

    def _forward_over_reverse(self, state: State, batch: Batch, cotangent: State) -> tuple[State, Batch]:
        grads_of = grad(self.inner_loss, argnums=(0, 1, 2))
        x_MCHW, y_MK, h = batch

        def pull_update(grads: Tensors) -> tuple[State, Tensors, Tensors]:
            pull = vjp(self.optimizer.update, state, grads, h)[1]
            result: tuple[State, Tensors, Tensors] = pull(cotangent)
            return result

        if self.optimizer.affine:  # the point at which U is pulled back does not matter to u
            probe = {name: torch.zeros_like(value) for name, value in state.params.items()}
        else:
            probe = grad(self.inner_loss)(state.params, x_MCHW, y_MK)
        _, along, _ = pull_update(probe)
        images = x_MCHW.clone()  # see below
        gradients, tangents = jvp(lambda params: grads_of(params, images, y_MK), (state.params,), (along,))[:2]
        direct, _, h_cot = pull_update(gradients[0])
        hvp, x_cot, y_cot = tangents
        return State(add(direct.params, hvp), direct.opt), Batch(x_cot, y_cot, h_cot)

    def _reverse_over_forward(self, state: State, batch: Batch, cotangent: State) -> tuple[State, Batch]:
        """∇ of ⟨v, U(s, 0, h)⟩ + D_u ℓ, which is ⟨v, step⟩ since U is affine in the gradient."""
        zeros = {name: torch.zeros_like(value) for name, value in state.params.items()}

        def contracted(state: State, batch: Batch) -> Tensor:
            rest, pull = vjp(lambda grads: self.optimizer.update(state, grads, batch.h), zeros)[:2]
            (along,) = pull(cotangent)
            # Compiled, forward mode fails on what a learner makes of a view, as one step's images are ("meta and cpu").
            images = batch.x_MCHW.clone()
            slope: Tensor = jvp(lambda params: self.inner_loss(params, images, batch.y_MK), (state.params,), (along,))[
                1
            ]
            return slope + _inner(cotangent, rest)

        result: tuple[State, Batch] = grad(contracted, argnums=(0, 1))(state, batch)
        return result


def _inner(left: Any, right: Any) -> Tensor:
    """⟨left, right⟩ over all tensors of two states."""
    total = torch.zeros(())
    for one, other in zip(left, right, strict=True):
        for name, value in one.items():
            total = total + (value * other[name]).sum()
    return total
