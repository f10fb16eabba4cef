"""Point 7: two files that belong together are not told apart by a kill at any moment."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attacks.case import RESULT, Case, Lost, command, expect
from attacks.stage import MODEL, stage
from labkit.metrics import read_predictions
from labkit.results.board import Board
from labkit.storage import (
    atomic_folder,
    last_checkpoint,
    read_json,
    read_record,
    remove_leftovers,
    sha256,
    write_json,
    write_record,
)

KILLS = 8  # moments: before each rename of a file, and before each time a file is forced to the disk
WATCHED = ("replace", "fsync")


def cases() -> list[Case]:
    """A kill before every rename and every flush of each writer."""
    return [*_killed("predictions and their record", _write_pair, _check_pair),
            *_killed("a folder replaced", _write_folder, _check_folder),
            *_killed("a row of the board", _add_row, _check_rows),
            *_killed("labkit generate", _generate, _check_generated, first=2),
            *_killed("labkit finetune", _finetune, _check_finetuned, moments=14)]  # fmt: skip


def _killed(
    name: str, write: Callable[[str], None], check: Callable[[], None], *, moments: int = KILLS, first: int = 1
) -> Iterator[Case]:
    for watched in WATCHED:
        for moment in range(first, moments + 1):
            act = partial(_kill_at, watched, moment, write, check)
            yield Case(7, f"{name}, killed before os.{watched} number {moment}", act, (RESULT,), seconds=90)


def _kill_at(watched: str, moment: int, write: Callable[[str], None], check: Callable[[], None]) -> None:
    """Write the old, write the new and be killed meanwhile; then it must hold together, and go on."""
    write("old")
    process = os.fork()
    if process == 0:
        _die_at(watched, moment, write)
    os.waitpid(process, 0)
    check()
    write("new")
    check()


def _die_at(watched: str, moment: int, write: Callable[[str], None]) -> None:
    original = getattr(os, watched)
    left = moment

    def counted(*arguments: object, **more: object) -> object:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **more)

    try:
        setattr(os, watched, counted)
        write("new")
    finally:
        os._exit(0)


# --- what is written, and what must hold ------------------------------------------------------------------------------


def _write_pair(version: str) -> None:
    write_json("p.json", {version: []})
    write_record("p.run.json", {"version": version}, about="p.json")


def _check_pair() -> None:
    (version,) = read_json("p.json")
    record = read_record("p.run.json", about="p.json")
    expect(record in ({}, {"version": version}), f"predictions are {version}, their record is {record}")


def _write_folder(version: str) -> None:
    with atomic_folder("model") as folder:
        (folder / "a.json").write_text(version)
        (folder / "b.json").write_text(version)


def _check_folder() -> None:
    remove_leftovers("model")
    if not Path("model").is_dir():
        raise Lost("the folder is gone")
    parts = {path.read_text() for path in Path("model").glob("*.json") if not path.name.startswith(".")}
    expect(len(parts) == 1, f"its files are of {parts}")
    left = [path.name for path in Path().iterdir()]
    expect(left == ["model"], f"beside it stays {left}")


def _add_row(version: str) -> None:
    for _ in range(3):
        Board().add({"task": version})


def _check_rows() -> None:
    rows = [row["task"] for row in Board().rows()]
    if rows[:3] != ["old"] * 3:
        raise Lost(f"rows are {rows}")


SETTINGS = {"old": "3", "new": "4"}  # --max-new-tokens


def _generate(version: str) -> None:
    words = ["generate", "--model", MODEL, "--corpus", stage().corpus_folder, "--limit", 1, "--out", "p.json"]
    command(*words, "--max-new-tokens", SETTINGS[version])


def _check_generated() -> None:
    """Whole predictions; and what evaluate says of their settings is right, or nothing."""
    command("evaluate", "p.json", "--corpus", stage().corpus_folder, "--allow-lexical")
    row = Board().rows()[-1]
    said = (row.get("decoding") or {}).get("max_new_tokens")
    predictions = read_predictions("p.json")
    tokens = stage().lm.tokenizer
    longest = max(len(tokens.encode(turn["response"])) for turns in predictions.values() for turn in turns)
    record = json.loads(Path("p.run.json").read_text()) if Path("p.run.json").is_file() else {}
    belongs = record.get("sha256") == sha256("p.json")
    expect(said is None or belongs, f"replies of up to {longest} tokens, said to be of max_new_tokens={said}")


def _finetune(version: str) -> None:
    """The old and the new are the same run, which goes on from what is on the disk."""
    if version == "old":
        return
    words = ["finetune", "--model", MODEL, "--corpus", stage().corpus_folder, "--out", "adapter", "--eval-steps", 0]
    sizes = ["--max-steps", 2, "--save-steps", 1, "--batch-size", 1, "--max-train-dialogues", 2, "--max-length", 64]
    command(*words, *sizes)


def _check_finetuned() -> None:
    """A result stands beside its weights only, and after two steps."""
    out = Path("adapter")
    if not (out / "result.json").is_file():
        return
    expect((out / "adapter_model.safetensors").is_file(), "a result without its weights")
    checkpoint = last_checkpoint(out / "checkpoints")
    expect(checkpoint is not None, "no checkpoint")
    steps = read_json(Path(checkpoint) / "trainer_state.json")["global_step"]
    expect(steps == 2, f"{steps} steps instead of 2")
