"""Notebooks without what a run leaves: `python -m labkit.course.strip NOTEBOOK…` rewrites those that have any of it."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor

from labkit.storage import write_text

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}


def strip(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out outputs, counts, widget state and front ends' metadata. Works in place.

    Tags are kept, and that a cell's code is folded away (JupyterLab, VS Code: source_hidden; Colab: a form).

    nbconvert's ClearMetadataPreprocessor would leave the metadata of Markdown cells.
    """
    notebook, _ = ClearOutputPreprocessor().preprocess(notebook, {})
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = _kept(cell.metadata)
    return notebook


def _kept(metadata: Mapping[str, object]) -> dict[str, object]:
    kept: dict[str, object] = {}
    if metadata.get("tags"):
        kept["tags"] = metadata["tags"]
    if metadata.get("cellView") == "form":
        kept["cellView"] = "form"
    jupyter = metadata.get("jupyter")
    if isinstance(jupyter, Mapping) and jupyter.get("source_hidden") is True:
        kept["jupyter"] = {"source_hidden": True}
    return kept


def notebook_text(notebook: nbformat.NotebookNode) -> str:
    """A notebook as its file has it, with one line break at the end."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def main(paths: Sequence[str]) -> int:
    """Strip these notebooks, and name those that had something to strip; the exit code is then 1."""
    stripped = []
    for path in map(Path, paths):
        before = path.read_text(encoding="utf-8")
        after = notebook_text(strip(nbformat.reads(before, as_version=4)))
        if after != before:
            stripped.append(write_text(path, after))
            print(f"stripped {path}")
    return 1 if stripped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
