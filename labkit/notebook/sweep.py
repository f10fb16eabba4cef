"""The path that notebooks import; the code is in `labkit.results.sweep`."""

from labkit.results.sweep import ladder, planned, sweep, task

__all__ = ["ladder", "planned", "sweep", "task"]
