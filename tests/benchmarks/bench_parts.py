"""A step of `finetune` and a call of `predict` on a CPU, all rows at once and side by side in threads; JSON lines.

    python tests/benchmarks/bench_parts.py [--rounds 3] [--steps 20] [--only writing] [--adapter FOLDER]

Stand-ins on MiniWOZ. Every run is a process of its own, the two ways in turns: wall and processor seconds of a step
(the median of all but the first two), or of a second call, and the process's peak memory. Weights of 4 bits are
multiplied as before in the first way of training, in bfloat16 where the processor has units for it.

Writing: greedy replies of up to 64 tokens to all turns of some dev dialogues, by a model of 4 bits; with an adapter of
mini-pythia-8m for the format `changes-db` also its own states, held to a grammar. `text`: a checksum of all replies.
"""

import argparse
import hashlib
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import labkit
import labkit.decoding.generate
from labkit.training import precision, trainer

TRAINING = (  # model, bits, dialogues a step
    ("mini-pythia-8m", 4, 2),
    ("mini-pythia-8m", 32, 8),
    ("mini-pythia-500k", 32, 2),
    ("mini-pythia-500k", 32, 8),
)


WRITING = (("mini-pythia-8m", 20), ("mini-pythia-8m", 60), ("mini-pythia-500k", 60))  # model, dialogues
STATES = {"format": "changes-db", "max_length": 1024}


def trained(in_parts: bool, model: str, bits: int, batch: int, steps: int) -> dict[str, float]:
    if not in_parts:
        trainer.works_in_parts = lambda *_: False
        precision.WIDE = 0
    one_step = trainer.TargetTrainer.training_step
    taken = []

    def timed(*args, **kwargs):
        begun, worked = time.perf_counter(), time.process_time()
        loss = one_step(*args, **kwargs)
        taken.append((time.perf_counter() - begun, time.process_time() - worked))
        return loss

    trainer.TargetTrainer.training_step = timed
    corpus = labkit.load_corpus("miniwoz", sizes={"train": 200, "dev": 4, "test": 4})
    config = labkit.FinetuneConfig(model=model, bits=bits, max_steps=steps, batch_size=batch, eval_steps=0)
    with tempfile.TemporaryDirectory() as folder:
        labkit.finetune(None, corpus, config, folder)
    wall, worked = (statistics.median(column) for column in zip(*taken[2:], strict=True))
    return {"wall": round(wall, 3), "processor": round(worked, 3), "peak_mb": peak()}


def written(in_parts: bool, model: str, n_dialogues: int, adapter: str, own_states: bool) -> dict[str, float | str]:
    if not in_parts:
        sys.modules["labkit.decoding.generate"].n_parts = lambda *_: 1
    corpus = labkit.load_corpus("miniwoz")
    lm = labkit.load_model(model, bits=4)
    how = {}
    if adapter:
        lm = labkit.load_adapter(lm, adapter)
        grammar = labkit.state_grammar(corpus, only_said=True)
        how = {**STATES, "database": corpus.database, "grammar": grammar, "own_states": own_states}
    for _ in range(2):
        begun, worked = time.perf_counter(), time.process_time()
        replies = labkit.predict(lm, corpus["dev"][:n_dialogues], labkit.DecodingConfig(max_new_tokens=64), **how)
        wall, processor = time.perf_counter() - begun, time.process_time() - worked
    text = hashlib.sha256(json.dumps(replies).encode()).hexdigest()[:8]
    return {"wall": round(wall, 2), "processor": round(processor, 2), "peak_mb": peak(), "text": text}


def peak() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def in_turns(work: Callable, shown: dict[str, object], given: tuple, rounds: int) -> None:
    for _ in range(rounds):
        for in_parts in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(work, (in_parts, *given))
            rows = "side by side" if in_parts else "all"
            print(json.dumps({**shown, "rows": rows, **row}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=("training", "writing"))
    parser.add_argument("--adapter", default="")
    a = parser.parse_args()
    if a.only != "writing":
        for name, bits, batch in TRAINING:
            shown = {"training": name, "bits": bits, "dialogues": batch}
            in_turns(trained, shown, (name, bits, batch, a.steps), a.rounds)
    if a.only != "training":
        for name, n_dialogues in WRITING:
            in_turns(written, {"writing": name, "dialogues": n_dialogues}, (name, n_dialogues, "", False), a.rounds)
        for n_dialogues, own_states in ((20, True), (60, True), (20, False)) if a.adapter else ():
            shown = {"writing": f"{WRITING[0][0]}, states", "dialogues": n_dialogues, "own_states": own_states}
            in_turns(written, shown, (WRITING[0][0], n_dialogues, a.adapter, own_states), a.rounds)
