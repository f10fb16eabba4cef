"""Point 8: the board with 100,000 rows, and nothing slower than linear."""

import json
import random
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from attacks.case import RESULT, Case, expect, seconds_of_cpu
from attacks.stage import stage
from labkit import structure
from labkit.corpora import Dialogue
from labkit.metrics import constant_predictions, evaluate, gold_predictions
from labkit.notebook.view import show_dialogue
from labkit.prompts.format import exchanges
from labkit.results.board import Board

ROWS = 100_000
ALLOWED = 5.0  # CPU seconds for the table and the page
GROWTH = 4  # times as much input
STEEPEST = 2.5 * GROWTH  # times as many seconds; quadratic would be 16
SLIGHT = 0.05  # seconds: too little to compare


def cases() -> list[Case]:
    """The board at its size; everything else at a size and at four times that."""
    return [*_boards(), *_growing()]


# --- the board --------------------------------------------------------------------------------------------------------

VIEWS: dict[str, Callable[[Board], object]] = {
    "table": lambda board: board.table(),
    "html": lambda board: board.html().html,
    "rows of one task": lambda board: board.rows(task="task 3"),
    "table by success": lambda board: board.table("success"),
}
SMALLER: dict[str, Callable[[Board], object]] = {
    "markdown": lambda board: board.markdown(),
    "csv": lambda board: board.csv(),
    "figure": lambda board: board.figure().to_json(),
    "original": lambda board: board.original("untuned"),
}


def _boards() -> Iterator[Case]:
    for kind in ("alike", "all different"):
        for name, view in VIEWS.items():
            act = partial(_within, view, kind == "alike")
            yield Case(8, f"board of {ROWS:,} rows, {kind}: {name}", act, (RESULT,), seconds=120)
        for name, view in SMALLER.items():
            act = partial(_linear, partial(_seconds_of_view, view, kind == "alike"), 500)
            yield Case(8, f"board of rows, {kind}: {name} is linear", act, (RESULT,), seconds=120)
    yield Case(
        8, "adding to a large board is linear", partial(_linear, _seconds_of_adding, 5000), (RESULT,), seconds=60
    )


def _board(n: int, alike: bool) -> Board:
    board = Board()
    board.path.parent.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    lines = []
    for number in range(n):
        scores = {name: draw.uniform(0, 100) for name in ("bleu", "inform", "success", "combined")}
        row = {"task": f"task {number % 7}", "model": f"model {number % 11}", "corpus": "miniwoz", "split": "test"}
        row |= {
            "time": f"2026-01-01T00:00:{number}",
            "dialogues": 10,
            "decoding": {"strategy": "greedy", "seed": number % 5},
        }
        if not alike:
            row |= {"corpus": f"corpus {number}", "model": f"model {number}", "training": {"lora_r": number}}
        intervals = {name: [value - 1, value + 1] for name, value in scores.items()}
        lines.append(json.dumps({**row, **scores, "intervals": intervals}))
    board.path.write_text("\n".join(lines) + "\n")
    return board


def _within(view: Callable[[Board], object], alike: bool) -> None:
    board = _board(ROWS, alike)
    begun = seconds_of_cpu()
    view(board)
    took = seconds_of_cpu() - begun
    expect(took < ALLOWED, f"{took:.1f} CPU seconds")


def _seconds_of_view(view: Callable[[Board], object], alike: bool, n: int) -> float:
    board = _board(n, alike)
    begun = seconds_of_cpu()
    view(board)
    return seconds_of_cpu() - begun


def _seconds_of_adding(n: int) -> float:
    board = _board(n, True)
    begun = seconds_of_cpu()
    for _ in range(50):
        board.add({"task": "x"})
    return seconds_of_cpu() - begun


# --- everything else --------------------------------------------------------------------------------------------------


def _dialogues(n: int) -> list[Dialogue]:
    """So many dialogues: those of the stage again and again, under other names."""
    source = [dialogue for split in stage().corpus for dialogue in stage().corpus[split]]
    result = []
    for number in range(n):
        one = source[number % len(source)]
        result.append(Dialogue(f"D{number}.json", one.services, one.turns))
    return result


def _long(n: int) -> Dialogue:
    """A dialogue of about so many turns."""
    turns = [turn for dialogue in _dialogues(8) for turn in dialogue.turns]
    return Dialogue("LONG.json", ("hotel",), (turns * (n // len(turns) + 1))[: n - n % 2])


def _texts(n: int) -> list[str]:
    draw = random.Random(0)
    words = [f"word{number}" for number in range(n)]
    return [" ".join(draw.choices(words, k=8)) for _ in range(n)]


def _scored(n: int) -> None:
    from dataclasses import replace

    dialogues = _dialogues(n)
    corpus = replace(stage().corpus, splits={"test": dialogues}, goals={}, booked={})
    evaluate(constant_predictions(dialogues), corpus, "test")


def _written_labels(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, n)


STEPS: dict[str, tuple[int, Callable[[int], object]]] = {
    "evaluate": (50, _scored),
    "gold predictions": (100, lambda n: gold_predictions(_dialogues(n))),
    "representations": (200, lambda n: structure.representations(_dialogues(n))),
    "a dialogue of many turns, shown": (200, lambda n: show_dialogue(_long(n))),
    "a dialogue of many turns, its exchanges": (1000, lambda n: list(exchanges(_long(n)))),
    "representations of a long dialogue": (1000, lambda n: structure.representations([_long(n)])),
    "words of one cluster": (2000, lambda n: structure.representative_words(_texts(n), [0] * n)),
    "labels numbered anew": (50_000, lambda n: structure.relabel(_written_labels(n))),
    "transitions": (20_000, lambda n: structure.transition_matrix([_written_labels(n).tolist()], 5)),
    "a long text tokenised": (20_000, lambda n: stage().lm.tokenizer.encode("a cheap hotel . " * (n // 4))),
    "embeddings of equal texts": (2000, lambda n: structure.embed(["a hotel"] * n, stage().lm)),
}


def _growing() -> Iterator[Case]:
    for name, (size, step) in STEPS.items():
        act = partial(_linear, partial(_seconds_of, step), size)
        yield Case(8, f"{name} is linear", act, (RESULT,), seconds=60)


def _seconds_of(step: Callable[[int], object], n: int) -> float:
    begun = seconds_of_cpu()
    step(n)
    return seconds_of_cpu() - begun


def _linear(seconds: Callable[[int], float], size: int) -> None:
    """Four times as much takes about four times as long; the best of two, since other work disturbs."""
    seconds(8)  # imports and caches
    small = min(seconds(size), seconds(size))
    large = min(seconds(GROWTH * size), seconds(GROWTH * size))
    expect(
        large < SLIGHT or large < STEEPEST * max(small, SLIGHT / STEEPEST),
        f"{small:.3f} s for {size}, {large:.3f} s for {GROWTH * size}",
    )
