"""What cases are tried on: a small corpus, a small model and its adapter, predictions. Made once, before the forks."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import labkit
from labkit.corpora import Corpus
from labkit.corpora.miniwoz import generate
from labkit.metrics import gold_predictions
from labkit.models import LanguageModel, attach_adapter, load_model, save_adapter
from labkit.storage import write_json

MODEL = "mini-pythia-500k"  # ships with the lab


@dataclass(frozen=True)
class Stage:
    """Folders and files that no case may change, and what was read from them."""

    corpus_folder: Path
    model_folder: Path
    adapter: Path
    predictions: Path
    corpus: Corpus
    lm: LanguageModel


_FOLDER: list[Path] = []


@contextmanager
def set_up() -> Iterator[Stage]:
    """The stage, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="attack-stage-"))
    _FOLDER.append(folder)
    try:
        yield stage()
    finally:
        shutil.rmtree(folder)
        _FOLDER.clear()
        stage.cache_clear()


@cache
def stage() -> Stage:
    """The stage that `set_up` has made a folder for."""
    folder = _FOLDER[0]
    corpus_folder = folder / "corpus"
    _write_corpus(corpus_folder)
    corpus = labkit.load_corpus(corpus_folder)
    lm = load_model(MODEL)
    adapter = save_adapter(attach_adapter(lm, r=2), folder / "adapter")
    predictions = write_json(folder / "predictions.json", gold_predictions(corpus["test"]))
    return Stage(corpus_folder, Path(lm.source), adapter, predictions, corpus, lm)


def _write_corpus(folder: Path) -> None:
    raw = generate(seed=3, sizes={"train": 4, "dev": 2, "test": 2})
    for split, dialogues in raw["splits"].items():
        _write(folder / split / "dialogues_001.json", dialogues)
    for name in ("dialog_acts", "goals", "booked_domains", "schema"):
        _write(folder / f"{name}.json", raw[name])
    for domain, rows in raw["database"].items():
        _write(folder / "db" / f"{domain}_db.json", rows)


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def model_copy(folder: Path | str = "model") -> Path:
    """A copy of the model's folder that a case may damage."""
    copied = shutil.copytree(stage().model_folder, folder)
    return Path(copied)


def adapter_copy(folder: Path | str = "adapter") -> Path:
    """A copy of the adapter's folder that a case may damage."""
    copied = shutil.copytree(stage().adapter, folder)
    return Path(copied)
