"""Point 6: `check` comes back within its limit and never raises, whatever the answer does."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np

from attacks.case import EITHER, RESULT, Case, expect, written
from labkit.notebook import exercises
from labkit.notebook.exercises import attempt, isolation
from labkit.notebook.exercises.catalogue import every_exercise

SECONDS = 0.2  # for one call of an answer, here
GRACE = 0.3  # more, until it is killed
IN_ALL = 4.0  # for one check
MOST = 8.0  # after which a check is late


class Own(BaseException):
    """Not an Exception."""


def raising(error: BaseException) -> Callable[..., object]:
    """A function that raises it, whatever it is given."""

    def function(*_: object) -> object:
        raise error

    return function


def bare_except(*_: object) -> object:
    """A loop that swallows everything."""
    while True:
        try:  # noqa: SIM105
            int("x")
        except:  # noqa: E722
            pass


def _leave(*_: object) -> object:
    sys.exit()


def _recursion(*_: object) -> object:
    return _recursion()


def _huge_list(*_: object) -> object:
    return [0] * 10**7


def _itself(*_: object) -> object:
    round_trip: list[object] = []
    round_trip.append(round_trip)
    return round_trip


class Hostile:
    """Every question about it raises."""

    __repr__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __float__ = __str__ = raising(Own())


class Endless:
    """Every question about it takes for ever."""

    __repr__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __float__ = __str__ = bare_except


FUNCTIONS: dict[str, Callable[..., object]] = {
    "bare except in an endless loop": bare_except,
    "a sum in C": lambda *_: sum(range(10**12)),
    "a backtracking pattern": lambda *_: re.match(r"(a+)+$", "a" * 60 + "b"),
    "sleep": lambda *_: time.sleep(1000),
    "sys.exit": _leave,
    "os._exit": lambda *_: os._exit(3),
    "a crash": lambda *_: os.kill(os.getpid(), signal.SIGSEGV),
    "KeyboardInterrupt": raising(KeyboardInterrupt()),
    "a BaseException": raising(Own()),
    "StopIteration": raising(StopIteration()),
    "half an emoji in an error": raising(ValueError("\ud83d")),
    "endless recursion": _recursion,
    "a hostile value": lambda *_: Hostile(),
    "an endless value": lambda *_: Endless(),
    "a list of hostile values": lambda *_: [Hostile()],
    "a list that holds itself": _itself,
    "a long list": _huge_list,
    "NaN": lambda *_: float("nan"),
    "None": lambda *_: None,
    "bytes": lambda *_: b"\xff",
    "half an emoji": lambda *_: "\ud83d",
    "an endless generator": lambda *_: iter(int, 1),
}
VALUES: dict[str, object] = {
    "hostile": Hostile(),
    "endless": Endless(),
    "two hostile": (Hostile(), Hostile()),
    "NaN": float("nan"),
    "infinity": float("inf"),
    "10**5000": 10**5000,
    "half an emoji": "\ud83d",
    "a long text": "x" * 10**6,
    "nothing": (),
    "bytes": b"\xff",
    "a class": Hostile,
    "a module": np,
    "arrays": (np.zeros((0, 3)), np.full(3, np.nan)),
}
PROGRESS = (
    "null",
    "[]",
    "3",
    '"x"',
    "{",
    "",
    "\x00",
    '{"0.1": null}',
    '{"0.1": {"tries": "x"}}',
    '{"0.1": {"tries": NaN}}',
)
PROGRESS += ('{"0.1": {"outcome": []}}', '{"0.1": {"hints": -5}}', '{"0.1": {"hints": 1e99}}', '{"x": {}}', "[" * 5000)
IDS = ("", "9.9", "0", "x", "\ud83d", "0.1\n", "../0.1")


def cases() -> list[Case]:
    """Hostile functions for some exercises, hostile values for all, damaged records, ids that are none."""
    of_functions = [task.id for task in every_exercise().values() if task.kind == "function"]
    of_values = [task.id for task in every_exercise().values() if task.kind != "function"]
    result = []
    for number, (name, function) in enumerate(FUNCTIONS.items()):
        for id in ("0.2", of_functions[number % len(of_functions)]):
            result.append(Case(6, f"exercise {id}: {name}", partial(_checked, id, function), (RESULT,)))
    for number, (name, value) in enumerate(VALUES.items()):
        for id in ("0.1", of_values[number % len(of_values)], of_functions[number % len(of_functions)]):
            result.append(Case(6, f"exercise {id}: the value {name}", partial(_checked, id, value), (RESULT,)))
    for text in PROGRESS:
        result.append(Case(6, f"progress.json is {text[:20]!r}", partial(_damaged, text), (RESULT,)))
    for id in IDS:
        result.append(Case(6, f"no exercise {id!a}: check", partial(_checked, id, 1), (RESULT,)))
        result.append(Case(6, f"no exercise {id!a}: hint", partial(exercises.hint, id), EITHER))
        result.append(Case(6, f"no exercise {id!a}: solution", partial(exercises.solution, id), EITHER))
    return result


def _checked(id: str, answer: object) -> None:
    attempt.SECONDS = SECONDS
    isolation.GRACE = GRACE
    isolation.IN_ALL = IN_ALL
    begun = monotonic()
    exercises.check(id, answer)
    took = monotonic() - begun
    expect(took < MOST, f"check came back after {took:.0f} s")


def _damaged(text: str) -> None:
    """What was in the file is kept, and a check, a hint and the overview go on."""
    home = Path(os.environ["LAB_HOME"])
    written(home / "progress.json", text)
    exercises.check("0.1", "x")
    exercises.hint("0.1")
    exercises.progress()
    kept = [path.read_bytes() for path in home.glob("progress*.json")]
    expect(text.encode() in kept or text == '{"x": {}}', "what was in progress.json is kept nowhere")
