"""The published comparisons of proxies and searches (Such et al. 2019), and their figures."""
