"""A general dialogue corpus for pre-training mini-pythia: services in other domains, small talk, some prose."""

import re
import tomllib
from functools import cache, partial
from pathlib import Path
from random import Random

from labkit.corpora.miniwoz.elsewhere import World
from labkit.corpora.miniwoz.grammar import Grammar, pick, sentence_case

PHRASES = Path(__file__).with_name("pretraining.toml")
AN = re.compile(r"\b([Aa])(?= (?:[aeioAEIO]|u[nm](?!i)|hour)(?!ne\b|nce\b|uro))")
KINDS = ("elsewhere", "service", "talk", "quiz", "prose", "world", "records")
SHARES = (0.34, 0.24, 0.05, 0.02, 0.03, 0.21, 0.11)  # of the texts, a kind each
RICH = ["ferry", "courier", "campsite", "leisure", "catering"]  # the domains with the lab's kinds of constraints
BRACKETS = str.maketrans("«»", "[]")  # square brackets are syntax of the grammar


def pretraining_texts(seed: int = 2022, n: int = 40_000) -> list[str]:
    """`n` texts: dialogues of `user> …` and `bot> …` lines about other services than the lab's five, and short prose.

    Text `i` depends on `seed` and `i` only, so a longer list begins with the shorter one.
    """
    return [_text(Random(f"{seed}-{index}")) for index in range(n)]


@cache
def _grammars() -> dict[str, Grammar]:
    phrases = tomllib.loads(PHRASES.read_text(encoding="utf-8"))
    common = phrases.pop("common")
    return {domain: Grammar({**common, **rules}) for domain, rules in phrases.items()}


def _text(rng: Random) -> str:
    (kind,) = rng.choices(KINDS, SHARES)
    if kind == "elsewhere":
        return World(rng, partial(_expand, "ferry", rng=rng)).dialogue()
    if kind == "prose":
        return sentence_case(_expand("chat", "prose", rng))
    if kind == "world":
        return sentence_case(_expand("world", "prose", rng))
    if kind == "records":
        return _expand("world", "records", rng).translate(BRACKETS)
    if kind == "service":
        return _as_turns(_service(rng), rng)
    return _as_turns("".join(_expand("chat", kind, rng) for _ in range(3 if kind == "quiz" else 1)), rng)


def _expand(domain: str, rule: str, rng: Random) -> str:
    grammar = _grammars()[domain]
    grammar.remembered.clear()
    return grammar.expand(rule, rng)[0]


def _service(rng: Random) -> str:
    """One service, or in half of the dialogues two, one after the other."""
    domains = [domain for domain in _grammars() if domain not in ("chat", "world")] + 3 * RICH
    first, second = pick(rng, domains), pick(rng, domains)
    text = _expand(first, "opening", rng)
    if rng.random() < 0.5 and second != first:
        text += _expand(second, "again", rng)
    return text + _expand(second, "closing", rng)


def _as_turns(raw: str, rng: Random) -> str:
    """`U: ` and `B: ` lines as turns, each speaker in a style of their own; two lines in a row become one."""
    lower = {"U": rng.random() < 0.35, "B": rng.random() < 0.15}
    bare = rng.random() < 0.25  # a user who leaves out the full stop
    turns: list[list[str]] = []
    for line in raw.strip().split("\n"):
        speaker, text = line[0], re.sub(r"\s+", " ", line[2:]).strip(" ,")
        text = AN.sub(r"\1n", re.sub(r",* ?([.?!,])(?: ?[.,])*", r"\1", text))
        text += "." if text[-1:].isalnum() and not (bare and speaker == "U") else ""
        if turns and turns[-1][0] == speaker:
            turns[-1][1] += f" {text}"
        else:
            turns.append([speaker, text])
    styled = ((speaker, text.lower() if lower[speaker] else sentence_case(text)) for speaker, text in turns)
    return "".join(f"{'user' if speaker == 'U' else 'bot'}> {text}\n" for speaker, text in styled)
