"""A picture of a learned set: one row per batch, one column per image, the step sizes underneath."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from limbeck.artefact.drawing import refuse_without_pictures
from limbeck.evaluation.training import LearnedSchedule

if TYPE_CHECKING:
    from limbeck.artefact.distilled import Distilled


def preview(result: Distilled, cell: int = 56, rows: int = 10) -> Image.Image:
    """A picture of a set: a row for each batch, and how the batch is used underneath.

    Each image is stretched to its own 2nd to 98th percentile: learned images are unbounded, and a common scale would
    hide their structure.

    Args:
        result: the set.
        cell: width and height of an image in the picture, in pixels.
        rows: batches at most, evenly spaced from the first to the last; of each, 30 images at most.

    Raises:
        LimbeckError: what was learned is no images.
    """
    refuse_without_pictures(result)
    total = result.images.shape[0]
    indices = torch.linspace(0, total - 1, min(rows, total)).round().long()
    images_SMCHW = result.images[indices, :30]
    batches, columns = images_SMCHW.shape[:2]
    band, margin = 18, 4
    width = columns * (cell + margin) + margin
    sheet = Image.new("RGB", (width, batches * (cell + margin + band) + margin + band), "white")
    draw = ImageDraw.Draw(sheet)
    names = result.labels[indices, :columns].argmax(-1)
    same = bool((names == names[0]).all())  # a generator's batches may have labels of their own
    for m in range(columns if same else 0):
        name = result.class_names[int(names[0, m])]
        draw.text((margin + m * (cell + margin) + 2, 3), name[:9], fill="black")
    for s in range(batches):
        top = band + s * (cell + margin + band)
        for m in range(columns):
            pixels = stretch(images_SMCHW[s, m]).permute(1, 2, 0).contiguous().numpy()
            tile = Image.fromarray(pixels).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(tile, (margin + m * (cell + margin), top))
            if not same:
                name = result.class_names[int(names[s, m])]
                draw.text((margin + m * (cell + margin) + 2, top + 1), name[:9], fill="red")
        draw.text((margin + 2, top + cell + 3), _describe_use(result, int(indices[s])), fill="gray")
    return sheet


def _describe_use(result: Distilled, batch: int) -> str:
    """How a batch is used: its step sizes, where steps were learned."""
    training = result.training
    if not isinstance(training, LearnedSchedule):
        return f"batch {batch + 1}: {training.description}"
    steps = [step for step, index in enumerate(training.order.tolist()) if index == batch]
    rates = [f"{float(training.hyperparameters['lr'][step]):.3g}" for step in steps]
    return f"step {batch + 1}: step sizes {', '.join(rates)}"


def stretch(x_CHW: Tensor) -> Tensor:
    """An image between its 2nd and 98th percentile as uint8 RGB, (3, H, W); other than 3 channels show the first."""
    low, high = torch.quantile(x_CHW.float(), torch.tensor([0.02, 0.98], dtype=torch.float32))
    scaled = ((x_CHW - low) / (high - low).clamp_min(1e-8)).clamp(0, 1)
    rgb = scaled if scaled.shape[0] == 3 else scaled[:1].expand(3, -1, -1)
    pixels: Tensor = (255 * rgb).round().byte()
    return pixels
