"""A learned set in the formats of other tools: one ``.npz`` file, or a folder of pictures.

Shapes: S batches, M images a batch, K classes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.preview import stretched
from limbeck.common.files import write_atomically, write_json
from limbeck.errors import LimbeckError


def export(run: Distilled, path: Path, *, overwrite: bool = False) -> int:
    """Write a set to ``path`` and return the number of images.

    A path that ends in ``.npz`` becomes one file: ``images`` (S, M, C, H, W) as they were learned, ``pixels`` the same
    in the units of a picture (about 0 to 1, not clipped), ``labels`` (S, M, K), ``order`` (T,) and, (T,) each,
    ``hyperparameters.NAME``. Any other path becomes a folder ``step-0001/000-class.png``, each picture stretched to its
    own range, with ``labels.json`` beside.

    Raises:
        LimbeckError: there is something at ``path`` already, or it cannot be written.
    """
    if path.exists() and not overwrite:
        raise LimbeckError(f"{path} exists; choose another --out, or --overwrite it.")
    if path.suffix.lower() == ".npz":
        arrays = {
            "images": run.images,
            "pixels": run.preprocessing.invert(run.images),
            "labels": run.labels,
            **run.training.tensors(),
        }
        write_atomically(path, lambda part: _write_npz(part, {k: v.numpy() for k, v in arrays.items()}))
    else:
        if path.exists() and not path.is_dir():
            raise LimbeckError(f"{path} is a file; a set of pictures needs a folder, one file of arrays ends in .npz.")
        for s, batch in enumerate(run.images):
            names = [run.class_names[int(k)] for k in run.labels[s].argmax(-1)]
            for m, (x_CHW, name) in enumerate(zip(batch, names, strict=True)):
                picture = Image.fromarray(stretched(x_CHW).permute(1, 2, 0).contiguous().numpy())
                safe = "".join(c if c.isalnum() else "_" for c in name)
                file = path / f"step-{s + 1:04d}" / f"{m:03d}-{safe}.png"
                write_atomically(file, partial(picture.save, format="PNG"))
        write_json(path / "labels.json", {"classes": list(run.class_names), "labels": run.labels.tolist()})
    return run.images.shape[0] * run.images.shape[1]


def _write_npz(part: Path, arrays: dict[str, np.ndarray]) -> None:
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
