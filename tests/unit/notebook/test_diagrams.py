"""The course's diagrams: what is shipped is what is drawn, each has words, and no words lie on each other."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest

import labkit
from labkit.course.accessibility import html_findings
from labkit.course.drawings.__main__ import FOLDER, drawings
from labkit.course.drawings.canvas import WIDTH
from labkit.errors import LabError
from labkit.notebook.diagrams import names

CANVASES = {canvas.name: canvas for canvas in drawings()}
SVG = "{http://www.w3.org/2000/svg}"
PER_LETTER = {"mono": 0.62, "": 0.56}  # of the size: as wide as common fonts are, a little more

each = pytest.mark.parametrize("name", CANVASES)


def test_eight_diagrams_are_shipped_as_they_are_drawn():
    assert len(CANVASES) == 8 and names() == sorted(CANVASES)
    for name, canvas in CANVASES.items():
        assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == canvas.svg(), "python -m labkit.course.drawings"


@each
def test_a_screen_reader_and_a_terminal_get_the_words(name):
    shown = labkit.diagram(name)
    root = ElementTree.fromstring(shown.html)
    labels = root.get("aria-labelledby").split()
    assert root.get("role") == "img" and not list(html_findings(shown.html))
    for label in labels:
        (words,) = [element for element in root.iter() if element.get("id") == label]
        assert words.text in repr(shown) and len(words.text) > 10
    assert not re.search(r"(href|src)=|url\((?!#)|@import", shown.html)  # needs no network


@each
def test_ink_follows_the_theme_and_no_colour_is_set_on_text(name):
    svg = labkit.diagram(name).html
    assert "prefers-color-scheme:dark" in svg and "--jp-content-font-color1" in svg
    assert not re.search(r"<text[^>]*fill=", svg)


def boxes_of_text(root):
    """(words, left, top, right, bottom) of every text, as wide as common fonts make it."""
    for element in root.iter(f"{SVG}text"):
        size = float(element.get("font-size"))
        kind = "mono" if "mono" in element.get("class", "") else ""
        width = len(element.text) * size * PER_LETTER[kind]
        x, y = float(element.get("x")), float(element.get("y"))
        if "rotate" in element.get("transform", ""):
            yield element.text, x - size, y - width / 2, x, y + width / 2
            continue
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[element.get("text-anchor")]
        yield element.text, left, y - 0.75 * size, left + width, y + 0.25 * size


@each
def test_no_text_lies_on_another_or_leaves_the_sheet(name):
    """Estimated by letters; in Chromium `tests/browser/test_diagrams.py` measures it."""
    texts = list(boxes_of_text(ElementTree.fromstring(CANVASES[name].svg())))
    for words, left, top, right, bottom in texts:
        assert left >= 0 and right <= WIDTH and top >= 0 and bottom <= CANVASES[name].height, words
    for one, other in combinations(texts, 2):
        apart = one[3] <= other[1] or other[3] <= one[1] or one[4] <= other[2] or other[4] <= one[2]
        assert apart, (one[0], other[0])


def test_an_unknown_diagram_names_those_there_are():
    with pytest.raises(LabError, match=r"no diagram 'x'\. → choose one of cache, chain"):
        labkit.diagram("x")
