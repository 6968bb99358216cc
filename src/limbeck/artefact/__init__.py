"""A learned set as people pass it on: tensors and their recipe, the run directory, card, picture, exports."""

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.exporters import EXPORTERS, Exporter
from limbeck.artefact.exporting import export
from limbeck.artefact.run_directory import RunDirectory

__all__ = ["EXPORTERS", "Distilled", "Exporter", "RunDirectory", "export"]
