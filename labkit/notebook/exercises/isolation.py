"""Judge an answer where nothing that it does can hold or end the notebook.

On Linux the work is done in a fork of this process: it has everything that the student defined, closures included, and
it can be killed whatever it does (a bare `except:` in a loop, C code that hears no signal, `sys.exit`, a crash).

Elsewhere the work is done in a thread. Windows has no fork, and macOS's own libraries do not survive one, which is why
Python's multiprocessing does not fork there either. A thread can be left behind, not killed: code that goes on runs
until the kernel is restarted, and C code that keeps Python's lock holds the cell until it ends.
"""

import ctypes
import json
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from labkit.notebook.exercises.attempt import TooLong

FORKS = sys.platform == "linux"
GRACE = 1.0  # seconds that a call has to hear its own alarm, before it is killed
IN_ALL = 60.0  # seconds for all calls of a check together
LEFT_BEHIND: list[str] = []  # names of threads that did not stop
_AGAIN = "another process"  # what a fork answers when the answer needs this process

Announce = Callable[[str], None]
Work = Callable[[Announce], tuple[str, str]]


class TimeUp(Exception):
    """The work was stopped; `call` is what it was doing."""

    def __init__(self, call: str):
        self.call = call


class Died(Exception):
    """The process that did the work ended before it was done; `how` says by what, `call` what it was doing."""

    def __init__(self, how: str, call: str):
        self.how = how
        self.call = call


class NotInAFork(Exception):
    """Raised by the work: it needs a device or a thread of torch that a fork does not have."""


def isolated(work: Work, seconds: float) -> tuple[str, str]:
    """What `work` returns. It tells its argument of each step, and may take `seconds` for one of them.

    Raises:
        TimeUp: it took longer, or more than IN_ALL together.
        Died: its process ended.
    """
    if FORKS:
        with suppress(NotInAFork, OSError):  # OSError: no room for another process
            return in_a_fork(work, seconds)
    return in_a_thread(work, seconds)


def _deadline(begun: float, heard: float, seconds: float) -> float:
    """When the work is stopped that began at `begun` and was heard of at `heard`."""
    for_this_call = heard + seconds + GRACE
    return min(for_this_call, begun + IN_ALL)


# --- a fork -----------------------------------------------------------------------------------------------------------


def in_a_fork(work: Work, seconds: float) -> tuple[str, str]:
    """`isolated`, in a fork of this process. An interrupt of this process ends the fork and goes on."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as reader:
        try:
            process = _fork()
            if process == 0:
                _in_the_fork(work, write_end)
        finally:
            os.close(write_end)
        try:
            return _listen(reader.fileno(), process, seconds)
        finally:
            _end(process)


def _fork() -> int:
    """`os.fork`, without the warnings about threads: the fork uses none of them."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # unset, the tokenizers library writes a warning into the cell
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _in_the_fork(work: Work, write_end: int) -> NoReturn:
    """Do the work, write lines of JSON for `_listen`, and end without any of the clean-up that is the notebook's."""

    def send(message: dict[str, object]) -> None:
        line = json.dumps(message) + "\n"
        os.write(write_end, line.encode())

    try:
        signal.set_wakeup_fd(-1)  # the notebook's event loop need not hear of this process's alarms
        os.setsid()  # Ctrl-C in a terminal is for the notebook, which then ends this process
        _end_alone()
        _silence()
        _one_thread_each()
        outcome, message = work(lambda call: send({"call": call}))
        send({"result": [outcome, message]})
    except NotInAFork:
        send({"result": _AGAIN})
    finally:
        os._exit(0)


def _end_alone() -> None:
    """Where the notebook is killed meanwhile, the system ends a loop that goes on."""
    import resource  # there is none on Windows

    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = int(IN_ALL) + 1  # seconds of CPU
    if most == resource.RLIM_INFINITY or most > allowed:
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, allowed))


def _silence() -> None:
    """Nothing that a library writes reaches the cell; what the student prints is kept by `Attempt`."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    if "IPython" in sys.modules:
        from IPython import get_ipython

        shell = get_ipython()
        if shell is not None:
            shell.display_pub.publish = lambda *args, **kwargs: None


def _one_thread_each() -> None:
    """A fork has none of its parent's threads; to ask OpenMP or the tokenizers for them would wait for ever."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    if "sklearn" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)


def _listen(read_end: int, process: int, seconds: float) -> tuple[str, str]:
    """Read the fork's lines until it says what came out."""
    call = ""
    unread = b""
    begun = heard = time.monotonic()
    ready = select.poll()
    ready.register(read_end, select.POLLIN)
    while True:
        left = _deadline(begun, heard, seconds) - time.monotonic()
        if left <= 0:
            raise TimeUp(call)
        if not ready.poll(1000 * left):
            continue
        data = os.read(read_end, 65536)
        if not data:
            raise Died(_how_it_ended(process), call)
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            heard = time.monotonic()
            message = json.loads(line)
            if message.get("result") == _AGAIN:
                raise NotInAFork
            if "result" in message:
                outcome, text = message["result"]
                return outcome, text
            call = message["call"]


def _how_it_ended(process: int) -> str:
    for _ in range(50):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended and os.WIFSIGNALED(status):
            return signal.Signals(os.WTERMSIG(status)).name
        if ended:
            break
        time.sleep(0.01)
    return "an exit"


def _end(process: int) -> None:
    """Kill the fork and what it started, and wait for its end."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    with suppress(ProcessLookupError):  # it has not made its own group yet
        os.kill(process, signal.SIGKILL)
    with suppress(ChildProcessError):  # waited for already
        os.waitpid(process, 0)


# --- a thread ---------------------------------------------------------------------------------------------------------


def in_a_thread(work: Work, seconds: float) -> tuple[str, str]:
    """`isolated`, in a thread. One that does not stop is left behind."""
    results: list[tuple[str, str]] = []
    errors: list[BaseException] = []
    call = ""
    begun = heard = time.monotonic()

    def announce(doing: str) -> None:
        nonlocal call, heard
        call = doing
        heard = time.monotonic()

    def target() -> None:
        try:
            results.append(work(announce))
        except BaseException as error:
            errors.append(error)

    streams = sys.stdout, sys.stderr
    filters = warnings.filters[:]
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            if time.monotonic() > _deadline(begun, heard, seconds):
                raise TimeUp(call)
            thread.join(0.05)
    finally:  # an interrupt of the cell comes through here, too
        _stop(thread)
        sys.stdout, sys.stderr = streams
        warnings.filters[:] = filters
    if errors:
        raise Died(type(errors[0]).__name__, call)
    return results[0]


def _stop(thread: threading.Thread) -> None:
    """Raise TooLong in the thread; it is heard at the next step of Python code."""
    if thread.is_alive() and thread.ident is not None:
        which = ctypes.c_ulong(thread.ident)
        error = ctypes.py_object(TooLong)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(which, error)
        thread.join(0.5)
    if thread.is_alive():
        LEFT_BEHIND.append(thread.name)
