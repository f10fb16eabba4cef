"""Silence for loggers and progress bars that tell a student nothing."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Without the loggers and progress bars that tell a student nothing; errors still come through."""
    from transformers.utils import logging as bars

    shown, before = bars.is_progress_bar_enabled(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(before)
        if shown:
            bars.enable_progress_bar()
