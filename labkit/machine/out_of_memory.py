"""Out of memory, on a GPU or a CPU, said in one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from labkit.errors import OutOfMemory
from labkit.machine.device import free_memory, is_out_of_memory
from labkit.machine.one_line import first_line

__all__ = ["free_memory", "is_out_of_memory", "memory_errors"]


@contextmanager
def memory_errors(action: str | Callable[[], str]) -> Iterator[None]:
    """Out of memory, on a GPU or a CPU, becomes one line with `action`, which may take some finding out.

    Raises:
        OutOfMemory: the memory was full.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is one of the latter
        if not is_out_of_memory(error):
            raise
        advice = action if isinstance(action, str) else action()
        raise OutOfMemory("out of memory", first_line(error), advice) from error
