"""Match the mean features of each class under random networks (Zhao and Bilen 2023, arXiv 2110.04181, eq. 5).

Shapes: N images, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from limbeck.common.augmentation import Augmentation
from limbeck.engine import Kernels, Objective, Tensors
from limbeck.methods.base import Method
from limbeck.methods.embedding import embed_images
from limbeck.methods.matching import Lesson, Matching, MatchingConfig, class_weights


@final
@dataclass(frozen=True, kw_only=True)
class DistributionConfig(MatchingConfig):
    """Distribution matching: learned images of a class have the mean features that real ones have.

    The features are those that the learner's last linear layer reads, with its initial weights: nothing is trained.
    """

    @property
    def suits(self) -> Mapping[str, Any]:
        return {"inits": 1, "real_batch": 1024, "lr_images": 0.1, "validate_every": 500, "validate_inits": 4}

    def build(self, goal: Objective | None = None) -> Method:
        self.refuse_goal(goal)
        return DistributionMatching(augmentation=self.augmentation)


@final
@dataclass(frozen=True, kw_only=True)
class DistributionMatching(Matching):
    """The sum over classes of squared distances between mean features of real and of learned images."""

    augmentation: Augmentation

    def distance(self, kernels: Kernels, network: Tensors, real: Lesson, learned: Lesson, age: int) -> Tensor:
        embed = partial(embed_images, kernels.learner.training_module, network)
        (real_NK, there_K), (learned_NK, _) = class_weights(real.y_NK), class_weights(learned.y_NK)
        with torch.no_grad():
            real_KF = real_NK.T @ embed(real.x_NCHW)
        difference_KF = real_KF - learned_NK.T @ embed(learned.x_NCHW)
        return difference_KF[there_K].square().sum()
