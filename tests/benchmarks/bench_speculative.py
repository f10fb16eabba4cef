"""Speculative decoding with the stand-ins: how many times as fast as the large model alone, by tokens written ahead.

    python tests/benchmarks/bench_speculative.py [ADAPTER OF mini-pythia-8m, ADAPTER OF mini-pythia-500k]

The large model's weights have 4 bits; the draft is small enough to stay as it is.  36 prompts of MiniWOZ, greedy; every
text is checked to be the large model's own.  One JSON line a measurement; "alone" is tokens per second.
"""

import json
import sys
import time

from labkit.corpora import load_corpus
from labkit.decoding.config import DecodingConfig
from labkit.decoding.speculative import speculative
from labkit.models import load_model
from labkit.prompts.build import prompts

GREEDY = DecodingConfig(max_new_tokens=64)


def written(lm, draft, rows: list[list[int]], ahead: int = 0) -> tuple[float, list[list[int]]]:
    """Seconds, of three times the best, and replies."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        replies = [speculative(lm, draft, ids, GREEDY, ahead) for ids in rows]
        seconds.append(time.perf_counter() - started)
    return min(seconds), replies


def main(adapter: str | None = None, draft_adapter: str | None = None) -> None:
    lm = load_model("mini-pythia-8m", bits=4, adapter=adapter)
    draft = load_model("mini-pythia-500k", bits=32, adapter=draft_adapter)
    rows = [p.input_ids for dialogue in load_corpus("miniwoz")["test"][:4] for p in prompts(dialogue, lm.codec)]
    seconds, alone = written(lm, None, rows)
    for ahead in (1, 2, 3, 4):
        helped, same = written(lm, draft, rows, ahead)
        if same != alone:
            sys.exit("the draft changed the text")
        tokens = sum(map(len, alone))
        figures = {"tuned": bool(adapter), "ahead": ahead, "speed_up": round(seconds / helped, 2)}
        print(json.dumps(figures | {"alone": round(tokens / seconds)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
