"""One spelling for replies and belief states, so that systems with different conventions can be compared.

The definitions are those of Nekvinda & Dušek (2021), "Shades of BLEU, Flavours of Success: The Case of MultiWOZ". The
spelling of belief states is that of `labkit.corpora.spelling`.
"""

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from labkit.corpora.slots import CLASS_OF
from labkit.corpora.spelling import clock, normalise_state, slot_name, slot_value
from labkit.corpora.times import minutes

if TYPE_CHECKING:
    from sacremoses import MosesDetokenizer, MosesTokenizer

__all__ = ["clock", "minutes", "normalise_reply", "normalise_state", "respaced", "slot_name", "slot_value"]

_PLACEHOLDER = re.compile(r"\[([\w\s]+)\](?:-?e?s)?")  # with a plural ending: "[restaurant_name]s"
# Moses leaves a word as it is wherever it stands, and moves a mark to the word before it.
_WORD = re.compile(r"[A-Za-z0-9-]+[.,?!]?")
_MARK = re.compile(r"[.,?!]")
_FREE_OF_CONTEXT = re.compile(r"(?!\s*,)(?:[A-Za-z0-9\s.,?!:;%/-]|(?<=[A-Za-z])'(?=[A-Za-z]))*")


@lru_cache(maxsize=2**17)
def normalise_reply(text: str) -> tuple[str, tuple[str, ...]]:
    """(lower-case reply with class names for placeholders, names of placeholders that no class has).

    >>> normalise_reply("There are [value_choice] [restaurant_food] places , how about [hotel_name]s ?")[0]
    'there are COUNT FOOD places, how about NAME?'
    """
    text = text.lower()
    names = _PLACEHOLDER.findall(text)
    unknown = tuple(name for name in names if name not in CLASS_OF)
    text = _PLACEHOLDER.sub(_class_name, text)
    text = text.replace("-s", "")
    text = text.replace("-ly", "")
    return respaced(text), unknown


def _class_name(placeholder: re.Match[str]) -> str:
    return CLASS_OF.get(placeholder[1], "")


def respaced(text: str) -> str:
    """What Moses tokenisation and then detokenisation give: `12:30 , ok` → `12: 30, ok`.

    Without quotes, brackets and currency signs, what becomes of a word doesn't depend on its neighbours, so that the
    text is put together from words seen before. All other text goes through sacremoses as a whole.
    """
    if not _FREE_OF_CONTEXT.fullmatch(text):
        return _moses(text)
    words = [_respaced_word(word) for word in text.split()]
    return "".join(words).strip()


@lru_cache(maxsize=2**16)
def _respaced_word(word: str) -> str:
    """A word as it stands in a text, with the space before it if it keeps one."""
    if _WORD.fullmatch(word):
        return f" {word}"
    if _MARK.fullmatch(word):
        return word
    in_context = _moses(f"x {word} x")
    return in_context[1:-2]


def _moses(text: str) -> str:
    tokenizer, detokenizer = _both_of_moses()
    tokens = tokenizer.tokenize(text)
    return detokenizer.detokenize(tokens)


@cache
def _both_of_moses() -> "tuple[MosesTokenizer, MosesDetokenizer]":
    """Imported with the first text that needs them: their tables of letters take longer than the board's table."""
    from sacremoses import MosesDetokenizer, MosesTokenizer

    return MosesTokenizer(lang="en"), MosesDetokenizer(lang="en")
