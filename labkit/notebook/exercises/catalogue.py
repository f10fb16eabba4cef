"""All exercises: a checker from `notebookN.py`, its texts from `exercises.toml`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

from labkit.errors import LabError
from labkit.notebook.exercises.answers import Wrong, letter
from labkit.notebook.exercises.texts import texts

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
    """All exercises of all notebooks by id, in order."""
    exercises = []
    for id, said in texts().items():
        if "choices" in said:
            exercises.append(_choice(id, said))
        else:
            kind = said.get("kind", "function")
            exercises.append(Exercise(id, said["title"], said["hints"], kind))
    exercises.sort(key=lambda task: order(task.id))
    return {task.id: task for task in exercises}


def _choice(id: str, said: Mapping[str, Any]) -> Exercise:  # Any: TOML
    choices = {}
    explanations = {}
    for key, (text, why) in said["choices"].items():
        choices[key] = text
        explanations[key] = why
    return Exercise(
        id=id,
        title=said["title"],
        hints=said["hints"],
        kind="choice",
        question=said["question"],
        choices=choices,
        explanations=explanations,
        right=said["right"],
    )


def order(id: str) -> list[int]:
    """Exercises are sorted by this: 1.2 comes before 1.10."""
    return [int(part) for part in id.split(".")]


def find(id: object) -> Exercise:
    """The exercise with this id.

    Raises:
        LabError: there is no such exercise.
    """
    tasks = every_exercise()
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
