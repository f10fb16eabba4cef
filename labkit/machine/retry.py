"""Try again while a server is busy or a connection is cut."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

ATTEMPTS = 4
BACKOFF = 0.5  # seconds before the second attempt; doubled for each one after it
PATIENCE = 60.0  # seconds that a server may ask for at most


def retrying(attempt: Callable[[], Answer], wait_after: Callable[[Exception], float | None]) -> Answer:
    """What `attempt` returns, tried up to ATTEMPTS times with growing waits.

    `wait_after` says of an error how many seconds the server asked to wait (0: nothing asked), or None where trying
    again is of no use: that error, and the last one, are raised.
    """
    for number in range(ATTEMPTS - 1):
        try:
            return attempt()
        except Exception as error:
            asked = wait_after(error)
            if asked is None:
                raise
            time.sleep(max(asked, BACKOFF * 2**number))
    return attempt()


def is_busy(status: int) -> bool:
    """Whether an HTTP status says to come back later."""
    return status == 429 or status >= 500


def asked_wait(retry_after: str | None) -> float:
    """Seconds of a Retry-After header, PATIENCE at most; 0 without one, or where it is a date."""
    if retry_after and retry_after.isdecimal():
        return min(float(retry_after), PATIENCE)
    return 0.0
