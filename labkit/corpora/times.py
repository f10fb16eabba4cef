"""Times of day: HH:MM and minutes after midnight."""

import re
from functools import lru_cache

_TIME = re.compile(r"([0-9]{2}):([0-9]{2,9})")  # nine digits at most: int() refuses to read thousands of them


def clock(minutes: int) -> str:
    """Minutes after midnight as HH:MM.

    >>> clock(545)
    '09:05'
    """
    hours, rest = divmod(minutes, 60)
    return f"{hours:02}:{rest:02}"


@lru_cache(maxsize=2**14)
def minutes(time: str) -> int:
    """Minutes after midnight of a text that begins with HH:MM, 0 of any other.

    >>> minutes("09:05"), minutes("soon")
    (545, 0)
    """
    match = _TIME.match(time)
    if match is None:
        return 0
    return 60 * int(match[1]) + int(match[2])
