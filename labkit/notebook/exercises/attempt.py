"""A student's function as a checker calls it: with a time limit, on copies of the data, its output kept apart."""

import inspect
import io
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from copy import deepcopy
from itertools import zip_longest
from types import CodeType, FrameType

import numpy as np

from labkit.corpora.types import Dialogue
from labkit.notebook.exercises.answers import Wrong, shown

SECONDS = 5.0  # for one call of a student's function
_KEPT = 400  # characters of what a call printed


class Blank(Exception):
    """The student's function returns nothing yet."""


class TooLong(BaseException):
    """The time is up. Not an Exception, so that a student's `except Exception` does not swallow it."""


class Raised(Exception):
    """The student's function raised: the error is the `__cause__`."""


class ReturnedNone(Wrong):
    """The function returned None, though it is written."""


class Attempt:
    """A student's function, called by a checker like the function itself.

    Attributes:
        arguments: those of the last call.
        printed: the end of what the last call printed.
        returned: what the last call that returned something returned.
        changed_its_input: a call so far changed an argument in place.
    """

    def __init__(self, function: Callable, announce: Callable[[str], None] = lambda call: None):
        """`announce` hears of each call before it begins, as "k = 3, logits = [1. 2.]"."""
        self.function = function
        self.announce = announce
        self.arguments: tuple = ()
        self.printed = ""
        self.returned: object = None
        self.changed_its_input = False
        self._returned_something = False

    def __call__(self, *arguments: object) -> object:
        """What the function returns for copies of these arguments.

        Raises:
            Raised: it raised, whatever it raised.
            TooLong: it ran for more than SECONDS (only where signals reach: the main thread).
            Blank: it is not written yet.
            ReturnedNone: it is, and returned None.
        """
        self.arguments = arguments
        self.announce(self.call())
        copies = deepcopy(arguments)
        value = self._run(copies)
        if value is ... or (value is None and _is_empty(self.function)):
            raise Blank
        if not same(arguments, copies):
            self.changed_its_input = True
        if value is None:
            raise ReturnedNone(self._about_none())
        self._returned_something = True
        self.returned = value
        return value

    def call(self) -> str:
        """The last call in words: each parameter and what it got."""
        return called_with(self.function, self.arguments)

    def _run(self, arguments: tuple) -> object:
        output = io.StringIO()
        try:
            with quiet(output), time_limit(SECONDS):
                return self.function(*arguments)
        except (TooLong, Wrong):  # a function that the checker handed in may say that something is wrong
            raise
        except BaseException as error:  # a student's code may raise SystemExit or KeyboardInterrupt, too
            raise Raised from error
        finally:
            self.printed = output.getvalue()[-_KEPT:].strip()

    def _about_none(self) -> str:
        if self._returned_something:
            return f"Your function returned None for {self.call()}: does every way through it end in a `return`?"
        return "Your function returned None: is a `return` missing?"


@contextmanager
def quiet(output: io.StringIO) -> Iterator[None]:
    """What is printed goes to `output`; warnings go nowhere."""
    with redirect_stdout(output), redirect_stderr(output), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooLong in a loop that never ends.

    Signals reach the main thread only, and Windows has none: there the limit is kept from outside (`isolation`).
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _is_empty(function: Callable) -> bool:
    """The student has not written it: its source still says so, or it does nothing at all."""
    with suppress(OSError, TypeError):
        if "your code here" in inspect.getsource(function):
            return True
    code = code_of(function)
    nothing = (lambda: None).__code__
    return code is not None and len(code.co_code) == len(nothing.co_code)


def code_of(function: Callable) -> CodeType | None:
    """The function's own code; None where it is not written in Python."""
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


def called_with(function: Callable, arguments: tuple) -> str:
    """A call in words: each parameter's name and what it got."""
    names = _names_of_parameters(function)
    parts = []
    for name, argument in zip_longest(names[: len(arguments)], arguments):
        value = _short(argument)
        parts.append(f"{name} = {value}" if name else value)
    return ", ".join(parts)


def _names_of_parameters(function: Callable) -> list[str]:
    """Of those that are given by position, `*rest` left out; empty where there is no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if parameter.kind != inspect.Parameter.VAR_POSITIONAL]


def _short(argument: object) -> str:
    if isinstance(argument, Dialogue):
        speakers = ", ".join(turn.speaker for turn in argument.turns)
        return f"a dialogue of {speakers or 'nobody'}"
    if isinstance(argument, np.ndarray):
        if argument.ndim == 1 and argument.size <= 8:
            return np.array2string(argument, precision=3)
        return f"an array {list(argument.shape)}"
    if callable(argument):
        return "a function"
    return shown(argument, width=100)


def same(one: object, other: object) -> bool:
    """Equal in every part; arrays and what holds arrays, too."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    if hasattr(one, "detach"):  # a tensor; torch may not be needed here at all
        return same(one.detach().cpu().numpy(), other.detach().cpu().numpy())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        same_keys = one.keys() == other.keys()
        return same_keys and all(same(one[key], other[key]) for key in one)
    return bool(one == other)
