"""The learner: a module used as a pure function, one step of its training, and that step's pull-back.

The pull-back is where the meta-gradient is won. A step is s' = U(s, g, h) with g = ∇_θ ℓ(θ, x, y). With v the cotangent
of s', let u = (∂U/∂g)ᵀ v. Second derivatives commute, so the vector-Jacobian product of ∇_θ ℓ with u is the derivative
of the gradient along u, and equally the gradient of the derivative along u:

    (θ, x, y) ↦ ⟨u, ∇_θ ℓ⟩  has gradient  D_(u,0,0) ∇_{θ,x,y} ℓ  =  ∇_{θ,x,y} D_u ℓ

No graph of a graph is ever built (the mixed-mode trick of MixFlow-MG, arXiv 2505.00793).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vjp

from limbeck.engine.carried import Carrying, carried_names
from limbeck.engine.forward import (
    call_with,
    copy_module,
    differentiable,
    holding,
    in_evaluation,
    is_simple,
    leaving_no_trace,
    logits_of,
)
from limbeck.engine.optim import GradientDescent, InnerOptimizer
from limbeck.engine.state import Batch, State, Tensors, add

Mode = Literal["forward-over-reverse", "reverse-over-forward", "reverse-over-reverse", "autograd"]
"""Orders of differentiation. The first three transform functions (``torch.func``), ``reverse-over-reverse`` twice the
same way; ``autograd`` records operations, as user's training loops do, and takes every module that can be trained."""
StepVjp = Callable[[State, Batch, State], tuple[State, Batch]]


def soft_cross_entropy(logits_MK: Tensor, y_MK: Tensor) -> Tensor:
    """Mean over the batch of −Σ_k y_k log softmax(logits)_k; a scalar. Equals cross-entropy for one-hot rows."""
    return -(y_MK * torch.log_softmax(logits_MK, dim=-1)).sum(dim=-1).mean()


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """A network and how it is trained in the inner loop.

    Args:
        module: any module whose forward maps (M, C, H, W) to logits (M, K), or to a tuple, dict or object with them
            (``forward.logits_of``). Neither its parameters nor the images are ever written. It takes the steps in the
            mode that it is in, and predicts in evaluation mode, as a copy where that may matter. Layers that carry
            state are in training mode in a copy that takes the steps.
        optimizer: the inner optimiser.
        loss: (logits (M, K), label distributions (M, K)) to a scalar.
        frozen: names of parameters that training leaves as they are.
    """

    module: nn.Module
    optimizer: InnerOptimizer
    loss: Callable[[Tensor, Tensor], Tensor] = soft_cross_entropy
    frozen: frozenset[str] = frozenset()
    carried: tuple[str, ...] = field(init=False)
    """Names of the buffers that the module's layers carry from step to step."""
    training_module: nn.Module = field(init=False, repr=False)
    """The module that steps run: the one that was given, or its copy in training mode where layers carry state."""
    simple: bool = field(init=False, repr=False)
    """Whether it consists of layers alone that are known to do nothing but compute (``forward.is_simple``)."""

    def __post_init__(self) -> None:
        training = predicting = self.module
        if carried_names(training):
            training, predicting = _copy_in_mode(training, True), _copy_in_mode(training, False)
        object.__setattr__(self, "module", in_evaluation(predicting))
        object.__setattr__(self, "training_module", training)
        object.__setattr__(self, "simple", is_simple(training))
        object.__setattr__(self, "carried", carried_names(training))

    @classmethod
    def of(cls, module: nn.Module, optimizer: InnerOptimizer | None = None) -> Learner:
        """A learner of the cross-entropy, by plain gradient descent as in Wang et al. 2018 unless told otherwise."""
        return cls(module=module, optimizer=optimizer or GradientDescent())

    def init(self, weights: Tensors) -> State:
        """The state before the first step, from initial weights, with or without the buffers that are carried.

        Frozen parameters are among the buffers, which a step passes on as they are.
        """
        own = dict(self.training_module.named_buffers())
        buffers = {name: weights.get(name, own[name]) for name in self.carried}
        buffers |= {name: weights[name] for name in self.frozen}
        params = {name: value for name, value in weights.items() if name not in buffers}
        return State(params, self.optimizer.init(params), buffers)

    def predict(self, network: Tensors, x_MCHW: Tensor) -> Tensor:
        """Logits (M, K) of parameters and, where there are any, carried buffers; not in training."""
        return self._logits(self.module, network, x_MCHW)

    def inner_loss(self, params: Tensors, buffers: Tensors, x_MCHW: Tensor, y_MK: Tensor) -> tuple[Tensor, Tensors]:
        """ℓ(θ, x, y), a scalar, in training, and the buffers that follow."""
        network = params | buffers
        logits_MK = self._logits(self.training_module, network, x_MCHW)  # replaces in ``network`` what layers assign to
        return self.loss(logits_MK, y_MK), {name: network[name] for name in buffers}

    def _logits(self, module: nn.Module, network: Tensors, x_MCHW: Tensor) -> Tensor:
        if self.simple or torch.compiler.is_compiling():
            output = call_with(module, network, (x_MCHW if self.simple else x_MCHW.clone(),))
        else:  # it may work in place, so it gets images of its own
            with leaving_no_trace(module):
                output = call_with(module, network, (x_MCHW.clone(),))
        logits: Tensor = logits_of(output)
        return logits

    def step(self, state: State, batch: Batch) -> State:
        """One training step; pure."""
        grads, buffers = grad(self.inner_loss, has_aux=True)(state.params, state.buffers, batch.x_MCHW, batch.y_MK)
        return self.optimizer.update(state, grads, batch.h)._replace(buffers=buffers)

    def step_vjp(self, mode: Mode) -> StepVjp:
        """The pull-back of ``step`` at (state, batch): cotangent of the next state to those of state and batch."""
        if mode == "autograd":
            return self._pull_recorded
        if mode == "reverse-over-reverse":
            return self._reverse_over_reverse
        if mode == "reverse-over-forward" and self.optimizer.affine:
            return self._reverse_over_forward
        return self._forward_over_reverse

    def step_recorded(self, state: State, batch: Batch) -> State:
        """``step`` by recording operations instead of transforming functions."""
        state = state.each(Tensor.detach)
        params = {name: value.requires_grad_() for name, value in state.params.items()}
        with differentiable(self.training_module), holding(self.training_module, params), torch.enable_grad():
            return self._record(state._replace(params=params), batch, create_graph=False).each(Tensor.detach)

    def _record(self, state: State, batch: Batch, *, create_graph: bool) -> State:
        params = state.params
        loss, buffers = self.inner_loss(params, state.buffers, batch.x_MCHW, batch.y_MK)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=create_graph, materialize_grads=True)
        return self.optimizer.update(state, dict(zip(params, grads, strict=True)), batch.h)._replace(buffers=buffers)

    def _pull_recorded(self, state: State, batch: Batch, cotangent: State) -> tuple[State, Batch]:
        """The double backward of autograd."""
        state = state.each(lambda value: value.detach().requires_grad_())
        x_MCHW, y_MK, h = batch.each(lambda value: value.detach().requires_grad_())
        with differentiable(self.training_module), holding(self.training_module, state.params), torch.enable_grad():
            following = self._record(state, Batch(x_MCHW, y_MK, h), create_graph=True)
            leaves = [*state.params.values(), *state.opt.values(), *state.buffers.values(), x_MCHW, y_MK, *h.values()]
            pairs = [
                (value, given[name])
                for field, given in zip(following, cotangent, strict=True)
                for name, value in field.items()
                if value.requires_grad
            ]
            parts = torch.autograd.grad(
                [value for value, _ in pairs], leaves, [given for _, given in pairs], materialize_grads=True
            )
        rest = iter(parts)
        fields = [{name: next(rest) for name in field} for field in state]
        x_cot, y_cot = next(rest), next(rest)
        return State(*fields), Batch(x_cot, y_cot, {name: next(rest) for name in h})

    def _reverse_over_reverse(self, state: State, batch: Batch, cotangent: State) -> tuple[State, Batch]:
        pull = vjp(self.step, state, batch)[1]
        result: tuple[State, Batch] = pull(cotangent)
        return result

    def _forward_over_reverse(self, state: State, batch: Batch, cotangent: State) -> tuple[State, Batch]:
        x_MCHW, y_MK, h = batch

        def pull_update(grads: Tensors) -> tuple[State, Tensors, Tensors]:
            pull = vjp(self.optimizer.update, state._replace(buffers={}), grads, h)[1]
            result: tuple[State, Tensors, Tensors] = pull(cotangent._replace(buffers={}))
            return result

        def loss_of(params: Tensors, buffers: Tensors, x_MCHW: Tensor, y_MK: Tensor) -> Tensor:
            return self.inner_loss(params, buffers, x_MCHW, y_MK)[0]

        if self.optimizer.affine:  # the point at which U is pulled back does not matter to u
            probe = {name: torch.zeros_like(value) for name, value in state.params.items()}
        else:
            probe = grad(loss_of)(state.params, state.buffers, x_MCHW, y_MK)
        _, along, _ = pull_update(probe)
        images = x_MCHW.clone()  # see below
        grads_of = grad(loss_of, argnums=(0, 1, 2, 3))
        gradients, tangents = jvp(
            lambda params: grads_of(params, state.buffers, images, y_MK), (state.params,), (along,)
        )[:2]
        direct, _, h_cot = pull_update(gradients[0])
        hvp, buffers_cot, x_cot, y_cot = tangents
        params_cot = add(direct.params, hvp)
        if state.buffers:  # what reaches the step through the buffers that it leaves behind

            def left_behind(params: Tensors, buffers: Tensors, x_MCHW: Tensor) -> Tensor:
                return _dot(cotangent.buffers, self.inner_loss(params, buffers, x_MCHW, y_MK)[1])

            through = grad(left_behind, argnums=(0, 1, 2))
            through_params, through_buffers, through_x = through(state.params, state.buffers, images)
            params_cot, buffers_cot = add(params_cot, through_params), add(buffers_cot, through_buffers)
            x_cot = x_cot + through_x
        return State(params_cot, direct.opt, buffers_cot), Batch(x_cot, y_cot, h_cot)

    def _reverse_over_forward(self, state: State, batch: Batch, cotangent: State) -> tuple[State, Batch]:
        """∇ of ⟨v, U(s, 0, h)⟩ + D_u ℓ, which is ⟨v, step⟩ since U is affine in the gradient; and of the buffers."""
        zeros = {name: torch.zeros_like(value) for name, value in state.params.items()}

        def contracted(state: State, batch: Batch) -> Tensor:
            before = state._replace(buffers={})
            rest, pull = vjp(lambda grads: self.optimizer.update(before, grads, batch.h), zeros)[:2]
            (along,) = pull(cotangent._replace(buffers={}))
            # Compiled, forward mode fails on what a learner makes of a view, as one step's images are ("meta and cpu").
            images = batch.x_MCHW.clone()

            def loss(params: Tensors) -> tuple[Tensor, Tensors]:
                return self.inner_loss(params, state.buffers, images, batch.y_MK)

            result: tuple[Tensor, Tensor, Tensors] = jvp(loss, (state.params,), (along,), has_aux=True)  # type: ignore[assignment]
            _, slope, buffers = result
            total: Tensor = slope + _inner(cotangent, rest._replace(buffers=buffers))
            return total

        result: tuple[State, Batch] = grad(contracted, argnums=(0, 1))(state, batch)
        return result


def _copy_in_mode(module: nn.Module, training: bool) -> nn.Module:
    """A copy with its layers that carry state in one mode; the others keep theirs."""
    module = copy_module(module)
    for layer in module.modules():
        if isinstance(layer, Carrying):
            layer.training, layer.carrying = training, True
    return module


def _inner(left: State, right: State) -> Tensor:
    """⟨left, right⟩ over all tensors of two states."""
    return sum((_dot(one, other) for one, other in zip(left, right, strict=True)), torch.zeros((), dtype=torch.float32))


def _dot(left: Tensors, right: Tensors) -> Tensor:
    return sum(((value * right[name]).sum() for name, value in left.items()), torch.zeros((), dtype=torch.float32))
