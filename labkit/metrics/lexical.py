"""The classic mistake, refused: replies with names and numbers, scored against delexicalised references."""

import re
from collections.abc import Iterable, Mapping, Sequence

from labkit.errors import LabError
from labkit.metrics.gold import Gold
from labkit.metrics.prepared import place_of

RARE = 0.2  # replies are suspect if fewer have a placeholder than this part of the references' share
SIZEABLE = 0.2  # they are lexical if at least this share holds a name, number or address
SAMPLE = 200  # replies that are looked through, which is enough to tell
_CLASS = re.compile(r"[A-Z]{2}")  # normalised text has capitals only where a placeholder was
Texts = Mapping[str, Sequence[str]]  # {dialogue key: normalised replies}


def refuse_lexical(replies: Texts, references: Texts, gold: Gold) -> None:
    """Raise LabError if names and numbers stand where the references have placeholders."""
    if _share_delexicalised(replies.values()) >= RARE * _share_delexicalised(references.values()):
        return
    sample = _sample(replies)
    telling = []
    for place, reply in sample:
        if any(value in reply for value in gold.telling_values):
            telling.append(place)
    if len(telling) < SIZEABLE * len(sample):
        return
    found = (
        f"{len(telling)} of {len(sample)} hold a name, number or address (first: {telling[0]}), but BLEU, "
        "Inform and Success are defined on delexicalised replies like '[restaurant_name] is nice'"
    )
    action = "predict delexicalised replies, or allow lexical ones if you mean it (allow_lexical=True)"
    raise LabError("these replies are lexical", found, action)


def _share_delexicalised(dialogues: Iterable[Sequence[str]]) -> float:
    """The share of replies with a placeholder."""
    n_replies = 0
    n_delexicalised = 0
    for replies in dialogues:
        for reply in replies:
            n_replies += 1
            if _CLASS.search(reply):
                n_delexicalised += 1
    return n_delexicalised / n_replies


def _sample(replies: Texts) -> list[tuple[str, str]]:
    """(place, reply) of evenly spaced replies."""
    placed = []
    for key, texts in replies.items():
        for number, text in enumerate(texts):
            placed.append((place_of(key, number), text))
    step = len(placed) // SAMPLE + 1
    return placed[::step]
