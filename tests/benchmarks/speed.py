"""How fast this machine trains, generates and scores: `make bench`, or `python tests/benchmarks/speed.py MODEL`.

Prints one JSON line per measurement, with what it ran on. Times are wall seconds after a warm-up.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from labkit import environment
from labkit.corpora import load_corpus
from labkit.decoding import DecodingConfig, filter_stages, predict
from labkit.finetuning import FinetuneConfig, finetune
from labkit.metrics import evaluate, gold_predictions
from labkit.models import load_model


def timed(function, *args, **kwargs):
    before = time.perf_counter()
    value = function(*args, **kwargs)
    return time.perf_counter() - before, value


def main(model: str) -> None:
    hardware = environment.hardware()
    corpus = load_corpus("miniwoz")
    lm = load_model(model)
    on = {"model": lm.name, "stand_in": lm.stand_in, "bits": lm.bits, "device": hardware.gpu_name or hardware.device}
    on |= {"threads": hardware.threads, "corpus": corpus.name}

    def report(what: str, **figures: float) -> None:
        print(
            json.dumps({"what": what, **{name: round(value, 2) for name, value in figures.items()}, **on}), flush=True
        )

    sliders = DecodingConfig("sample", 64, 0.8, 500, 0.95, 0.001, 0.95, 1.2)  # all filters on, pythia's vocabulary
    logits = np.random.default_rng(0).normal(0, 3, 50304).astype("float32")
    filter_stages(logits, sliders)
    report("a move of a slider", seconds=timed(filter_stages, logits, sliders)[0])
    with tempfile.TemporaryDirectory() as out:
        result = finetune(lm, corpus, FinetuneConfig(max_steps=20, eval_steps=0), Path(out) / "adapter")
    report("training", target_tokens_per_second=result.tokens_per_second, seconds=result.seconds)

    dialogues, config = corpus["test"][:20], DecodingConfig(max_new_tokens=32)
    predict(lm, dialogues[:2], config)
    seconds, predictions = timed(predict, lm, dialogues, config)
    replies = [turn["response"] for turns in predictions.values() for turn in turns]
    tokens = sum(len(lm.codec.encode(reply)) for reply in replies)
    report("generation", replies_per_second=len(replies) / seconds, tokens_per_second=tokens / seconds, seconds=seconds)

    gold = gold_predictions(corpus["test"])
    evaluate(gold, corpus)
    seconds, scores = timed(evaluate, gold, corpus)
    report("metrics", turns_per_second=scores.n_turns / seconds, seconds=seconds)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["mini-pythia"]))
