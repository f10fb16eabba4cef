"""Rows as Markdown and HTML, and a model card."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models import LanguageModel
from labkit.results.row import SCORES

if TYPE_CHECKING:
    pass


def _cell(cell: Any) -> str:
    return _number(cell).replace("|", "\\|").replace("\n", " ")


def _number(cell: Any) -> str:
    """One decimal, and two digits of what is below 1."""
    form = ".2g" if isinstance(cell, float) and 0 < abs(cell) < 1 else ".1f"
    return format(cell, form) if isinstance(cell, float) else str(cell)


def _html(cell: Any, under: str | None) -> str:
    """A cell with the value it is sorted by, and its interval as small text."""
    small = f'<br><small style="white-space:nowrap">{escape(under)}</small>' if under else ""
    return f'<td data-value="{escape(str(cell))}">{escape(_number(cell))}{small}</td>'


def model_card(
    repo: str, lm: "LanguageModel", rows: list[dict[str, Any]], adapter: Path | str, training: dict[str, Any] | None
) -> str:
    """A model card in Markdown for a merged model: its scores on the board, in words and as the Hub's metadata.

    `rows` of other adapters are left out; `training` is the configuration that made this one.
    """
    from huggingface_hub import EvalResult, ModelCardData

    rows = [row for row in rows if row.get("adapter") and Path(row["adapter"]).resolve() == Path(adapter).resolve()]
    results = [
        EvalResult("text-generation", row["corpus"], row["corpus"], name, row[name], dataset_split=row["split"])
        for row in rows
        for name in SCORES
        if row.get(name) is not None
    ]
    name = repo.split("/")[-1]
    data = ModelCardData(library_name="transformers", model_name=name, eval_results=results or None)
    if not lm.stand_in:  # a stand-in is no repository of the Hub's
        data.base_model = lm.name
    told = [f"{lm.name}, fine-tuned on task-oriented dialogues with the Neural Conversational AI Lab."]
    told += ["Base model or corpus is a stand-in: compare the scores with nothing published."] * bool(lm.stand_in)
    columns = ["corpus", "split", "dialogues", *SCORES]
    told += ["## Scores"] + ([markdown_table(columns, rows)] if rows else ["This adapter was never evaluated."])
    told += [
        "## Training",
        markdown_table(["field", "value"], [{"field": k, "value": v} for k, v in (training or {}).items()]),
    ]
    return "\n\n".join([f"---\n{data}\n---", f"# {name}", *told]) + "\n"


def markdown_table(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """A table in Markdown: numbers to one decimal, `|` escaped."""
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(name, "")) for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
