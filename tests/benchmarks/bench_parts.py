"""A step of `finetune` on a CPU, all rows at once and rows side by side in threads; one JSON line each.

    python tests/benchmarks/bench_parts.py [--rounds 3] [--steps 20]

Stand-ins on MiniWOZ. Every run is a process of its own, the two ways in turns: wall and processor seconds of a step
(the median of all but the first two), and the process's peak memory. Weights of 4 bits are multiplied as before in the
first way, in bfloat16 where the processor has units for it.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time

import labkit
from labkit.training import precision, trainer

SETTINGS = (  # model, bits, dialogues a step
    ("mini-pythia-8m", 4, 2),
    ("mini-pythia-8m", 32, 8),
    ("mini-pythia-500k", 32, 2),
    ("mini-pythia-500k", 32, 8),
)


def measured(in_parts: bool, model: str, bits: int, batch: int, steps: int) -> dict[str, float]:
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"wall": round(wall, 3), "processor": round(worked, 3), "peak_mb": round(peak)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    a = parser.parse_args()
    for setting in SETTINGS:
        for _ in range(a.rounds):
            for in_parts in (False, True):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    row = pool.apply(measured, (in_parts, *setting, a.steps))
                name, bits, batch = setting
                shown = {"model": name, "bits": bits, "dialogues": batch, "rows": "side by side" if in_parts else "all"}
                print(json.dumps(shown | row), flush=True)
