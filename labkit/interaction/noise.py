"""What makes a user hard to understand: typing mistakes, and values that a recogniser hears as others."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from labkit.corpora.miniwoz.grammar import pick
from labkit.corpora.types import Corpus, Values
from labkit.errors import LabError
from labkit.interaction.speech import Said
from labkit.interaction.wishes import DONT_CARE, SLOT_OF

SHORTEST = 4  # letters of a word that a typing mistake is made in
RECOGNISED = ("area", "food", "pricerange", "stars", "day", "bookday", "booktime", "bookpeople", "bookstay", "leaveat")
RECOGNISED += ("arriveby", "departure", "destination")  # slots whose values are heard as others
Lexicon = Mapping[str, list[str]]  # {slot: values that users say}


@dataclass(frozen=True)
class Noise:
    """How often what the bot reads is not what was meant.

    Args:
        typos: the share of words with two letters exchanged.
        recognition: the share of values that arrive as another value of the same slot, as from a speech recogniser.

    Raises:
        LabError: a share below 0 or above 1.
    """

    typos: float = 0.0
    recognition: float = 0.0

    def __post_init__(self) -> None:
        for name in ("typos", "recognition"):
            share = getattr(self, name)
            is_number = isinstance(share, int | float) and not isinstance(share, bool)
            if not is_number or not 0 <= share <= 1:
                raise LabError(f"{name} cannot be {share!r:.40}", "", "give a share from 0 to 1")

    def heard(self, values: Values, lexicon: Lexicon, rng: Random) -> Values:
        """The values as they arrive."""
        result = {}
        for slot, value in values.items():
            others = [other for other in lexicon.get(slot, []) if other != value]
            has_others = slot in RECOGNISED and value != DONT_CARE and bool(others)
            is_misheard = has_others and rng.random() < self.recognition
            result[slot] = pick(rng, others) if is_misheard else value
        return result

    def typed(self, said: Said, rng: Random) -> Said:
        """The sentence as it is typed; no letter is added or lost, so that the places of values stay."""
        words = said.text.split(" ")
        for number, word in enumerate(words):
            is_word = len(word) >= SHORTEST and word.isalpha()
            if is_word and rng.random() < self.typos:
                words[number] = _exchanged(word, rng)
        return Said(" ".join(words), said.spans)


def _exchanged(word: str, rng: Random) -> str:
    """The word with two neighbouring letters exchanged; the first stays, by which people read.

    >>> _exchanged("cheap", Random(1))
    'cehap'
    """
    place = 1 + int(rng.random() * (len(word) - 2))
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def lexicon_of(corpus: Corpus) -> Lexicon:
    """{slot: values in the goals of a corpus}, in alphabetical order."""
    values: dict[str, set[str]] = {}
    for goal in corpus.goals.values():
        for parts in goal.values():
            for slot, value in parts["informable"].items():
                name = SLOT_OF.get(slot, slot)
                values.setdefault(name, set()).add(value)
            booking = parts.get("booking") or {}
            for slot, value in dict(booking).items():
                name = f"book{slot}"
                values.setdefault(name, set()).add(value)
    lexicon = {}
    for slot, found in values.items():
        found.discard(DONT_CARE)
        lexicon[slot] = sorted(found)
    return lexicon
