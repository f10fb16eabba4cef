"""Rows as Markdown, and a model card."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from labkit import tables
from labkit.models import LanguageModel
from labkit.results.row import SCORES, Row, Settings
from labkit.shown import readable


def number(cell: object) -> str:
    """A cell's text: one decimal, and two digits of what is below 1."""
    if not isinstance(cell, float):
        return readable(str(cell))
    is_small = 0 < abs(cell) < 1
    return f"{cell:.2g}" if is_small else f"{cell:.1f}"


def markdown_table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """A table in Markdown from rows: numbers to one decimal, `|` escaped."""
    cells = [[number(row.get(name, "")) for name in columns] for row in rows]
    return tables.markdown_table(list(columns), cells)


def model_card(
    repo: str, lm: "LanguageModel", rows: Iterable[Row], adapter: Path | str, training: Settings | None
) -> str:
    """A model card in Markdown for a merged model: its scores on the board, in words and as the Hub's metadata.

    Args:
        rows: of the board; those of other adapters are left out.
        training: the configuration that made this one.
    """
    from huggingface_hub import ModelCardData

    mine = [row for row in rows if row.get("adapter") and Path(row["adapter"]).resolve() == Path(adapter).resolve()]
    name = repo.split("/")[-1]
    metadata = ModelCardData(library_name="transformers", model_name=name, eval_results=_for_the_hub(mine) or None)
    if not lm.stand_in:  # a stand-in is no repository of the Hub's
        metadata.base_model = lm.name
    parts = [
        f"---\n{metadata}\n---",
        f"# {name}",
        f"{lm.name}, fine-tuned on task-oriented dialogues with the Neural Conversational AI Lab.",
    ]
    if lm.stand_in:
        parts.append("Base model or corpus is a stand-in: compare the scores with nothing published.")
    parts.append("## Scores")
    if mine:
        parts.append(markdown_table(["corpus", "split", "dialogues", *SCORES], mine))
    else:
        parts.append("This adapter was never evaluated.")
    settings = [{"field": field, "value": value} for field, value in (training or {}).items()]
    parts += ["## Training", markdown_table(["field", "value"], settings)]
    return "\n\n".join(parts) + "\n"


def _for_the_hub(rows: Iterable[Row]) -> list:
    """Scores as the Hub's leaderboards read them (`huggingface_hub.EvalResult`)."""
    from huggingface_hub import EvalResult

    results = []
    for row in rows:
        for score in SCORES:
            if row.get(score) is not None:
                corpus = str(row.get("corpus"))
                split = row.get("split")
                result = EvalResult("text-generation", corpus, corpus, score, row[score], dataset_split=split)
                results.append(result)
    return results
