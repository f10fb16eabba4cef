"""A general dialogue corpus for pre-training mini-pythia: services in other domains, small talk, some prose."""

import re
from functools import cache, partial
from random import Random

from labkit.corpora.miniwoz.elsewhere import World
from labkit.corpora.miniwoz.grammar import Grammar, pick, sentence_case
from labkit.storage import shipped

# "a" before a vowel that is spoken as one: "an umbrella", not "an uniform", "an one", "an once", "an euro"
AN = re.compile(r"\b([Aa])(?= (?:[aeioAEIO]|u[nm](?!i)|hour)(?!ne\b|nce\b|uro))")
DOUBLED_PUNCTUATION = re.compile(r",* ?([.?!,])(?: ?[.,])*")
SHARES = {  # of the texts
    "elsewhere": 0.34,
    "service": 0.24,
    "talk": 0.05,
    "quiz": 0.02,
    "prose": 0.03,
    "world": 0.21,
    "records": 0.11,
}
NO_SERVICE = ("chat", "world")
RICH = ["ferry", "courier", "campsite", "leisure", "catering"]  # the domains with the lab's kinds of constraints
RICH_WEIGHT = 3  # they come so many times more
QUESTIONS = 3  # of a quiz
BRACKETS = str.maketrans("«»", "[]")  # square brackets are syntax of the grammar


def pretraining_texts(seed: int = 2022, n: int = 40_000) -> list[str]:
    """`n` texts: dialogues of `user> …` and `bot> …` lines about other services than the lab's five, and short prose.

    Text `i` depends on `seed` and `i` only, so a longer list begins with the shorter one.
    """
    texts = []
    for index in range(n):
        rng = Random(f"{seed}-{index}")
        texts.append(_text(rng))
    return texts


@cache
def _rules() -> dict[str, dict[str, list[str]]]:
    """{domain: {rule: templates}}, each domain with the common rules."""
    phrases = shipped(__file__, "pretraining.toml")
    common = phrases.pop("common")
    return {domain: {**common, **rules} for domain, rules in phrases.items()}


def _text(rng: Random) -> str:
    kinds = list(SHARES)
    shares = list(SHARES.values())
    (kind,) = rng.choices(kinds, shares)
    if kind == "elsewhere":
        make_up = partial(_expand, "ferry", rng=rng)
        return World(rng, make_up).dialogue()
    if kind == "prose":
        return sentence_case(_expand("chat", "prose", rng))
    if kind == "world":
        return sentence_case(_expand("world", "prose", rng))
    if kind == "records":
        return _expand("world", "records", rng).translate(BRACKETS)
    if kind == "service":
        return _as_turns(_service(rng), rng)
    if kind == "quiz":
        questions = [_expand("chat", "quiz", rng) for _ in range(QUESTIONS)]
        return _as_turns("".join(questions), rng)
    return _as_turns(_expand("chat", "talk", rng), rng)


def _expand(domain: str, rule: str, rng: Random) -> str:
    grammar = Grammar(_rules()[domain])
    text, _ = grammar.expand(rule, rng)
    return text


def _service(rng: Random) -> str:
    """One service, or in half of the dialogues two, one after the other."""
    domains = [domain for domain in _rules() if domain not in NO_SERVICE]
    domains += RICH_WEIGHT * RICH
    first = pick(rng, domains)
    second = pick(rng, domains)
    text = _expand(first, "opening", rng)
    if rng.random() < 0.5 and second != first:
        text += _expand(second, "again", rng)
    return text + _expand(second, "closing", rng)


def _as_turns(raw: str, rng: Random) -> str:
    """`U: ` and `B: ` lines as turns, each speaker in a style of their own; two lines in a row become one."""
    is_lower = {
        "U": rng.random() < 0.35,
        "B": rng.random() < 0.15,
    }
    is_bare = rng.random() < 0.25  # a user who leaves out the full stop
    turns: list[tuple[str, str]] = []  # (speaker, text)
    for line in raw.strip().split("\n"):
        speaker = line[0]
        text = _tidied(line[2:])
        ends_bare = is_bare and speaker == "U"
        if text[-1:].isalnum() and not ends_bare:
            text += "."
        if turns and turns[-1][0] == speaker:
            _, before = turns.pop()
            text = f"{before} {text}"
        turns.append((speaker, text))
    lines = []
    for speaker, text in turns:
        name = "user" if speaker == "U" else "bot"
        styled = text.lower() if is_lower[speaker] else sentence_case(text)
        lines.append(f"{name}> {styled}\n")
    return "".join(lines)


def _tidied(text: str) -> str:
    """With single spaces, one punctuation mark at a time, and "an" where it belongs."""
    text = re.sub(r"\s+", " ", text).strip(" ,")
    text = DOUBLED_PUNCTUATION.sub(r"\1", text)
    return AN.sub(r"\1n", text)
