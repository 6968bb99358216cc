"""One ``.npz`` file of arrays.

Shapes: S batches, M images a batch, T steps, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.exporters.base import Exporter


@final
class NpzExporter(Exporter):
    """One file with everything but a generator.

    Its arrays are ``images`` (S, M, C, H, W) as they were learned, ``pixels`` the same in the units of a picture (about
    0 to 1, not clipped), ``labels`` (S, M, K), ``order`` (T,) and, (T,) each, ``hyperparameters.NAME``.
    """

    name = "npz"
    suffix = ".npz"
    writes = "one .npz file of arrays"

    def write(self, run: Distilled, path: Path) -> None:
        """Compressed; the same set gives the same bytes."""
        arrays: dict[str, Any] = {
            "images": run.images.numpy(),
            "pixels": run.preprocessing.invert(run.images).numpy(),
            "labels": run.labels.numpy(),
            **{name: value.numpy() for name, value in run.training.tensors().items()},
        }
        np.savez_compressed(path, **arrays)
