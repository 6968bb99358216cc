"""Networks that other packages have by the name that someone typed."""

from __future__ import annotations

import importlib
import importlib.util
import re


def found_elsewhere(name: str) -> str | None:
    """A network of that name in another package, as a learner is named; None where it looks like none of theirs."""
    homes = {"torchvision": "torchvision.models", "timm": "timm"}
    there = [package for package in homes if importlib.util.find_spec(package) is not None]
    for package in there:
        if callable(getattr(importlib.import_module(homes[package]), name, None)):
            return f"'{homes[package]}:{name}'"
    if there or not re.match(
        r"(wide_)?(resnet|resnext|vgg|densenet|mobilenet|efficientnet|convnext|vit|swin|regnet)", name
    ):
        return None
    return f"'torchvision.models:{name}' or 'timm:{name}' (of packages that are not installed)"
