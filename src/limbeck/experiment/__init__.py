"""What a run is to be: its configuration, the task, how it is computed, and what is built from that."""

from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig, EngineConfig, InitConfig, OuterConfig
from limbeck.experiment.progress import Progress, Reporter, Several, Silent
from limbeck.experiment.task import task_of

__all__ = [
    "AttackConfig",
    "Config",
    "EngineConfig",
    "InitConfig",
    "OuterConfig",
    "Progress",
    "Reporter",
    "Several",
    "Silent",
    "task_of",
]
