"""The largest stand-in on MiniWOZ: load, QLoRA, 100 test dialogues before and after; and a move of a slider.

    python tests/benchmarks/bench_stand_in.py [MODEL]

One JSON line a measurement; wall seconds. "share" is the part of the time that the lab promises (load 1 s, training
180 s, evaluation 60 s, slider 0.1 s), so a share above 1 breaks the promise.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from labkit.corpora import load_corpus
from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import filter_stages
from labkit.decoding.predict import predict
from labkit.metrics import evaluate
from labkit.models import load_model
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune

PROMISED = {"load": 1, "slider": 0.1, "zero-shot evaluation": 60, "QLoRA": 180, "tuned evaluation": 60}  # seconds


def timed(function, *args, **kwargs):
    before = time.perf_counter()
    value = function(*args, **kwargs)
    return time.perf_counter() - before, value


def report(what: str, seconds: float, **figures: float) -> None:
    share = round(seconds / PROMISED[what], 2)
    print(json.dumps({"what": what, "seconds": round(seconds, 3), "share": share, **figures}), flush=True)


def evaluated(lm, corpus, dialogues) -> dict[str, float]:
    scores = evaluate(predict(lm, dialogues, DecodingConfig("beam", num_beams=2)), corpus)  # chosen on dev
    return {"replies": scores.n_turns} | {
        name: round(getattr(scores, name), 1) for name in ("bleu", "inform", "success")
    }


def main(model: str) -> None:
    corpus = load_corpus("miniwoz")
    dialogues = corpus["test"][:100]
    load_model("mini-pythia-500k", bits=4)  # the imports, which a kernel pays for once
    seconds, lm = timed(load_model, model, bits=4)
    report("load", seconds)
    sliders = DecodingConfig("sample", 64, 0.8, 500, 0.95, 0.001, 0.95, 1.2)  # all filters on, pythia's vocabulary
    logits = np.random.default_rng(0).normal(0, 3, 50304).astype("float32")
    filter_stages(logits, sliders)
    report("slider", timed(filter_stages, logits, sliders)[0])
    seconds, figures = timed(evaluated, lm, corpus, dialogues)
    report("zero-shot evaluation", seconds, **figures)
    with tempfile.TemporaryDirectory() as folder:
        config = FinetuneConfig(model=lm.name, bits=4, max_steps=440, batch_size=2, eval_steps=0)
        seconds, result = timed(finetune, lm, corpus, config, Path(folder) / "adapter")
        report("QLoRA", seconds, steps=config.max_steps, target_tokens_per_second=round(result.tokens_per_second))
        tuned = load_model(model, bits=4, adapter=result.adapter)
        seconds, figures = timed(evaluated, tuned, corpus, dialogues)
    report("tuned evaluation", seconds, **figures)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["mini-pythia-8m"]))
