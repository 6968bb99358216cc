"""Networks that other packages have by the name that someone typed."""

from __future__ import annotations

import importlib
import importlib.util
import re

from limbeck.models.zoo import ZOOS


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
