"""The glossary as a page, and in the student notebooks: a word is explained where the pointer rests on it."""

import re
from collections.abc import Iterator
from html import escape

from labkit.notebook.glossary import Term, terms

PAGE = "labkit/course/glossary.md"
# What is no running text: code, formulas, headings, links and images, addresses, HTML tags
_KEPT = re.compile(
    r"```.*?```|~~~.*?~~~|``.*?``|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$"
    r"|^#+ .*?$|!?\[[^\]]*\]\([^)]*\)|https?://\S+|<abbr.*?</abbr>|<summary>.*?</summary>|<[^>]+>",
    re.DOTALL | re.MULTILINE,
)
_HEAD = """# Glossary

The words of the course, as they are used in it. In the notebooks, rest the pointer on an underlined word, or run
`labkit.glossary("logit")`. This page is made from `labkit/notebook/glossary.toml` by `labkit release`.
"""


def page() -> str:
    """The glossary in Markdown."""
    entries = [f"**{term.name}**{_also(term)}: {term.text}" for term in terms()]
    return _HEAD + "\n" + "\n\n".join(entries) + "\n"


def _also(term: Term) -> str:
    return f" ({', '.join(term.also)})" if term.also else ""


def with_hovers(markdown: str, waiting: dict[str, Term]) -> str:
    """Text in which each word that still waits is explained at its first use.

    Args:
        waiting: {spelling: term}, of the whole notebook; what was explained is taken out.
    """
    parts = []
    for text, is_prose in _pieces(markdown):
        parts.append(_explained(text, waiting) if is_prose else text)
    return "".join(parts)


def spellings(notebook: str) -> dict[str, Term]:
    """{spelling: term} of the words that a notebook explains.

    Args:
        notebook: its number; a word that also means something else is explained in some notebooks only.
    """
    found = {}
    for term in terms():
        if term.notebooks and notebook not in term.notebooks:
            continue
        for spelling in _spelt(term):
            found[spelling] = term
    return found


def _spelt(term: Term) -> set[str]:
    """A term's spellings, with a capital letter, too, as at the beginning of a sentence."""
    spelt = {term.name, *term.also}
    return spelt | {word[0].upper() + word[1:] for word in spelt}


def _pieces(markdown: str) -> Iterator[tuple[str, bool]]:
    """The text cut into running prose (True) and what must stay as it is."""
    at = 0
    for kept in _KEPT.finditer(markdown):
        yield markdown[at : kept.start()], True
        yield kept[0], False
        at = kept.end()
    yield markdown[at:], True


def _explained(text: str, waiting: dict[str, Term]) -> str:
    if not waiting:
        return text
    longest_first = sorted(waiting, key=len, reverse=True)
    words = "|".join(re.escape(word) for word in longest_first)
    pattern = re.compile(rf"(?<![\w/-])(?:{words})(?![\w/-])")

    def explain(found: re.Match[str]) -> str:
        term = waiting.get(found[0])
        if term is None:  # explained a moment ago
            return found[0]
        for spelling in _spelt(term):
            waiting.pop(spelling, None)
        title = escape(term.text, quote=False).replace('"', "&quot;")
        return f'<abbr title="{title}">{found[0]}</abbr>'

    return pattern.sub(explain, text)
