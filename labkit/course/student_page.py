"""A student's own run as one page to hand in: exercises with their answers, notes, guesses, and the results board."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.course.pages import HTML, figure_html, filled, whole_page
from labkit.machine.paths import lab_home
from labkit.notebook.exercises.catalogue import Exercise, every_exercise
from labkit.notebook.exercises.notes import guesses, open_questions
from labkit.notebook.exercises.record import PROGRESS, Entry, answer_id, recorded
from labkit.results.board import Board
from labkit.shown import readable
from labkit.storage import writable_file, write_text


@dataclass(frozen=True)
class Answered:
    """One exercise as the page shows it."""

    id: str
    title: str
    state: str
    tries: object
    hints: object
    solution: str
    answer: str


@dataclass(frozen=True)
class Said:
    """A note or a guess with its question."""

    id: str
    question: str
    text: str


def write_report(html: Path, home: Path | None = None) -> Path:
    """Write the page of what is in an output folder (by default the lab's own).

    Raises:
        LabError: the page cannot be written, or the progress file must not be read.
    """
    writable_file(html, kinds=HTML)
    folder = home or lab_home()
    text = _page(folder)
    return write_text(html, text)


def _page(folder: Path) -> str:
    done = recorded(folder / PROGRESS)
    exercises = [_answered(task, done) for task in every_exercise().values()]
    board = Board(folder)
    rows = board.rows()
    figures = [figure_html(board.figure())] if rows else []
    body = filled(
        "student_page.html",
        exercises=exercises,
        right=sum(one.state == "right" for one in exercises),
        total=len(exercises),
        notes=_said(open_questions(), done, "note"),
        guesses=_said(guesses(), done, "guess"),
        board=board.html().html if rows else "<p>No results yet.</p>",
        figures=figures,
        date=time.strftime("%Y-%m-%d %H:%M"),
    )
    return whole_page("Neural Conversational AI Lab: my run", body, with_figures=bool(figures))


def _answered(task: Exercise, done: Mapping[str, Entry]) -> Answered:
    entry = done.get(task.id, {})
    answer = done.get(answer_id(task.id), {}).get("answer") or ""
    return Answered(
        id=task.id,
        title=task.title,
        state=readable(str(entry.get("outcome", "not attempted"))),
        tries=entry.get("tries", 0),
        hints=entry.get("hints", 0),
        solution="seen" if entry.get("solution") else "",
        answer=readable(str(answer)),
    )


def _said(questions: Mapping[str, str], done: Mapping[str, Entry], field: str) -> list[Said]:
    said = []
    for id, question in questions.items():
        text = done.get(id, {}).get(field)
        if text is not None and text != "":
            said.append(Said(id, question, readable(str(text))))
    return said
