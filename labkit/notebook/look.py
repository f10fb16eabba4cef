"""The path that the notebook room imports; the code is in `labkit.figures`, below the results board."""

from labkit.figures import (
    DASHES,
    INK,
    MARKERS,
    METRICS,
    PALETTE,
    PATTERNS,
    Row,
    check_choice,
    error_bars,
    figure,
    line_look,
    named,
    plain,
    plain_lines,
    stand_in_mark,
    titled,
)

__all__ = [
    "DASHES",
    "INK",
    "MARKERS",
    "METRICS",
    "PALETTE",
    "PATTERNS",
    "Row",
    "check_choice",
    "error_bars",
    "figure",
    "line_look",
    "named",
    "plain",
    "plain_lines",
    "stand_in_mark",
    "titled",
]
