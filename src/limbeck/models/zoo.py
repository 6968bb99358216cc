"""Networks of timm and torchvision: suggested by name, and as learners whose head and first layer fit the data."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from limbeck.errors import LimbeckError

ZOOS = ("timm", "torchvision.models")


def found_elsewhere(name: str) -> str | None:
    """A network of that name in another package, as a learner is named; None where it looks like none of theirs."""
    there = [zoo for zoo in ZOOS if importlib.util.find_spec(zoo.split(".")[0]) is not None]
    for zoo in there:
        if _has_model(zoo, name):
            return f"'{zoo}:{name}'"
    if there or not re.match(
        r"(wide_)?(resnet|resnext|vgg|densenet|mobilenet|efficientnet|convnext|vit|swin|regnet)", name
    ):
        return None
    return f"'torchvision.models:{name}' or 'timm:{name}' (of packages that are not installed)"


def _has_model(zoo: str, name: str) -> bool:
    try:
        module = importlib.import_module(zoo)
        return bool(module.is_model(name)) if zoo == "timm" else callable(getattr(module, name, None))
    except Exception:  # installed, but not in working order
        return False


def zoo_function(zoo: str, name: str) -> Callable[..., nn.Module]:
    """What makes the network of that name for ``num_classes``, ``in_channels`` and, where it asks, ``image_size``.

    Args:
        zoo: of ``ZOOS``.
        name: of a model of that package, such as ``resnet18``.

    Raises:
        LimbeckError: the package is not installed.
    """
    package = zoo.split(".")[0]
    try:
        module = importlib.import_module(zoo)
    except (Exception, SystemExit) as error:
        raise LimbeckError(
            f"The learner '{zoo}:{name}' needs {package}, which cannot be imported here ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else error}); pip install 'limbeck[{package}]'."
        ) from error
    return _of_timm(module, name) if zoo == "timm" else _of_torchvision(module, zoo, name)


def _of_timm(timm: Any, name: str) -> Callable[..., nn.Module]:
    def make(
        num_classes: int, in_channels: int, image_size: int | None = None, shape: object = None, **options: Any
    ) -> nn.Module:
        settings = {"num_classes": num_classes, "in_chans": in_channels, **options}
        try:  # transformers are made for one size
            network: nn.Module = timm.create_model(name, img_size=image_size, **settings)
        except TypeError:
            network = timm.create_model(name, **settings)
        return network

    return make


def _of_torchvision(models: Any, zoo: str, name: str) -> Callable[..., nn.Module]:
    function = getattr(models, name, None)
    if not callable(function):
        raise LimbeckError(f"torchvision has no model '{name}'; see torchvision.models.list_models().")

    def make(
        num_classes: int, in_channels: int, image_size: int | None = None, shape: object = None, **options: Any
    ) -> nn.Module:
        if name.startswith("vit_"):
            options = {"image_size": image_size} | options
        if name in ("googlenet", "inception_v3"):
            options = {"aux_logits": False, "init_weights": True} | options
        network: nn.Module = function(num_classes=num_classes, **options)
        return with_channels(network, in_channels)

    return make


def with_channels(network: nn.Module, channels: int) -> nn.Module:
    """The network with a first convolution for images of so many channels, drawn anew if they were others."""
    for layer in network.modules():
        for name, child in layer._modules.items():
            if isinstance(child, nn.Conv2d):
                if child.in_channels != channels:
                    kernel, stride, padding, dilation = child.kernel_size, child.stride, child.padding, child.dilation
                    setattr(
                        layer,
                        name,
                        nn.Conv2d(
                            channels,
                            child.out_channels,
                            kernel,  # type: ignore[arg-type]
                            stride,  # type: ignore[arg-type]
                            padding,  # type: ignore[arg-type]
                            dilation,  # type: ignore[arg-type]
                            bias=child.bias is not None,
                        ),
                    )
                return network
    return network
