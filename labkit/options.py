"""A setting of a frozen dataclass, with the sentence that the command line prints about it."""

from dataclasses import field
from typing import Any


def option(default: Any, help: str) -> Any:  # Any: a dataclass field of whatever type its default has
    """A dataclass field with a default, and what it means in one phrase (`field.metadata["help"]`)."""
    return field(default=default, metadata={"help": help})
