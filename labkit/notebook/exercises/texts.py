"""What `exercises.toml` holds of each exercise: its title and hints, and the cases that its answer is tried on."""

from functools import cache
from typing import Any

from labkit.storage import shipped


@cache
def texts() -> dict[str, dict[str, Any]]:  # Any: TOML, a text, a list or a table
    """{exercise id: what the file says of it}."""
    return shipped(__file__, "exercises.toml")


def cases(id: str) -> list[dict[str, Any]]:  # Any: the arguments of a call, as the checker reads them
    """The cases of an exercise, each a table of what a call gets and, perhaps, what it should return."""
    return texts()[id]["cases"]
