"""Pools of trained networks, and images that move them to other data."""

from limbeck.pools.adapt import AdaptSettings, adapt_config, adapt_outer
from limbeck.pools.config import PoolConfig
from limbeck.pools.pool import Pool, open_card, open_pool
from limbeck.pools.train import make_pool

__all__ = ["AdaptSettings", "Pool", "PoolConfig", "adapt_config", "adapt_outer", "make_pool", "open_card", "open_pool"]
