"""A learned set in the formats of other tools. A new one is a file in this folder and a line in ``EXPORTERS``."""

from __future__ import annotations

from limbeck.artefact.exporters.base import Exporter
from limbeck.artefact.exporters.npz import NpzExporter
from limbeck.artefact.exporters.pictures import PngExporter

__all__ = ["EXPORTERS", "Exporter"]

EXPORTERS: tuple[Exporter, ...] = (  # asked in this order; the first is the default
    NpzExporter(),
    PngExporter(),
)
