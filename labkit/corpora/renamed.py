"""The same corpus in a city whose venues have other names: what a system knows by heart, it does not know there."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from labkit.corpora.types import Corpus, Entity, Goal

VENUES = ("restaurant", "hotel", "attraction")
CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
Names = Mapping[str, str]  # {a name in lower case: the new one}


def with_other_names(corpus: Corpus, seed: int = 2022) -> Corpus:
    """Database and goals with invented names of restaurants, hotels and attractions; the dialogues stay as they are.

    So a simulated user names venues there that no dialogue of the corpus has. Everything else is the same.
    """
    names = _new_names(corpus, Random(seed))
    database = {}
    for domain, rows in corpus.database.items():
        database[domain] = [_renamed_row(row, names) for row in rows] if domain in VENUES else rows
    goals = {}
    for key, goal in corpus.goals.items():
        goals[key] = {domain: _renamed_goal(parts, names) for domain, parts in goal.items()}
    return replace(corpus, name=f"{corpus.name}, other names", database=database, goals=goals)


def _new_names(corpus: Corpus, rng: Random) -> Names:
    """Two invented words for each name; two venues of one name keep one."""
    names: dict[str, str] = {}
    for domain in VENUES:
        for row in corpus.database.get(domain, ()):
            old = str(row.get("name", "")).lower()
            if old and old not in names:
                names[old] = _unused(rng, set(names.values()))
    return names


def _unused(rng: Random, used: set[str]) -> str:
    while True:
        name = f"{_word(rng)} {_word(rng)}"
        if name not in used:
            return name


def _word(rng: Random, syllables: int = 3) -> str:
    """A word that nobody has read before, such as "ragofi"."""
    letters = ""
    for _ in range(syllables):
        letters += rng.choice(CONSONANTS) + rng.choice(VOWELS)
    return letters


def _renamed_row(row: Entity, names: Names) -> Entity:
    old = str(row.get("name", "")).lower()
    return {**row, "name": names[old]} if old in names else row


def _renamed_goal(parts: Goal, names: Names) -> Goal:
    wanted = dict(parts["informable"])
    for slot in ("name", "departure", "destination"):  # a taxi may go to a venue
        value = str(wanted.get(slot, "")).lower()
        if value in names:
            wanted[slot] = names[value]
    return {**parts, "informable": wanted}
