"""A row of the board: what ran, on what, with which settings, and its scores."""

import time
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import __version__
from labkit.corpora.types import Corpus
from labkit.lab import Lab
from labkit.machine.hardware import hardware
from labkit.models import LanguageModel
from labkit.storage import read_json, shipped

if TYPE_CHECKING:
    from labkit.metrics import Scores

SCORES = ("bleu", "inform", "success", "combined")


_TEXTS = shipped(__file__, "board.toml")


_ORIGINAL = _TEXTS["original"]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)  # numpy's numbers are no JSON


def _short(value: Any, names: set[str] | None = None) -> Any:
    """Settings in one line, `strategy=sample, top_p=0.9`; a boolean as a word."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={setting}" for name, setting in value.items() if name in (names or value))
    return ("stand-in" if value else "real") if isinstance(value, bool) else value


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
