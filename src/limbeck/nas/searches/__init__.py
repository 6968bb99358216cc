"""Searching a space: strategies, trials in a study, workers anywhere, and going on after any kill."""
