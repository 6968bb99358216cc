"""Modules that need a package which is not there are not searched for doctests."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("art") else ["src/limbeck/art.py"]
