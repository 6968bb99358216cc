"""Learners that read along the width of their input: 1-D convolutions and recurrent networks.

A series (C, 1, T) is read step by step; an image (C, H, W) column by column, C · H values each; a table is one step.
Everything is written in operations that go through `functional_call`, `vmap` and forward-mode AD.
Shapes: N examples, C channels, H x W pixels, F = C · H values a step, T steps, K classes.
"""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.models.nets import Norm, Shape, check_shape, normalisation

_MOST_STEPS: Final = 512
"""Steps of a recurrent network at most: each is a layer to differentiate through twice."""


@final
class Conv1d(nn.Module):
    """1-D convolutions along the steps, then the mean over them and one linear layer.

    Each block is a convolution that keeps the length, a normalisation, a rectifier, and the mean of two neighbours
    while there are two.

    Args:
        shape: channels, height, width of an example; T is the width.
        num_classes: K, at least 1.
        width: channels of every block, at least 1 (a multiple of 4 for `norm="group"`).
        depth: number of blocks, at least 1.
        kernel: steps that a convolution sees, an odd number.
        norm: as for `ConvNet`.

    Raises:
        LimbeckError: sizes that are too small, or an even kernel.
    """

    def __init__(
        self, shape: Shape, num_classes: int, width: int = 64, depth: int = 3, kernel: int = 5, norm: Norm = "group"
    ) -> None:
        super().__init__()
        channels, height, steps = check_shape(shape, num_classes)
        if min(width, depth) < 1 or kernel < 1 or kernel % 2 == 0:
            raise LimbeckError(
                "A 1-D convolutional learner needs width and depth of at least 1 and an odd kernel, not width "
                f"{width}, depth {depth} and kernel {kernel}."
            )
        features, blocks = channels * height, list[nn.Module]()
        for _ in range(depth):
            # As a convolution in two dimensions, one of which is 1: the engine's derivatives are tried with these.
            convolution = nn.Conv2d(features, width, (1, kernel), padding=(0, kernel // 2))
            blocks += [convolution, *normalisation(norm, width, (1, steps)), nn.ReLU()]
            if steps > 1:
                blocks.append(HalveSteps())
                steps //= 2
            features = width
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) examples -> (N, K) logits."""
        x_NF1T = x_NCHW.flatten(1, 2).unsqueeze(2)
        logits: Tensor = self.head(self.features(x_NF1T).mean((2, 3)))
        return logits


@final
class HalveSteps(nn.Module):
    """The mean of each two neighbours along the last axis; an odd length loses its last."""

    def forward(self, x_NC1T: Tensor) -> Tensor:
        """(N, C, 1, T) -> (N, C, 1, T // 2)."""
        even = x_NC1T.shape[-1] // 2 * 2
        return (x_NC1T[..., 0:even:2] + x_NC1T[..., 1:even:2]) / 2


@final
class Rnn(nn.Module):
    """A plain recurrent network, h' = tanh(W x + U h + b), whose last state one linear layer reads.

    Args:
        shape: channels, height, width of an example; T is the width, at most 512.
        num_classes: K, at least 1.
        hidden: entries of the state, at least 1.

    Raises:
        LimbeckError: no hidden entry, or too many steps.
    """

    def __init__(self, shape: Shape, num_classes: int, hidden: int = 64) -> None:
        super().__init__()
        features = _step_features("rnn", shape, num_classes, hidden)
        self.input = nn.Linear(features, hidden)
        self.state = nn.Linear(hidden, hidden, bias=False)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) examples -> (N, K) logits."""
        steps = self.input(_steps_first(x_NCHW)).unbind(1)
        h = torch.tanh(steps[0])  # from a state of zeros
        for step in steps[1:]:
            h = torch.tanh(step + self.state(h))
        logits: Tensor = self.head(h)
        return logits


@final
class Gru(nn.Module):
    """A network of gated recurrent units (Cho et al. 2014, arXiv 1406.1078), whose last state one linear layer reads.

    With gates r and z of x and h, it is h' = z h + (1 - z) tanh(W x + b + r (U h + c)).

    Args:
        shape: channels, height, width of an example; T is the width, at most 512.
        num_classes: K, at least 1.
        hidden: entries of the state, at least 1.

    Raises:
        LimbeckError: no hidden entry, or too many steps.
    """

    def __init__(self, shape: Shape, num_classes: int, hidden: int = 64) -> None:
        super().__init__()
        features = _step_features("gru", shape, num_classes, hidden)
        self.hidden = hidden
        self.input = nn.Linear(features, 3 * hidden)
        self.state = nn.Linear(hidden, 3 * hidden)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) examples -> (N, K) logits."""
        inputs = self.input(_steps_first(x_NCHW)).unbind(1)
        h = torch.zeros_like(inputs[0][..., : self.hidden])
        for given in inputs:
            r_x, z_x, n_x = given.split(self.hidden, -1)
            r_h, z_h, n_h = self.state(h).split(self.hidden, -1)
            z = torch.sigmoid(z_x + z_h)
            h = z * h + (1 - z) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        logits: Tensor = self.head(h)
        return logits


def _steps_first(x_NCHW: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, T, F)."""
    return x_NCHW.flatten(1, 2).transpose(1, 2)


def _step_features(name: str, shape: Shape, num_classes: int, hidden: int) -> int:
    channels, height, steps = check_shape(shape, num_classes)
    if hidden < 1:
        raise LimbeckError(f"The learner '{name}' needs hidden of at least 1, not {hidden}.")
    if steps > _MOST_STEPS:
        raise LimbeckError(
            f"The learner '{name}' would take {steps:,} steps on series of that length, {_MOST_STEPS} at most; shorten "
            "them, or use 'conv1d'."
        )
    return channels * height
