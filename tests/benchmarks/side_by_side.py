"""Two notebooks at once on one machine: what they lose against one after the other; a JSON line for each kind of work.

    python tests/benchmarks/side_by_side.py [--rounds 3]

Threads of OpenMP wait for their next piece of work by spinning, which is fastest where nothing else runs. Beside
another process they spin on the cores that the other one needs. `import labkit` lets them sleep instead, if torch is
not imported yet and OMP_WAIT_POLICY is not set. Here some processes import torch first ("spinning"), others labkit.

A round is one process alone, then two at once; each writes replies with the largest stand-in, and trains a LoRA of 20
steps. Seconds are wall seconds of the work itself, the median over the rounds. `lost` is how much longer two at once
take than one after the other would: 0.2 is 20 %.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

FIRST = {"spinning": "torch", "sleeping": "labkit"}  # how threads wait: what is imported first
WORK = """
import sys, time
import {first}
import labkit

lm = labkit.load_model("mini-pythia-8m")
corpus = labkit.load_corpus("miniwoz", sizes={{"train": 60, "dev": 2, "test": 8}})
print("ready", flush=True)
sys.stdin.readline()
begun = time.perf_counter()
labkit.predict(lm, corpus["test"], labkit.DecodingConfig(max_new_tokens=40))
written = time.perf_counter()
config = labkit.FinetuneConfig(max_steps=20, batch_size=4, eval_steps=0)
labkit.finetune(lm, corpus, config, sys.argv[1])
print(written - begun, time.perf_counter() - written, flush=True)
"""
Seconds = tuple[float, float]  # of writing and of training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    alone: dict[str, list[Seconds]] = {way: [] for way in FIRST}
    beside: dict[str, list[Seconds]] = {way: [] for way in FIRST}
    for _ in range(rounds):
        for way, first in FIRST.items():
            alone[way] += run_at_once(1, first)
            beside[way] += run_at_once(2, first)
    for part, task in enumerate(("writing", "training")):
        for way in FIRST:
            one = statistics.median(seconds[part] for seconds in alone[way])
            two = statistics.median(seconds[part] for seconds in beside[way])
            figures = {"alone": round(one, 2), "beside": round(two, 2), "lost": round(two / (2 * one) - 1, 2)}
            print(json.dumps({"task": task, "threads": way, "cores": os.cpu_count(), **figures}), flush=True)


def run_at_once(n: int, first: str) -> list[Seconds]:
    """What n processes take that begin their work at the same moment."""
    given = {**os.environ, "HF_HUB_OFFLINE": "1"}
    given.pop("OMP_WAIT_POLICY", None)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n):
            command = [sys.executable, "-c", WORK.format(first=first), f"{folder}/{number}"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            runs.append(subprocess.Popen(command, env={**given, "LAB_HOME": folder}, text=True, **pipes))
        for run in runs:
            while run.stdout.readline() != "ready\n":
                if run.poll() is not None:
                    sys.exit(run.stderr.read())
        for run in runs:
            run.stdin.write("\n")
            run.stdin.flush()
        return [_seconds(run) for run in runs]


def _seconds(run: "subprocess.Popen[str]") -> Seconds:
    printed, errors = run.communicate()
    if run.returncode:
        sys.exit(errors)
    writing, training = printed.splitlines()[-1].split()
    return float(writing), float(training)


if __name__ == "__main__":
    main()
