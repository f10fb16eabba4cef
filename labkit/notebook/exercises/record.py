"""A student's progress on disk, and the solution cells of the sources."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from labkit.errors import LabError
from labkit.machine.paths import lab_home
from labkit.shown import Shown
from labkit.storage import read_json, write_json, write_text


def recorded() -> dict[str, dict[str, Any]]:
    """{exercise id: {"outcome", "tries", "hints", "solution"}}; empty where nothing was done or the file is spoilt."""
    try:
        return read_json(lab_home() / "progress.json")
    except LabError:
        return {}


def note(id: str, **news: Any) -> None:
    """Add to what is recorded for an exercise; two notebooks may do so at once.

    Raises:
        LabError: the file cannot be written.
    """
    from filelock import FileLock

    lab_home().mkdir(parents=True, exist_ok=True)
    with FileLock(lab_home() / "progress.json.lock"):
        everything = recorded()
        entry = everything.setdefault(id, {})
        entry["tries"] = entry.get("tries", 0) + (news.get("outcome", "not attempted") != "not attempted")
        if entry.get("outcome") == "right":
            news.pop("outcome", None)  # once right stays right
        entry.update(news)
        write_json(lab_home() / "progress.json", everything)


def progress(save: Path | str | None = None) -> Shown:
    """How far you are: a bar, what waits to be gone on with, a row an exercise; saved as .csv or Markdown, too."""
    import pandas

    from labkit.notebook.exercises import every_exercise
    from labkit.results.report import markdown_table

    done, tasks = recorded(), every_exercise()
    entries = {id: {"outcome": "not attempted", "tries": 0, "hints": 0} | done.get(id, {}) for id in tasks}
    rows = [(id, tasks[id].title, *_columns(entry)) for id, entry in entries.items()]
    solved = sum(entry["outcome"] == "right" for entry in entries.values())
    table = pandas.DataFrame(rows, columns=["id", "exercise", "state", "tries", "hints", "solution"])
    markdown = markdown_table(list(table), table.to_dict("records"))
    if save:
        write_text(save, table.to_csv(index=False) if str(save).endswith(".csv") else markdown + "\n")
    label = ". ".join([f"{solved} of {len(tasks)} exercises solved", *_unfinished(entries)])
    bar = f'<label>{escape(label)} <progress value="{solved}" max="{len(tasks)}"></progress></label>'
    folded = f"<details><summary>all exercises</summary>{table.to_html(index=False, justify='left')}</details>"
    return Shown(bar + folded, f"{label}\n{markdown}")


def _unfinished(entries: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What a dropped session left: the next exercise, and trainings that go on where they stopped."""
    if open_ones := [id for id, entry in entries.items() if entry["outcome"] != "right"]:
        yield f"Next: {open_ones[0]}"
    runs = sorted((lab_home() / "adapters").glob("*/run.json"))
    if names := [run.parent.name for run in runs if not run.with_name("result.json").is_file()]:
        yield f"Unfinished training, run its cell again and it goes on: {', '.join(names)}"


def _columns(entry: dict[str, Any]) -> tuple[str, int, int, str]:
    mark = {"right": "✓", "not attempted": "○", "wrong": "✗"}.get(entry["outcome"], "⚠")
    return f"{mark} {entry['outcome']}", entry["tries"], entry["hints"], "seen" if entry.get("solution") else ""


def solution_text(id: str) -> str:
    """The solution cells that stand before the exercise's `check` in the source notebook.

    Raises:
        LabError: there is no `solutions/` here, or no such exercise in it.
    """
    import nbformat

    places = [Path.cwd(), *Path.cwd().parents, Path(__file__).parents[3]]
    folder = next((place / "solutions" for place in places if (place / "solutions").is_dir()), None)
    for path in sorted(folder.glob(f"{id.split('.')[0]}_*.ipynb")) if folder else ():
        since: list[str] = []  # solution cells since the last check
        for cell in nbformat.read(path, as_version=4).cells:
            if "### BEGIN SOLUTION" in cell.source or "solution" in cell.metadata.get("tags", ()):
                since.append(cell.source.replace("### BEGIN SOLUTION", "# solution:").replace("### END SOLUTION", ""))
            if f'check("{id}"' in cell.source:
                return "\n\n".join(since)
            since = [] if "check(" in cell.source else since
    raise LabError(f"no solution of {id} here", "", "open the folder solutions/ of the lab's repository")
