"""Random search: each architecture once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from limbeck.nas.searches.strategy import Question
from limbeck.nas.spaces.base import Arch

TRIES: Final = 100
"""Draws after which an architecture is taken again: few can be left that were not tried."""


def propose_unseen(question: Question, settings: Mapping[str, int]) -> Arch:
    """An architecture that no trial has had, drawn uniformly."""
    space, rng = question.space, question.rng()
    seen = {space.text(arch) for arch, _ in question.history} | {space.text(arch) for arch in question.mates}
    for _ in range(TRIES):
        arch = space.sample(rng)
        if space.text(arch) not in seen:
            break
    return arch
