"""Out of memory, on a GPU or a CPU, recognised and said in one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from labkit.errors import OutOfMemory
from labkit.machine.one_line import first_line


@contextmanager
def memory_errors(action: str | Callable[[], str]) -> Iterator[None]:
    """Out of memory, on a GPU or a CPU, becomes one line with `action`, which may take some finding out."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is one of the latter
        signs = ("not enough memory", "can't allocate memory", "create a primitive")  # the last is oneDNN's
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)):
            raise
        raise OutOfMemory(
            "out of memory", first_line(error), action if isinstance(action, str) else action()
        ) from error
