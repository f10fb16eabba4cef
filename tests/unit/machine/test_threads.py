"""Jobs side by side."""

import os
import threading
import time

import pytest
import torch

from labkit.errors import LabError
from labkit.machine import threads as threads_module
from labkit.machine.threads import side_by_side


@pytest.fixture(params=[1, 3, 8])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_jobs_whichever_is_ready_first(threads: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.02 * (number == 0))
        return number

    for _ in range(2):
        assert list(side_by_side(work, range(4))) == [0, 1, 2, 3]
    assert torch.get_num_threads() == threads
    assert list(side_by_side(work, [])) == []


def test_threads_are_shared_out_and_the_same_ones_work_again(threads: int) -> None:
    """Trap: new threads at every step, each of which leaves memory lying in a corner of its own."""

    def work(_: int) -> tuple[int, int]:
        return torch.get_num_threads(), threading.get_ident()

    seen = [*side_by_side(work, range(4)), *side_by_side(work, range(4)), *side_by_side(work, range(4))]
    n_workers = min(4, threads)
    assert {of_each for of_each, _ in seen} == {threads // n_workers}
    assert len({thread for _, thread in seen}) <= n_workers


def test_calls_with_more_or_fewer_jobs_keep_to_the_same_threads() -> None:
    """Trap: a pool for every number of jobs, so that a machine with many processors has a hundred threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        seen = set()
        for n_jobs in (4, 5, 6, 9):  # of six threads each job has one
            seen.update(side_by_side(lambda _: threading.get_ident(), range(n_jobs)))
    finally:
        torch.set_num_threads(before)
    assert len(seen) <= 6


def test_an_error_is_raised_when_no_job_runs_any_more(threads: int) -> None:
    done = []

    def work(number: int) -> None:
        if number == 0:
            raise LabError("no such job", "0", "take another")
        time.sleep(0.02)
        done.append(number)

    with pytest.raises(LabError, match="no such job"):
        list(side_by_side(work, range(20)))
    finished = len(done)
    time.sleep(0.1)
    assert len(done) == finished < 19
    assert torch.get_num_threads() == threads


def test_an_interrupt_comes_when_no_job_runs_any_more(threads: int, monkeypatch) -> None:
    """Trap: the job that is waited for is none of those that are still running."""
    if threads == 1:
        pytest.skip("with one thread there is nobody to wait for")
    done = []
    nobody_waits = threading.Event()
    all_have_begun = threading.Barrier(3, timeout=20)
    really_wait = threads_module.wait

    def interrupted(futures: list) -> None:
        if not nobody_waits.is_set():
            all_have_begun.wait()
            raise KeyboardInterrupt
        really_wait(futures)

    def work(number: int) -> None:
        all_have_begun.wait()
        if nobody_waits.wait(20):
            time.sleep(0.05)
            done.append(number)

    monkeypatch.setattr(threads_module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(work, range(2), nobody_waits))
    assert sorted(done) == [0, 1] and torch.get_num_threads() == threads


def test_who_interrupts_twice_has_all_threads_again(threads: int, monkeypatch) -> None:
    def impatient(_: list) -> None:
        raise KeyboardInterrupt

    if threads == 1:
        pytest.skip("with one thread there is nobody to wait for")
    monkeypatch.setattr(threads_module, "wait", impatient)
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(abs, [-1, -2]))
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own(threads: int) -> None:
    """Trap: a pool whose threads stayed behind in the parent, which waits for ever."""
    list(side_by_side(abs, [-1, -2]))
    child = os.fork()
    if child == 0:
        os._exit(list(side_by_side(abs, [-1, -2])) != [1, 2])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.01)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the forked process waits")
    assert status == 0
