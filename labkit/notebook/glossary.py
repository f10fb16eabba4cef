"""Words of the course, explained: `labkit.glossary("logit")`, or all of them."""

import difflib
from dataclasses import dataclass
from functools import cache
from html import escape

from labkit.errors import LabError
from labkit.notebook.exercises.answers import shown
from labkit.shown import Shown
from labkit.storage import shipped


@dataclass(frozen=True)
class Term:
    """A word, what it means here, its other spellings, and the notebooks whose text it is explained in ("": all)."""

    name: str
    text: str
    also: tuple[str, ...] = ()
    notebooks: str = ""


@cache
def terms() -> tuple[Term, ...]:
    """All words, from a to z."""
    entries = shipped(__file__, "glossary.toml")
    found = []
    for name, said in entries.items():
        also = tuple(said.get("also", ()))
        found.append(Term(name, said["text"], also, said.get("notebooks", "")))
    return tuple(sorted(found, key=lambda term: term.name.casefold()))


def glossary(word: str | None = None) -> Shown:
    """What a word means, or the whole glossary.

    Raises:
        LabError: the word is not in it; the nearest one is named.
    """
    chosen = terms() if word is None else (_find(word),)
    items = [f"<dt><b>{escape(term.name)}</b></dt><dd>{escape(term.text)}</dd>" for term in chosen]
    lines = [f"{term.name}: {term.text}" for term in chosen]
    return Shown(f"<dl>{''.join(items)}</dl>", "\n".join(lines))


def _find(word: object) -> Term:
    by_spelling = {}
    for term in terms():
        for spelling in (term.name, *term.also):
            by_spelling[spelling.casefold()] = term
    asked = word.strip().casefold() if isinstance(word, str) else ""
    if asked in by_spelling:
        return by_spelling[asked]
    near = difflib.get_close_matches(asked, by_spelling, 1)
    action = f"did you mean {by_spelling[near[0]].name}?" if near else "labkit.glossary() shows all words"
    raise LabError(f"no word {shown(word, 40)} in the glossary", "", action)
