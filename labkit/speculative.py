"""The path that notebook 1 imports; the code is in `labkit.decoding.speculative`."""

from labkit.decoding.speculative import speculative

__all__ = ["speculative"]
