"""Pictures for a terminal."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.preview import stretch

MOST_IMAGES, MOST_LINES = 20, 80


def print_images(console: Console, run: Distilled) -> None:
    """The first batch, two pixels to a character and as many images abreast as fit, or a few of its images.

    A few are at most ``MOST_IMAGES`` in about ``MOST_LINES`` lines, of as many classes as can be. Below stands how many
    the run has, if there are more. Of what is no images a sentence says so.
    """
    if run.kind != "images":
        noun = "rows of a table" if run.kind == "table" else "series"
        count = run.images.shape[0] * run.images.shape[1]
        console.print(
            f"{count:,} {noun}, which no picture shows; 'limbeck export' writes them as arrays", highlight=False
        )
        return
    _, _, height, width = run.images.shape[1:]
    abreast = max(1, (console.width - 1) // (width + 1))
    blocks = max(1, MOST_LINES // (height // 2 + 2))
    classes_M = run.labels[0].argmax(-1)
    most = min(MOST_IMAGES, blocks * abreast)
    indices = list(range(len(classes_M))) if len(classes_M) <= most else _spread(classes_M)[:most]
    for start in range(0, len(indices), abreast):
        block = indices[start : start + abreast]
        names = [run.class_names[int(classes_M[index])] for index in block]
        console.print(" ".join(f"{name[:width]:<{width}}" for name in names), highlight=False, no_wrap=True)
        for line in _half_blocks(run.images[0, block], console.color_system is not None):
            console.print(line, no_wrap=True)
    total = run.images.shape[0] * run.images.shape[1]
    if len(indices) < total:
        console.print(f"{len(indices)} of {total:,} images", highlight=False)


def _spread(classes_M: Tensor) -> list[int]:
    """Indices of a batch: the first of every class, then the second of every class, and so on."""
    turns: dict[int, int] = {}
    keys = []
    for index, k in enumerate(classes_M.tolist()):
        turns[k] = turns.get(k, -1) + 1
        keys.append((turns[k], k, index))
    return [index for _, _, index in sorted(keys)]


def _half_blocks(images_MCHW: Tensor, color: bool) -> list[Text]:
    """Lines of text, two rows of pixels each: coloured half blocks, or shades of ASCII where there is no colour."""
    ramp = " .:-=+*#%@"
    rgb = [stretch(x_CHW) for x_CHW in images_MCHW]
    tiles = [torch.nn.functional.pad(tile, (0, 0, 0, tile.shape[1] % 2)) for tile in rgb]
    lines = []
    for y in range(0, tiles[0].shape[1], 2):
        line = Text()
        for tile in tiles:
            for x in range(tile.shape[2]):
                upper, lower = tile[:, y, x].tolist(), tile[:, y + 1, x].tolist()
                if color:
                    line.append("▀", style="rgb({},{},{}) on rgb({},{},{})".format(*upper, *lower))
                else:
                    line.append(ramp[sum(upper + lower) * (len(ramp) - 1) // (6 * 255)])
            line.append(" ")
        lines.append(line)
    return lines
