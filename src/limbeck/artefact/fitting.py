"""Training any network on a learned set, whatever it is wrapped in and whatever its forward pass returns.

Shapes: M images a batch, K classes; C, H, W of an image.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from limbeck.engine import Batch, InnerOptimizer, State, Tensors, soft_cross_entropy, trainable_parameters
from limbeck.engine import logits_of as find_logits
from limbeck.errors import LimbeckError
from limbeck.models import describe_error


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes, by name.

    Raises:
        LimbeckError: nothing, or parameters that were made in inference mode.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if any(parameter.is_complex() for parameter in parameters.values()):
        raise LimbeckError("The model has complex parameters, which are not supported; split each into two real ones.")
    if not parameters:
        raise LimbeckError(
            "The model has nothing to train; give it at least one parameter with requires_grad=True (frozen ones: "
            "model.requires_grad_())."
        )
    if any(parameter.is_inference() for parameter in parameters.values()):
        raise LimbeckError(
            "The model was made in torch.inference_mode(), whose tensors have no gradients; make it outside."
        )
    return parameters


def materialise(model: nn.Module, x_MCHW: Tensor) -> None:
    """Give lazy layers their shapes by one batch of images (M, C, H, W), in evaluation mode; others are left alone.

    Raises:
        LimbeckError: the model fails on such images.
    """
    if not any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        return
    modes = {module: module.training for module in model.modules()}
    model.eval()  # running statistics are not for a batch that only gives shapes
    try:
        with torch.no_grad():
            call(model, x_MCHW)
    finally:
        for module in model.modules():
            module.training = modes.get(module, module.training)


def place_of(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """The device and type of a model's first real parameter that has them; the CPU and float32 if none has."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.device, parameter.dtype
    return torch.device("cpu"), torch.float32


@contextmanager
def gradients() -> Iterator[None]:
    """With gradients, whatever surrounds it: ``torch.no_grad()`` or ``torch.inference_mode()``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def fit(model: nn.Module, batches: Iterable[Batch], optimizer: InnerOptimizer) -> None:
    """Take a step of the inner optimiser on each batch, in place.

    Images are copied and cast to the model's type. Parameters of less than single precision are updated in single
    precision.

    Args:
        model: maps images (M, C, H, W) to logits (M, K), or to something that holds them (see ``logits_of``).
        batches: in order, with their hyper-parameters.
        optimizer: which takes the steps.

    Raises:
        LimbeckError: the model has nothing to train, fails on the images, or does not give (M, K) logits.
    """
    parameters = trainable(model)
    device, dtype = place_of(model)
    params = {name: _precise(p.detach()) for name, p in parameters.items()}
    state, last = State(params, optimizer.init(params)), torch.zeros(())
    for batch in batches:
        x_MCHW = batch.x_MCHW.to(device, dtype, copy=True)  # a model may work in place
        y_MK = batch.y_MK.to(device, copy=True)
        logits_MK = logits_of(call(model, x_MCHW), tuple(y_MK.shape))
        loss = soft_cross_entropy(_precise(logits_MK), y_MK.to(_precise(logits_MK).dtype))
        if not loss.requires_grad:
            raise LimbeckError(
                "The model's output does not depend on its parameters by way of gradients; train() needs them."
            )
        last = loss.detach()
        grads = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)  # a part may be unused
        h = {name: value.to(device) for name, value in batch.h.items()}
        with torch.no_grad():
            precise = (_precise(grad) for grad in grads)
            state = optimizer.update(state, dict(zip(parameters, precise, strict=True)), h)
            for name, parameter in parameters.items():
                parameter.copy_(state.params[name])
    results = [last, *parameters.values()]
    if device.type != "meta" and not all(bool(value.isfinite().all()) for value in results):
        warnings.warn(
            "training ran away: the model's loss or weights are not finite any more (NaN or infinite); it needs "
            "another start, smaller steps, or single precision",
            stacklevel=3,
        )


def call(model: nn.Module, x_MCHW: Tensor) -> Any:
    """The model's output for images (M, C, H, W).

    Raises:
        LimbeckError: it fails; for grey images it says how to give a model of coloured ones what it takes.
    """
    try:
        return model(x_MCHW)
    except LimbeckError:
        raise
    except Exception as error:
        colour = ""
        if x_MCHW.shape[1] == 1 and _takes(model, 3):
            colour = (
                "; if it takes three channels, repeat the grey one in front of it: "
                "nn.Sequential(limbeck.GreyToColour(), model)"
            )
        raise LimbeckError(
            f"The model fails on images of shape {tuple(x_MCHW.shape[1:])} (channels, height, width): "
            f"{describe_error(error)}{colour}."
        ) from error


def _takes(model: nn.Module, channels: int) -> bool:
    """Whether the first of a model's convolutions wants so many channels."""
    convolutions = (layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    return getattr(next(convolutions, None), "in_channels", None) == channels


def logits_of(output: Any, shape: tuple[int, ...]) -> Tensor:
    """The logits in what a model returns: itself, ``.logits``, an entry ``logits``, the first or the only tensor.

    Args:
        output: of the model.
        shape: (M, K), what the logits must have.

    Raises:
        LimbeckError: there are none, or they have another shape.
    """
    logits = find_logits(output)
    if not isinstance(logits, Tensor):
        raise LimbeckError(
            f"The model returns {type(output).__name__}; expected logits {shape}, or a tuple whose first element they "
            "are, or 'logits' in a dictionary or object."
        )
    if tuple(logits.shape) != shape:
        raise LimbeckError(
            f"The model gives outputs of shape {tuple(logits.shape)}; this set has {shape[1]} classes, "
            f"expected {shape}. Give the model {shape[1]} outputs."
        )
    return logits


def _precise(tensor: Tensor) -> Tensor:
    """At least in single precision."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor


def warn_of_another_start(model: nn.Module, weights: Tensors, *, stacklevel: int) -> None:
    """Warn where the model's parameters are not θ₀, by name in ``weights``."""
    own: dict[str, nn.Parameter] = trainable_parameters(model)
    buffers = dict(model.named_buffers())
    start = {name: value for name, value in weights.items() if name not in buffers}
    same = own.keys() == start.keys() and all(
        own[name].shape == value.shape
        and torch.equal(own[name].detach().cpu().to(value.dtype), value.to(own[name].dtype).to(value.dtype))
        for name, value in start.items()
    )
    if not same:
        warnings.warn(
            "this set was learned for one fixed initialisation, which the model does not have: expect little; "
            "run.network() has it",
            stacklevel=stacklevel + 1,
        )
