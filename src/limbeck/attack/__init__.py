"""What one bad batch does to trained networks, and the defender's view."""

from limbeck.attack.config import AttackSettings, attack_config, attack_outer
from limbeck.attack.report import AttackReport, AttackRow, attack_report

__all__ = ["AttackReport", "AttackRow", "AttackSettings", "attack_config", "attack_outer", "attack_report"]
