"""Independent jobs side by side on a CPU: each in a thread of its own, so that threads need not meet in every product.

Threads that share out every matrix product meet some hundred times a second. Where they sleep while they wait,
meeting is slow on a virtual machine, and where they spin, whatever else runs there slows them down (see
tests/benchmarks/against.md).
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from threading import Event
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Job], Result], jobs: Sequence[Job], nobody_waits: Event | None = None
) -> Iterator[Result]:
    """What `work` makes of each job, in the order of the jobs; torch's threads are shared out among them.

    With as many jobs as threads or more, each job computes on one thread. An error ends the others before it is raised:
    those that have begun go on to their end, or to where they see that `nobody_waits`, which is set then.
    """
    import torch

    n_threads = torch.get_num_threads()
    n_workers = min(len(jobs), n_threads)
    if n_workers < 2:
        yield from map(work, jobs)
        return
    n_each = n_threads // n_workers
    pool = _pool(n_threads // n_each, n_each)
    running: deque[Future] = deque()
    torch.set_num_threads(n_each)
    try:
        running.extend(pool.submit(work, job) for job in jobs)
        while running:
            wait([running[0]])  # it is among the running ones while an interrupt may come
            yield running.popleft().result()  # what was given out is not kept
    finally:
        if nobody_waits is not None:
            nobody_waits.set()
        for future in running:
            future.cancel()
        try:
            wait(running)
        finally:  # whoever interrupts twice has all threads, too
            torch.set_num_threads(n_threads)


@cache
def _pool(n_at_most: int, n_each: int) -> ThreadPoolExecutor:
    """Threads that stay: a new one asks for memory of its own, in which what it gave back would lie idle.

    A thread computes on as many threads as torch was told when it first computed, which is `n_each`. Calls with fewer
    jobs take the same threads, as far as these compute on as many.
    """
    return ThreadPoolExecutor(n_at_most)


if hasattr(os, "register_at_fork"):  # threads do not come along into a forked process
    os.register_at_fork(after_in_child=_pool.cache_clear)
