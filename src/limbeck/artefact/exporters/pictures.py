"""A folder of pictures."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Final, final

from PIL import Image

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.drawing import refuse_without_pictures
from limbeck.artefact.exporters.base import Exporter
from limbeck.artefact.exporters.npz import NpzExporter
from limbeck.artefact.preview import stretch
from limbeck.common.files import write_json, write_text

VALUES: Final = "images.npz"
"""The exact values beside the pictures."""

README: Final = """\
# Learned images of {name} as pictures

The pictures are to be looked at, not to be trained on: {text}.

`{values}` has the exact values: `images` as they were learned (normalised), `pixels` in the units of a picture (not
clipped), `labels`, and how a network is trained on them (`order`, `hyperparameters.lr` and so on). `labels.json` has
the labels of the pictures.
"""


@final
class PngExporter(Exporter):
    """``step-0001/000-class.png`` for the first image of the first batch, and ``labels.json`` with all labels.

    Learned images are unbounded: each picture goes from its own 2nd to its own 98th percentile. They are to be looked
    at; the values to train on are in ``images.npz`` beside them, and ``README.md`` says so.
    """

    name = "png"
    suffix = ""
    writes = "a folder of PNG pictures"

    def is_own(self, name: str) -> bool:
        return re.fullmatch(r"step-\d{4,}/\d{3,}-\w*\.png", name) is not None

    def write(self, run: Distilled, path: Path) -> None:
        """A folder for each batch; warns that pictures are not the values. LimbeckError for what is no images."""
        refuse_without_pictures(run)
        for s, (images_MCHW, labels_MK) in enumerate(zip(run.images, run.labels, strict=True)):
            folder = path / f"step-{s + 1:04d}"
            folder.mkdir(parents=True)
            for m, (x_CHW, label) in enumerate(zip(images_MCHW, labels_MK.argmax(-1).tolist(), strict=True)):
                word = "".join(c if c.isalnum() else "_" for c in run.class_names[label])
                picture = Image.fromarray(stretch(x_CHW).permute(1, 2, 0).contiguous().numpy())
                picture.save(folder / f"{m:03d}-{word}.png")
        write_json(path / "labels.json", {"classes": list(run.class_names), "labels": run.labels.tolist()})
        NpzExporter().write(run, path / VALUES)
        text = describe_loss(run)
        write_text(path / "README.md", README.format(name=run.config.data, values=VALUES, text=text))
        warnings.warn(f"{text}; the exact values are in {VALUES} in the same folder, train on those", stacklevel=3)


def describe_loss(run: Distilled) -> str:
    """How much of a set pictures cannot show, with numbers."""
    pixels = run.preprocessing.invert(run.images)
    outside = 100 * float(((pixels < 0) | (pixels > 1)).double().mean())
    return (
        f"pictures of learned images are stretched, clipped and rounded to bytes: the learned pixels go from "
        f"{float(pixels.min()):.2f} to {float(pixels.max()):.2f} where those of a picture go from 0 to 1, and "
        f"{outside:.0f} % of them lie outside"
    )
