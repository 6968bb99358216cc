"""Data as new users bring it, made on the spot: a folder of pictures, an ``.npz`` file, a CSV file, series."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.float64]

SHAPES: Final = ("circle", "cross", "square")


def shape_on_noise(name: str, size: int, rng: np.random.Generator, *, colours: int = 1) -> npt.NDArray[np.uint8]:
    """One of ``SHAPES`` of random size, place and brightness on noise, (size, size) or (size, size, 3)."""
    y, x = np.mgrid[:size, :size]
    radius = rng.uniform(0.2, 0.35) * size
    row, column = rng.uniform(radius, size - radius, 2)
    down, right = np.abs(y - row), np.abs(x - column)
    width = max(1.0, 0.25 * radius)
    inside = {
        "circle": np.abs(np.hypot(down, right) - radius) < width,
        "cross": (np.minimum(down, right) < width) & (np.maximum(down, right) < radius),
        "square": np.abs(np.maximum(down, right) - radius) < width,
    }[name]
    image = rng.normal(90, 30, (size, size, colours)) + inside[..., None] * rng.uniform(70, 130, colours)
    pixels: npt.NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return pixels.reshape(size, size) if colours == 1 else pixels


def folder_of_shapes(folder: Path, *, images: int = 450, size: int = 64, colours: int = 1, seed: int = 0) -> Path:
    """A folder for each of ``SHAPES`` with PNG pictures, most of them ``size`` pixels wide, some larger or smaller."""
    rng = np.random.default_rng(seed)
    for index in range(images):
        name = SHAPES[index % len(SHAPES)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.choice([size, size, size, 3 * size // 4, 5 * size // 4])
        picture = Image.fromarray(shape_on_noise(name, int(pixels), rng, colours=colours))
        picture.save(folder / name / f"{index:04d}.png")
    return folder


def unbalanced_digits(path: Path) -> Path:
    """scikit-learn's digits 3, 5 and 8 as ``.npz``: 300, 100 and 30 examples in a file, as far as there are so many.

    There are some 180 of each, so the first class is filled up with copies shifted by a pixel.
    """
    x, y = _digits()
    parts = []
    for label, count in ((3, 300), (5, 100), (8, 30)):
        members = x[y == label]
        shifted = np.roll(members, 1, axis=2)
        parts.append(np.concatenate([members, shifted])[:count])
    labels = np.repeat([3, 5, 8], [len(part) for part in parts])
    np.savez(path, x=np.concatenate(parts), y=labels)
    return path


def wine(path: Path) -> Path:
    """scikit-learn's wine as CSV, its 13 features as they are."""
    from sklearn.datasets import load_wine

    data: Any = load_wine()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(name.replace("/", "_") for name in data.feature_names), "wine"])
        writer.writerows([*row, data.target_names[label]] for row, label in zip(data.data, data.target, strict=True))
    return path


def rows_of_digits(path: Path) -> Path:
    """scikit-learn's digits as series of 8 steps with 8 channels, (N, 8, 8), in an ``.npz`` file."""
    x, y = _digits()
    np.savez(path, x=x.transpose(0, 2, 1), y=y)
    return path


def _digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """scikit-learn's digits: images (N, 8, 8) within 0 to 1, and classes."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return (data.images / 16).astype(np.float32), data.target
