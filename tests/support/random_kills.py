"""Runs that are killed at random moments, and gone on with until they end: the weights must be those of a whole run."""

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

from tiny_training import TINY, tiny_lm

from labkit.corpora.types import Corpus
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune

BASE = replace(TINY, max_steps=15, save_steps=4, eval_steps=5, lora_dropout=0.1)  # 5 steps an epoch
RUNS = {
    "cosine": {},
    "constant": {"lr_scheduler": "constant"},
    "linear, not grouped": {"lr_scheduler": "linear", "group_by_length": False},
    "in full": {"full_finetune": True, "lora_dropout": 0.0},
    "best kept": {"metric_for_best_model": "loss"},
    "early stop": {
        "metric_for_best_model": "loss",
        "early_stopping_patience": 1,
        "lr_scheduler": "constant_with_warmup",
    },
}
KILLS = 20
SECONDS = 150  # for all of it


def main(folder: Path, seed: int, corpus: Corpus) -> int:
    """Runs whose weights differ from those of a run that nobody killed."""
    moments = random.Random(seed)
    end = time.monotonic() + SECONDS
    whole = {}
    duration = {}
    for name, changes in RUNS.items():
        started = time.monotonic()
        child(folder / name / "whole", replace(BASE, **changes), corpus).wait()
        duration[name] = time.monotonic() - started
        whole[name] = weights(folder / name / "whole")
    wrong = 0
    kills = 0
    while kills < KILLS and time.monotonic() < end:
        name = list(RUNS)[kills % len(RUNS)]
        out = folder / name / f"killed {kills}"
        at = moments.uniform(0.05, 0.95) * duration[name]
        run = child(out, replace(BASE, **RUNS[name]), corpus)
        run.kill_after(at)
        child(out, replace(BASE, **RUNS[name]), corpus).wait()
        same = weights(out) == whole[name]
        print(f"{name}: killed after {at:.2f} s, {'the same' if same else 'OTHER'} weights", flush=True)
        wrong += not same
        kills += 1
    print(f"{kills} kills, {wrong} wrong")
    return wrong if kills else 1


def weights(out: Path) -> bytes | None:
    for name in ("adapter_model.safetensors", "model.safetensors"):
        if (out / name).exists():
            return (out / name).read_bytes()
    return None


class child:
    """A forked process that trains into a folder."""

    def __init__(self, out: Path, config: FinetuneConfig, corpus: Corpus):
        self.pid = os.fork()
        if self.pid == 0:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            status = 1
            try:
                finetune(tiny_lm(), corpus, config, out)
                status = 0
            finally:
                os._exit(status)

    def wait(self) -> None:
        os.waitpid(self.pid, 0)

    def kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
