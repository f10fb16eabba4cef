"""Fields of a configuration that carry their own help: the command line and the tables of settings read it."""

from dataclasses import field
from typing import TypeVar

Value = TypeVar("Value")


def option(default: Value, help_text: str) -> Value:
    """A dataclass field with a default and the sentence that explains it."""
    return field(default=default, metadata={"help": help_text})
