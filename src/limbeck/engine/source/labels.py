"""Where learned labels start: logits of distributions that favour one class."""

from __future__ import annotations

import math

from torch import Tensor

from limbeck.errors import LimbeckError


def label_logits(one_hot: Tensor, confidence: float, option: str) -> Tensor:
    """Logits (..., K) whose softmax gives the class of ``one_hot`` (..., K) the probability ``confidence``.

    Raises:
        LimbeckError: a confidence, given as ``option``, that does not favour the own class: not above 1/K.
    """
    classes = one_hot.shape[-1]
    if confidence * classes <= 1:
        raise LimbeckError(f"{option} is {confidence}; with {classes} classes it must lie above 1/{classes}.")
    off = (1 - confidence) / (classes - 1)
    return math.log(confidence / off) * one_hot
