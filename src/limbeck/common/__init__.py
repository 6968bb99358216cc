"""What every room may use: files that are never half-written, names with options, seeds, provenance, charts."""
