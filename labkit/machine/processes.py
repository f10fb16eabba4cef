"""How many processes work together in this run."""

import os


def n_processes() -> int:
    """Processes that were launched for this run (WORLD_SIZE, as torchrun and accelerate set it)."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(size) if size.isdigit() else 1
