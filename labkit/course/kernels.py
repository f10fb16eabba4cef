"""Notebooks run without a browser, so that Ctrl-C and SIGTERM end them and their kernel."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nbclient import NotebookClient


class StoppableClient(NotebookClient):
    """A client that a signal stops. nbclient's own handler takes the kernel away and then fails an assertion."""

    stopped = False

    async def async_start_new_kernel(self, **options: object) -> None:  # the kernel manager's
        """Called by nbclient when it has set its own handlers."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()

        def stop() -> None:
            self.stopped = True
            self.shutdown_kernel = "immediate"  # one that is asked to stop may print a traceback of its own
            task.cancel()  # nbclient then takes the kernel and its children away

        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop)
        except RuntimeError:  # Windows, or a thread: the interrupt is raised in the main thread as ever
            pass
        await super().async_start_new_kernel(**options)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread only
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
