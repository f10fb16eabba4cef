"""Grade a class: run every notebook again, judge every check anew, and write who solved what.

Students' code runs with your rights, without a network and with a time limit. Nothing keeps it from reading or deleting
your files, or from changing labkit in its own kernel: grade in a container, and read what looks too good.
"""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from labkit.course.handed_in import HandedIn, exercises_of, handed_in, read_notebook
from labkit.course.pages import HTML, filled, whole_page
from labkit.course.rerun import Rerun, rerun
from labkit.errors import LabError
from labkit.notebook.exercises.catalogue import every_exercise
from labkit.notebook.exercises.notes import open_questions
from labkit.notebook.exercises.record import Entry
from labkit.shown import readable
from labkit.storage import writable_file, write_text
from labkit.tables import as_csv

SECONDS = 600.0  # for one notebook
MARKS = {"right": "✓", "wrong": "✗", "not attempted": "○", "your code raised": "⚠"}
NOT_REACHED = "not reached"


@dataclass(frozen=True)
class Grade:
    """One exercise of one student; a line of the CSV. `exercise` is "" where a file is no notebook of the course."""

    student: str
    notebook: str
    exercise: str
    title: str
    judged: str  # what labkit says now: right, wrong, not attempted, your code raised, not reached
    claimed: str  # what the student's progress file says
    tries: int  # as claimed, too
    hints: int
    solution: str  # "seen", as claimed
    seconds: float  # of the whole notebook
    stopped: str  # where the notebook stopped or first broke, and why

    @property
    def mark(self) -> str:
        """The outcome as a sign."""
        return MARKS.get(self.judged, "–")

    @property
    def claims_more(self) -> bool:
        """Whether the progress file says right, and the judge does not."""
        return self.claimed == "right" != self.judged


COLUMNS = [field.name for field in fields(Grade)]


@dataclass(frozen=True)
class Note:
    """A student's answer to an open question, as it stands in the notebook or in the progress file."""

    student: str
    id: str
    question: str
    text: str


@dataclass(frozen=True)
class Graded:
    """What is known of a class so far."""

    grades: list[Grade]
    notes: list[Note]
    remarks: list[str]  # of students' progress files


def grade(folder: Path, csv_file: Path, html: Path, *, seconds: float = SECONDS, profile: str = "smoke") -> Graded:
    """Run all notebooks of a folder of students, one after the other; both files are written after each.

    Args:
        folder: each folder in it is a student, and so is each notebook that lies in it directly.
        seconds: for one notebook.

    Raises:
        LabError: nothing to grade, or a file that cannot be written, both before the first run.
        KeyboardInterrupt: what is graded by then is in the files.
    """
    writable_file(csv_file, kinds=(".csv",))
    writable_file(html, kinds=HTML)
    students = handed_in(folder)
    graded = Graded([], [], [])
    for one in students:
        if one.remark:
            graded.remarks.append(f"{one.student}: {one.remark}")
        notes = _notes(one.student, one.claims)
        for path in one.notebooks:
            grades, judged = _graded(one, path, seconds, profile)
            graded.grades.extend(grades)
            notes = {**notes, **_notes(one.student, judged)}  # what stands in the notebook goes before
            print(_in_words(grades), flush=True)
            write_text(csv_file, as_csv(COLUMNS, map(astuple, graded.grades)))
            write_text(html, as_html(graded))
        graded.notes.extend(notes.values())
    write_text(html, as_html(graded))
    return graded


def _graded(one: HandedIn, path: Path, seconds: float, profile: str) -> tuple[list[Grade], dict[str, Entry]]:
    """The grades of one notebook, and all that was recorded while it ran."""
    try:
        notebook = read_notebook(path)
    except LabError as error:
        run = Rerun(0.0, readable(str(error)), {})
        ids = exercises_of(path, None)
    else:
        ids = exercises_of(path, notebook)
        run = rerun(notebook, profile, seconds)
    return [_grade(one, path.stem, id, run) for id in ids or [""]], run.judged


def _grade(one: HandedIn, notebook: str, id: str, run: Rerun) -> Grade:
    claim = one.claims.get(id, {})
    judged = str(run.judged.get(id, {}).get("outcome", NOT_REACHED))
    title = every_exercise()[id].title if id else "no exercise of the course"
    return Grade(
        student=readable(one.student),
        notebook=readable(notebook),
        exercise=id,
        title=title,
        judged=judged,
        claimed=readable(str(claim.get("outcome", ""))),
        tries=_count(claim.get("tries")),
        hints=_count(claim.get("hints")),
        solution="seen" if claim.get("solution") else "",
        seconds=round(run.seconds, 1),
        stopped=run.stopped,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _notes(student: str, entries: dict[str, Entry]) -> dict[str, Note]:
    notes = {}
    for id, question in open_questions().items():
        text = entries.get(id, {}).get("note")
        if isinstance(text, str) and text:
            notes[id] = Note(readable(student), id, question, readable(text))
    return notes


def _in_words(grades: Sequence[Grade]) -> str:
    first = grades[0]
    right = sum(one.judged == "right" for one in grades)
    told = f"{first.student}, {first.notebook}: {right} of {len(grades)} right in {first.seconds:.0f} s"
    return f"{told}; {first.stopped}" if first.stopped else told


# --- what is written --------------------------------------------------------------------------------------------------


def as_html(graded: Graded) -> str:
    """A table for each notebook, a line a student; then the answers to open questions. Needs no network."""
    students = list(dict.fromkeys(one.student for one in graded.grades))
    body = filled(
        "grades.html",
        tables=_tables(graded.grades),
        totals=[(student, _solved(graded.grades, student)) for student in students],
        total=len(every_exercise()),
        notes=graded.notes,
        remarks=graded.remarks,
        date=time.strftime("%Y-%m-%d %H:%M"),
    )
    return whole_page("Neural Conversational AI Lab: grades", body)


def _solved(grades: Sequence[Grade], student: str) -> int:
    """How many different exercises a student has right."""
    return len({one.exercise for one in grades if one.student == student and one.judged == "right"})


def _tables(grades: Sequence[Grade]) -> dict[str, list[list[Grade]]]:
    """{number of a notebook, or its name: lines of grades, one a student's notebook}."""
    lines: dict[tuple[str, str], list[Grade]] = {}
    for one in grades:
        lines.setdefault((one.student, one.notebook), []).append(one)
    tables: dict[str, list[list[Grade]]] = {}
    for line in lines.values():
        number = line[0].exercise.split(".")[0]
        name = f"Notebook {number}" if number else "Not of the course"
        tables.setdefault(name, []).append(line)
    return dict(sorted(tables.items()))
