"""Architecture search: spaces of networks, proxies that score them, and the search itself."""

from limbeck.nas.proxies.base import Proxy, Scorer, Task
from limbeck.nas.searches.crew import SearchWorkers
from limbeck.nas.searches.ledger import Trial
from limbeck.nas.searches.place import SearchPlace
from limbeck.nas.searches.result import SearchResult, read_search, read_searches
from limbeck.nas.searches.run import SearchProgress, search
from limbeck.nas.searches.strategies import SearchConfig
from limbeck.nas.spaces.base import Arch, Graph, Node, Space
from limbeck.nas.training import Schedule

__all__ = [
    "Arch",
    "Graph",
    "Node",
    "Proxy",
    "Schedule",
    "Scorer",
    "SearchConfig",
    "SearchPlace",
    "SearchProgress",
    "SearchResult",
    "SearchWorkers",
    "Space",
    "Task",
    "Trial",
    "read_search",
    "read_searches",
    "search",
]
