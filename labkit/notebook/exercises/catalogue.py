"""All exercises: a checker from `notebookN.py`, its texts from `exercises.toml`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

from labkit.errors import LabError
from labkit.notebook.exercises.answers import Wrong, letter
from labkit.notebook.exercises.texts import texts

GRAPE = "🍇"
Checker = Callable[..., str | None]  # from an answer to what is worth knowing about the right one; raises Wrong


@dataclass(frozen=True)
class Exercise:
    """One exercise; `kind` is function, choice or value. The notebook shows `question` and `choices` too."""

    id: str
    title: str
    hints: Sequence[str]
    kind: str = "function"
    question: str = ""
    choices: Mapping[str, str] | None = None  # {letter: text}
    explanations: Mapping[str, str] | None = None  # {letter: why it is right or wrong}
    right: str = ""  # the letter
    level: int = 1  # 1: one idea, 2: a few steps, 3: think first
    bonus: bool = False  # of the bonus tier: nothing later needs it
    is_open: bool = False  # any idea may do: the check says whether it can be used as it is meant
    retired: bool = False  # in no notebook any more; older ones still check it

    @property
    def grapes(self) -> str:
        """The level as the notebook shows it: a grape a level, as the 2023 lab gave them for its questions."""
        tier = " bonus" if self.bonus else ""
        return GRAPE * self.level + tier

    @property
    def notebook(self) -> str:
        """The number of its notebook."""
        return self.id.split(".")[0]

    @property
    def checker(self) -> Checker:
        """What judges an answer; that of a function or a value is in its notebook's table CHECKERS.

        The module is imported here, and not for the list of titles: it may need torch.
        """
        if self.choices is not None:
            return partial(chosen, self)
        module = import_module(f"{__package__}.notebook{self.notebook}")
        return module.CHECKERS[self.id]


def chosen(task: Exercise, answer: object) -> str:
    """Check the answer to a multiple-choice question: why that choice is right.

    Raises:
        Wrong: it is another one, with the reason; or no letter.
    """
    explanations = task.explanations or {}
    key = letter(answer, explanations)
    explanation = explanations[key]
    if key != task.right:
        raise Wrong(explanation)
    return explanation


@cache
def every_exercise() -> dict[str, Exercise]:
    """The exercises of all notebooks by id, in the order in which the notebooks have them (that of exercises.toml)."""
    return {id: task for id, task in _with_retired().items() if not task.retired}


@cache
def retired_exercises() -> dict[str, Exercise]:
    """Those that only an earlier version's notebooks have: still checked there, no longer counted."""
    return {id: task for id, task in _with_retired().items() if task.retired}


@cache
def _with_retired() -> dict[str, Exercise]:
    return {id: _exercise(id, said) for id, said in texts().items()}


def _exercise(id: str, said: Mapping[str, Any]) -> Exercise:  # Any: TOML
    choices = None
    explanations = None
    kind = said.get("kind", "function")
    if "choices" in said:
        kind = "choice"
        choices = {key: text for key, (text, _) in said["choices"].items()}
        explanations = {key: why for key, (_, why) in said["choices"].items()}
    return Exercise(
        id=id,
        title=said["title"],
        hints=said["hints"],
        kind=kind,
        question=said.get("question", ""),
        choices=choices,
        explanations=explanations,
        right=said.get("right", ""),
        level=said["level"],
        bonus=said.get("bonus", False),
        is_open=said.get("open", False),
        retired=said.get("retired", False),
    )


def order(id: str) -> int:
    """The place of an exercise in the course: 5.b comes between 5.1 and 5.2."""
    return list(_with_retired()).index(id)


def find(id: object) -> Exercise:
    """The exercise with this id.

    Raises:
        LabError: there is no such exercise.
    """
    tasks = _with_retired()
    if type(id) is float:
        id = str(id)
    if type(id) is not str:  # no other type is asked anything: it may be a student's own
        raise LabError(f"no exercise of type {type(id).__name__}", "", _every_id())
    if id not in tasks:
        raise LabError(f"no exercise {id!r}", "", _every_id())
    return tasks[id]


def _every_id() -> str:
    ids = ", ".join(every_exercise())
    return f"choose one of {ids}"
