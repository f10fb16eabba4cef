"""Runs that are killed with SIGKILL at a chosen moment and then called again, each in a process forked for it.

`python kill_and_resume.py FOLDER` leaves FOLDER/MOMENT/adapter_model.safetensors for every moment, and for "whole",
the run that nobody kills. Forked, because importing torch, transformers and Trainer takes longer than all the runs;
what a run imports by and by is asked of a first one, and imported here.
"""

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from tiny_training import TINY, plain_dialogue, tiny_lm

from labkit.corpora.types import Corpus
from labkit.training import record, trainer
from labkit.training import run as run_module

CONFIG = replace(TINY, max_steps=6, save_steps=2, eval_steps=2, lora_dropout=0.1, score_dialogues=2)
CONFIG = replace(CONFIG, metric_for_best_model="loss")
CORPUS = Corpus(
    "tiny", {s: [plain_dialogue(f"{s}{i}", 1 + i % 3) for i in range(9)] for s in ("train", "dev", "test")}, "t"
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(call: int, owner: object, name: str, before=lambda *_: None) -> None:
    """Die in the so-manieth call of a function; `before` gets its arguments first."""
    real, calls = getattr(owner, name), []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            before(*args)
            die()
        return real(*args, **kwargs)

    setattr(owner, name, dying)


def half_file(value: object, path: object, *_: object) -> None:
    """What a kill leaves of a file that is being written."""
    Path(path).write_bytes(b"PK half of a file")


MOMENTS = {
    "whole": lambda: None,
    "in the middle of a step": lambda: at(7, trainer, "target_loss"),
    "while the optimiser is saved": lambda: at(3, torch, "save", half_file),
    "while the state is saved": lambda: at(
        2, transformers.TrainerState, "save_to_json", lambda _, path: Path(path).write_text('{"epoch": 1')
    ),
    "while the best adapter is saved": lambda: at(2, record, "save_adapter"),
    "in the middle of publishing": lambda: at(2, Path, "replace"),
    "before the result is written": lambda: at(1, run_module, "write_result"),
}


def run(folder: Path, prepare: Callable[[], None], then: Callable[[], None] = lambda: None) -> int:
    """The exit status of a process of its own that trains into `folder`."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    status = 1
    try:
        prepare()
        lm = tiny_lm()
        lm.codec.stop_ids = list(range(128))  # half of all tokens: replies that are scored end soon
        run_module.finetune(lm, CORPUS, CONFIG, folder)
        then()
        status = 0
    finally:
        os._exit(status)


def import_what_a_run_imports(folder: Path) -> None:
    names = folder / "modules.json"
    run(folder / "first", lambda: None, then=lambda: names.write_text(json.dumps(list(sys.modules))))
    for name in json.loads(names.read_text()):
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # each run collects once, and a fork would copy every object for that


if __name__ == "__main__":
    assert transformers.Trainer  # imported by being asked for, with peft and bitsandbytes: once, not in every process
    import_what_a_run_imports(Path(sys.argv[1]))
    for moment, prepare in MOMENTS.items():
        folder = Path(sys.argv[1]) / moment
        killed = run(folder, prepare)
        finished = run(folder, lambda: None)
        print(f"MOMENT {moment}: {os.WIFSIGNALED(killed) and os.WTERMSIG(killed)} {finished}", flush=True)
