"""Something that keeps the lab from running as asked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something that keeps the lab from running as asked, and what to do about it."""

    what: str
    action: str
