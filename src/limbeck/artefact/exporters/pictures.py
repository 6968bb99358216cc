"""A folder of pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import final

from PIL import Image

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.exporters.base import Exporter
from limbeck.artefact.preview import stretch
from limbeck.common.files import write_json


@final
class PngExporter(Exporter):
    """``step-0001/000-class.png`` for the first image of the first batch, and ``labels.json`` with all labels.

    Learned images are unbounded: each picture goes from its own 2nd to its own 98th percentile.
    """

    name = "png"
    suffix = ""
    writes = "a folder of PNG pictures"

    def is_own(self, name: str) -> bool:
        return re.fullmatch(r"step-\d{4,}/\d{3,}-\w*\.png", name) is not None

    def write(self, run: Distilled, path: Path) -> None:
        """A folder for each batch; raises LimbeckError for what is no images."""
        run.need_pictures()
        for s, (images_MCHW, labels_MK) in enumerate(zip(run.images, run.labels, strict=True)):
            folder = path / f"step-{s + 1:04d}"
            folder.mkdir(parents=True)
            for m, (x_CHW, label) in enumerate(zip(images_MCHW, labels_MK.argmax(-1).tolist(), strict=True)):
                word = "".join(c if c.isalnum() else "_" for c in run.class_names[label])
                picture = Image.fromarray(stretch(x_CHW).permute(1, 2, 0).contiguous().numpy())
                picture.save(folder / f"{m:03d}-{word}.png")
        write_json(path / "labels.json", {"classes": list(run.class_names), "labels": run.labels.tolist()})
