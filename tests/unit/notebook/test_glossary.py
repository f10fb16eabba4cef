"""The glossary: one file, a page made from it, and explanations in the student notebooks that change no word."""

import re
from pathlib import Path

import nbformat
import pytest

import labkit
from labkit.course.glossary import PAGE, page, spellings, with_hovers
from labkit.errors import LabError
from labkit.notebook.glossary import terms

ROOT = Path(__file__).parents[3]
ABBR = re.compile(r'<abbr title="([^"]*)">(.*?)</abbr>', re.DOTALL)
STUDENT = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What a teacher found used before, or without, an explanation
ASKED_FOR = """logit, entropy, hidden state, cosine, n-gram, brevity penalty, combined score, richness, mwzeval, GGUF,
AdamW, gradient checkpointing, rank, alpha, nats, prior, precision, document completion, belief state, two-part code"""


def markdown(path, number=None):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


def test_every_word_that_was_asked_for_is_explained():
    known = {term.name for term in terms()}
    assert [word for word in re.split(r",\s+", ASKED_FOR) if word not in known] == []


def test_the_page_is_what_the_file_makes():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(), "labkit release"


def test_definitions_are_short_sentences_and_no_spelling_stands_twice():
    seen = []
    for term in terms():
        assert term.text.endswith((".", ")", "?")) and len(term.text) <= 170, term.name
        seen += [term.name.casefold(), *(word.casefold() for word in term.also)]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("path", STUDENT, ids=lambda path: path.stem)
def test_a_notebook_explains_a_word_once_and_says_what_its_source_says(path):
    shown = "\n\n".join(markdown(path))
    explained = [words for _, words in ABBR.findall(shown)]
    assert len(explained) >= 10 and len(explained) == len(set(explained))
    titles = {term.text.replace("&", "&amp;").replace('"', "&quot;") for term in terms()}
    assert {title for title, _ in ABBR.findall(shown)} <= titles
    source = "\n\n".join(markdown(ROOT / "solutions" / path.name))
    for cell in markdown(path):
        assert ABBR.sub(r"\2", cell) in source or "badge" in cell


@pytest.mark.parametrize(
    "text",
    [
        "`logits` and ```\nlogits\n``` and $logits$ and $$a\n logits$$",
        "# logits\n## Softmax",
        "[logits](logits.md) ![logits](attachment:x.png) https://logits.org/logits",
        '<img alt="logits"> <abbr title="x">logits</abbr> <summary>logits</summary>',
        "preferenceslogits pre-logits logits-x a_logits",
    ],
)
def test_what_is_no_running_text_stays_as_it_is(text):
    assert with_hovers(text, spellings("1")) == text


def test_the_first_use_is_explained_whatever_its_spelling_and_the_longest_word_wins():
    waiting = spellings("2")
    once = with_hovers("Double quantisation of **Logits**, logits and a logit.", waiting)
    assert [words for _, words in ABBR.findall(once)] == ["Double quantisation", "Logits"]
    assert with_hovers("The logits again.", waiting) == "The logits again."
    assert "<abbr" not in with_hovers("at a loss", spellings("1"))  # there the word means something else


def test_a_word_can_be_asked_for_without_a_pointer():
    assert repr(labkit.glossary("Logits")).startswith("logit: The number that a model gives")
    assert len(repr(labkit.glossary()).splitlines()) == len(terms())
    with pytest.raises(LabError, match=r"no word 'lodgit' in the glossary.*did you mean logit\?"):
        labkit.glossary("lodgit")
    with pytest.raises(LabError, match=r"no word 3 in the glossary"):
        labkit.glossary(3)
