"""Independent jobs side by side on a CPU: each in a thread of its own, so that threads need not meet in every product.

Threads that share out every matrix product meet some hundred times a second. Where they sleep while they wait,
meeting is slow on a virtual machine, and where they spin, whatever else runs there slows them down (see
tests/benchmarks/against.md).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

Map = Callable[..., Iterator]


@contextmanager
def side_by_side(n_jobs: int) -> Iterator[Map]:
    """A `map` that shares torch's threads out among so many jobs. Results come in the order of the jobs.

    With as many jobs as threads or more, each job computes on one thread, and so the same on any number of threads.
    """
    import torch

    n_threads = torch.get_num_threads()
    n_workers = min(n_jobs, n_threads)
    if n_workers < 2:
        yield map
        return
    torch.set_num_threads(n_threads // n_workers)  # of each: a new thread takes over what was said last
    try:
        with ThreadPoolExecutor(n_workers) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(n_threads)
