"""Proxies: what scores an architecture without training it to the end, and their names on the command line."""

from __future__ import annotations

from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.ghn import GraphHyperNetwork
from limbeck.nas.proxies.named import PROXIES, proxy_named, proxy_names
from limbeck.nas.proxies.predictor import CurvePredictor, EncodingPredictor, learning_curve
from limbeck.nas.proxies.sharing import WeightSharing
from limbeck.nas.proxies.trained import RealData, SyntheticData
from limbeck.nas.proxies.zero_cost import ZeroCost

__all__ = [
    "PROXIES",
    "CurvePredictor",
    "EncodingPredictor",
    "GraphHyperNetwork",
    "Proxy",
    "RealData",
    "Scorer",
    "SyntheticData",
    "Task",
    "Tell",
    "WeightSharing",
    "ZeroCost",
    "learning_curve",
    "proxy_named",
    "proxy_names",
]
