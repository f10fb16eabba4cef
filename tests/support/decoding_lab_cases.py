"""Random cases for the decoding lab's filters, and what transformers' own filters make of them."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers.generation import logits_process

from labkit.decoding.config import DecodingConfig

SIZES = (2_048, 50_304)  # of the stand-ins' vocabulary and of pythia's
GRAMMAR = "schema"
CUT = -1.0  # in place of a probability
DRAWS = (0.0, 0.10371, 0.49913, 0.87131, 0.99907)  # on no border between equal shares
PROCESSORS = {
    "repetition_penalty": logits_process.RepetitionPenaltyLogitsProcessor,
    "temperature": logits_process.TemperatureLogitsWarper,
    "top_k": logits_process.TopKLogitsWarper,
    "top_p": logits_process.TopPLogitsWarper,
    "min_p": logits_process.MinPLogitsWarper,
    "typical_p": logits_process.TypicalLogitsWarper,
}


@dataclass(frozen=True)
class Case:
    """Logits [V], settings, and where the token stands."""

    logits: np.ndarray
    settings: DecodingConfig
    context: list[int]
    length: int  # of the reply so far
    stop: list[int]
    allowed: list[int] | None = None  # by a grammar, where there is one

    def where(self) -> dict:
        where = {"context": self.context, "length": self.length, "stop": self.stop}
        return where if self.allowed is None else {**where, "allowed": {GRAMMAR: self.allowed}}


def random_cases(size: int, n: int, seed: int = 0) -> list[Case]:
    """Cases over a vocabulary of `size`: sharp and flat logits, with and without ties, every filter on or off."""
    return [_case(size, random.Random(f"{seed}/{size}/{number}")) for number in range(n)]


def grammar_cases(size: int, n: int, seed: int = 0) -> list[Case]:
    """The same under a grammar that allows few tokens, many, or all but a few."""
    cases = []
    for number, case in enumerate(random_cases(size, n, seed)):
        draw = random.Random(f"grammar/{seed}/{size}/{number}")
        allowed = draw.sample(range(size), draw.choice([1, 3, 40, size // 2, size - 3]))
        going_on = min(set(range(size)) - set(case.stop))  # else min_new_tokens can leave nothing
        cases.append(replace(case, allowed=sorted({*allowed, going_on})))
    return cases


def _case(size: int, draw: random.Random) -> Case:
    numbers = np.random.default_rng(draw.getrandbits(32))
    logits = numbers.normal(0, draw.choice([0.5, 2.0, 4.0]), size)
    if draw.random() < 0.3:
        logits = np.round(logits, draw.choice([0, 1]))  # many ties
    settings = {
        "strategy": "greedy" if draw.random() < 0.1 else "sample",
        "repetition_penalty": _on(draw, 1.0, [0.8, 1.05, 1.3, 2.0]),
        "min_new_tokens": _on(draw, 0, [1, 5, 20]),
        "seed": draw.randrange(100),
    }
    if settings["strategy"] == "sample":
        settings["temperature"] = _on(draw, 1.0, [0.1, 0.5, 0.95, 1.5, 2.0, 3.7])
        settings["top_k"] = _on(draw, 0, [1, 2, 5, 40, 300, size + 1])
        settings["top_p"] = _on(draw, 1.0, [0.05, 0.3, 0.5, 0.9, 0.95, 0.999])
        settings["min_p"] = _on(draw, 0.0, [0.01, 0.08, 0.3, 0.5])
        settings["typical_p"] = _on(draw, 1.0, [0.05, 0.2, 0.5, 0.9, 0.95])
    return Case(
        logits=logits.astype(np.float32),
        settings=DecodingConfig(**settings),
        context=[draw.randrange(size) for _ in range(draw.choice([1, 30, 400]))],
        length=draw.randrange(10),
        stop=sorted(draw.sample(range(size), 5)),
    )


def _on(draw: random.Random, off: float, values: list[float]) -> float:
    return draw.choice(values) if draw.random() < 0.5 else off


@contextmanager
def stable_sort() -> Iterator[None]:
    """torch.sort leaves the order of equal values open, and so which of equal tokens top-p cuts; stable: by id."""
    plain = torch.sort
    torch.sort = partial(plain, stable=True)
    try:
        yield
    finally:
        torch.sort = plain


def by_transformers(case: Case, dtype: torch.dtype = torch.float64) -> np.ndarray:
    """Probabilities [V] after transformers' own filters, in `labkit.decoding`'s order; CUT where a token is out."""
    scores = torch.tensor(case.logits, dtype=dtype)[None]  # [1, V]
    seen = torch.tensor([case.context])  # [1, T]
    if case.allowed is not None:
        held = logits_process.PrefixConstrainedLogitsProcessor(lambda *_: case.allowed, num_beams=1)
        scores = held(seen, scores)
    if case.length < case.settings.min_new_tokens:
        scores[0, case.stop] = -torch.inf
    for name, processor in PROCESSORS.items():
        value = getattr(case.settings, name)
        if value != getattr(DecodingConfig(), name):
            scores = processor(value)(seen, scores)
    probabilities = scores.double().softmax(-1)[0].numpy()
    return np.where(np.isneginf(scores[0].numpy()), CUT, probabilities)


def as_json(case: Case) -> dict:
    """What the JavaScript takes, the logits apart."""
    settings = asdict(case.settings)
    if case.allowed is not None:
        settings["grammar"] = GRAMMAR
    return {"settings": settings, "where": case.where(), "draws": DRAWS}


def write(cases: list[Case], folder: Path) -> tuple[Path, Path]:
    """The cases as files for Node: JSON, and all logits in one file of float32."""
    listed, end = [], 0
    for case in cases:
        listed.append(as_json(case) | {"from": end, "to": end + len(case.logits)})
        end += len(case.logits)
    (folder / "cases.json").write_text(json.dumps(listed), encoding="utf-8")
    np.concatenate([case.logits for case in cases]).tofile(folder / "logits.f32")
    return folder / "cases.json", folder / "logits.f32"
