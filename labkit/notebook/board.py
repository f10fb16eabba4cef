"""The results board: one store for all notebooks and the command line, a row for every evaluated run."""

import errno
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import __version__
from labkit.corpora.types import Corpus
from labkit.decoding import FILTERS
from labkit.environment import Lab, hardware, lab_home
from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.notebook.view import Shown
from labkit.storage import read_json, shipped

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from labkit.metrics import Scores

SCORES = ("bleu", "inform", "success", "combined")
COLUMNS = ("task", "model", "stand_in", "adapter", "bits", "corpus", "split", "dialogues", "decoding", "training")
COLUMNS += (*SCORES, "intervals", "seconds", "speed", "device", "seed", "time")
_TEXTS = shipped(__file__, "board.toml")
_ORIGINAL = _TEXTS["original"]
_HEAD = '<th scope="col"><button style="font:inherit;border:0;background:none;color:inherit" onclick="{}">'


class Board:
    """Rows in `results.jsonl` of the lab's output folder; each is one run, none is ever changed."""

    def __init__(self, home: Path | str | None = None):
        self.path = Path(home or lab_home()) / "results.jsonl"

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        """Append a row; it is on the disk when this returns. Several notebooks may write at once.

        Raises:
            LabError: the disk is full or the folder cannot be written; earlier rows are as they were.
        """
        from filelock import FileLock

        line = (json.dumps(self._kept(row), ensure_ascii=False, default=_plain) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"), open(self.path, "ab", buffering=0) as file:
                _append(file, line)
        except OSError as error:
            raise LabError(f"cannot write {self.path}", str(error), "free space or set LAB_HOME") from error
        return row

    def rows(self, **having: Any) -> list[dict[str, Any]]:
        """The rows that have these values, oldest first; a line that a killed writer left unfinished is said."""
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n") if self.path.is_file() else []
        rows = [_parsed(line) for line in lines if line]
        if torn := rows.count(None):
            print(f"results board: {torn} unfinished line(s) of an interrupted run skipped in {self.path}")
        rows = [row | {"adapter": _adapter(self.path, row)} for row in rows if row is not None]
        return [row for row in rows if all(row.get(name) == having[name] for name in having)]

    def _kept(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as it is written and shown: an adapter in the lab's folder is named from there, so that it can move."""
        path, home = Path(row.get("adapter") or ""), self.path.parent.absolute()
        inside = path.is_absolute() and path.is_relative_to(home)
        return row | {"adapter": str(path.relative_to(home))} if inside else row

    def table(self, sort: str = "time", *, descending: bool = True, **having: Any) -> "pd.DataFrame":
        """The rows as a table, e.g. `table("success", corpus="miniwoz")`; `having` keeps rows with these values."""
        import pandas as pd

        rows = [self._kept(row) for row in self.rows(**having)]
        telling = {name: _telling([row.get(name) for row in rows]) for name in ("decoding", "training")}
        rows = [row | {"intervals": ", ".join(map(" ".join, _intervals(row, rows).items()))} for row in rows]
        columns = [*COLUMNS, *["failed"] * any(row.get("failed") for row in rows)]
        short = [{name: _short(row.get(name), telling.get(name)) for name in columns} for row in rows]
        return pd.DataFrame(short, columns=columns).sort_values(sort, ascending=not descending, ignore_index=True)

    def html(self, sort: str = "time") -> Shown:
        """The table to look at: a click on a heading sorts it, intervals stand below the scores; stand-ins named."""
        table = self.table(sort).astype(object).fillna("")
        near = [dict(part.split(" ", 1) for part in cell.split(", ") if part) for cell in table.pop("intervals")]
        head = "".join(f"{_HEAD.format(_TEXTS['sort'])}{escape(name)}</button></th>" for name in table)
        rows = zip(table.to_dict("records"), near, strict=True)
        body = "".join(f"<tr>{''.join(_html(row[name], under.get(name)) for name in row)}</tr>" for row, under in rows)
        shown = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return Shown(f'<div style="overflow-x:auto">{shown}</div>', self.markdown(sort))

    def csv(self, path: Path | str | None = None) -> str | None:
        """All that the rows hold, one column a field (`decoding.top_p`), into a file or as text."""
        import pandas as pd

        return pd.json_normalize([self._kept(row) for row in self.rows()]).to_csv(path, index=False)

    def original(self, table: str) -> str:
        """Rows for one of the three tables that the 2023 lab asked for, as Markdown; a stand-in is named in them.

        Args:
            table: "speed" (an iteration is a step in training, a reply in inference), "untuned" or "tuned".

        Raises:
            LabError: there is no such table.
        """
        import pandas as pd

        if table not in _ORIGINAL:
            raise LabError(f"no table {table!r}", "", f"choose one of {', '.join(_ORIGINAL)}")
        rows = [row | _in_words(row) for row in self.rows() if _belongs(row) == table]
        shown = pd.json_normalize(rows).reindex(columns=list(_ORIGINAL[table])).rename(columns=_ORIGINAL[table])
        return markdown_table(list(shown), shown.astype(object).fillna("").to_dict("records"))

    def markdown(self, sort: str = "time") -> str:
        """The table as Markdown, for a report or a README."""
        table = self.table(sort).astype(object).fillna("")
        return markdown_table(list(table.columns), table.to_dict("records"))

    def figure(self, **having: Any) -> "go.Figure":
        """BLEU, Inform and Success of every row as bars with their intervals; stand-ins are named as such."""
        from labkit.notebook import plots

        return plots.scores({label(row, index): row for index, row in enumerate(self.rows(**having), 1)})


def _append(file: Any, line: bytes) -> None:
    """Write and sync one line on a line of its own; on an error the file gets its old length back."""
    before = file.seek(0, os.SEEK_END)
    try:
        with open(file.name, "rb") as reader:
            torn = before and (reader.seek(before - 1), reader.read(1))[1] != b"\n"
        line = b"\n" * bool(torn) + line
        if file.write(line) < len(line):  # not buffered: what did not fit must not be written by close()
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(file.fileno())
    except OSError:
        os.truncate(file.name, before)
        raise


def _adapter(board: Path, row: dict[str, Any]) -> str | None:
    """The adapter's folder, wherever the board is now; one outside of the lab's folder as it was given."""
    inside = board.parent / (row.get("adapter") or "")
    return str(inside) if row.get("adapter") and inside.is_dir() else row.get("adapter")


def _parsed(line: str) -> dict[str, Any] | None:
    with suppress(json.JSONDecodeError):
        return json.loads(line)


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


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)  # numpy's numbers are no JSON


def _telling(settings: list[Any]) -> set[str]:
    """Names of the settings that differ between rows; the others would only fill the table."""
    some = [setting for setting in settings if isinstance(setting, dict)]
    names = {name for setting in some for name in setting}
    return {name for name in names if len({str(setting.get(name)) for setting in some}) > 1} | {"strategy"}


def _short(value: Any, names: set[str] | None = None) -> Any:
    """Settings in one line, `strategy=sample, top_p=0.9`; a boolean as a word."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={setting}" for name, setting in value.items() if name in (names or value))
    return ("stand-in" if value else "real") if isinstance(value, bool) else value


def _intervals(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    """95 % intervals {score: "10.3–12.1"}; "≈ best" where one reaches that of the best row on the same dialogues."""
    same = [other for other in rows if all(other.get(name) == row.get(name) for name in ("corpus", "split"))]
    parts = {}
    for name, (low, high) in (row.get("intervals") or {}).items():
        rivals = [other for other in same if name in (other.get("intervals") or {})]
        best = max(rivals, key=lambda other: other[name])
        near = " ≈ best" if high >= best["intervals"][name][0] else ""
        parts[name] = f"{low:.1f}–{high:.1f}" + (" best" if best is row else near) * (
            len({other[name] for other in rivals}) > 1
        )
    return parts


def _belongs(row: dict[str, Any]) -> str:
    return "speed" if row.get("task") == "speed" else "tuned" if row.get("adapter") else "untuned"


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    """Cells of the original's tables that need more than one field."""
    where = f"{row.get('task')}: {row.get('dialogues')} dialogues of {row.get('corpus')} {row.get('split')}"
    metrics = [name for name in SCORES[:3] if row.get(name) is not None]
    near = {name: " [{:.1f}, {:.1f}]".format(*interval) for name, interval in (row.get("intervals") or {}).items()}
    said = [f"{name} {row[name]:.1f}{near.get(name, '')}" for name in metrics]
    said += [f"{name} {value:.4g}" for name, value in list((row.get("richness") or {}).items())[:1]]
    chosen = row.get("decoding") or {}
    names = {name for name, off in FILTERS.items() if chosen.get(name, off) != off} | {"strategy", "max_new_tokens"}
    names |= {{"beam": "num_beams", "contrastive": "penalty_alpha"}.get(chosen.get("strategy"), "strategy")}
    return {"llm": f"{label(row)} ({where})", "params": _short(chosen, names), "metrics": ", ".join(said)}


def label(row: dict[str, Any], index: int | None = None) -> str:
    """A row's name in a chart (with its number) or a table."""
    parts = [row.get("model"), "tuned" if row.get("adapter") else "untuned"]
    parts += [row.get("corpus"), row.get("task")] * (index is not None)
    return f"{index or ''} {', '.join(filter(None, parts))}{' (stand-in)' if row.get('stand_in') else ''}".strip()


def result_row(
    task: str,
    lm: LanguageModel,
    corpus: Corpus,
    split: str,
    scores: "Scores",
    decoding: Any = None,
    training: Any = None,
    seconds: float | None = None,
    lab: Lab | None = None,
) -> dict[str, Any]:
    """Everything that a result needs to be understood and repeated: what ran, on what, with which settings and where.

    `decoding` and `training` are configurations (dataclasses) or dicts of settings; what `finetune` wrote beside an
    adapter is more exact, and goes before `training`. `seconds` were spent on writing the replies.
    """
    machine = lab.hardware if lab else hardware()
    settings = [asdict(config) if is_dataclass(config) else config for config in (decoding, training)]
    speed = {"replies_per_second": round(scores.n_turns / seconds, 2)} if seconds else {}
    if lm.adapter and (Path(lm.adapter) / "result.json").is_file():
        settings[1] = read_json(Path(lm.adapter) / "run.json")
        speed["tokens_per_second"] = round(read_json(Path(lm.adapter) / "result.json")["tokens_per_second"])
    seeds = [config["seed"] for config in settings if config and "seed" in config] + ([lab.seed] if lab else [])
    row = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "task": task, "model": lm.name, "adapter": lm.adapter}
    row |= {"bits": lm.bits, "parameters": lm.n_parameters, "corpus": corpus.name, "split": split}
    row |= {"dialogues": scores.n_dialogues, "stand_in": bool(lm.stand_in or corpus.stand_in)}
    row |= {"seed": next(iter(seeds), None), "decoding": settings[0], "training": settings[1]}
    row |= {name: getattr(scores, name) for name in (*SCORES, "richness", "dst")} | {"notes": list(scores.notes)}
    if intervals := getattr(scores, "intervals", None):
        row["intervals"] = intervals
    device = machine.gpu_name if lm.device == "cuda" else f"{lm.device} ({machine.threads} threads)"
    versions = {"labkit": __version__, "cuda": machine.cuda}
    versions |= {name: version(name) for name in ("torch", "transformers", "peft")}
    return row | {"seconds": seconds and round(seconds, 1), "speed": speed, "device": device, "versions": versions}


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
