"""One more detector and one more sensor for compoundwatch, found through the entry points in pyproject.toml."""
