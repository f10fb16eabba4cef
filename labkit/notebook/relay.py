"""The path that notebooks import; the code is in `labkit.results.relay`."""

from labkit.results.relay import adapter, own_adapter

__all__ = ["adapter", "own_adapter"]
