"""The course's diagrams as Chromium draws them: words beside each other, inside their boxes, on white and on black."""

import pytest
from browser import PICTURES

import labkit
from labkit.notebook.diagrams import names

WRONG = """() => {
  const svg = document.querySelector('svg'), paper = svg.getBoundingClientRect(), found = [];
  const words = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  const boxes = [...svg.querySelectorAll('rect')].map(box => box.getBoundingClientRect());
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
  words.forEach(([text, a], at) => {
    if (a.left < paper.left || a.right > paper.right || a.bottom > paper.bottom) found.push('outside: ' + text);
    words.slice(at + 1).forEach(([other, b]) => { if (meet(a, b)) found.push(text + ' | ' + other); });
    const crossed = boxes.filter(b => meet(a, b) && (a.left < b.left || a.right > b.right));
    if (crossed.length) found.push('over a border: ' + text);
  });
  return found;
}"""


@pytest.mark.parametrize(
    "scheme, paper, ink", [("light", "#fff", "rgb(34, 34, 34)"), ("dark", "#111", "rgb(238, 238, 238)")]
)
@pytest.mark.parametrize("width", [360, 900])
def test_words_lie_on_nothing_and_can_be_read(browser, width, scheme, paper, ink):
    page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    for name in names():
        page.set_content(f'<body style="margin:0;background:{paper}">{labkit.diagram(name).html}')
        assert page.evaluate(WRONG) == [], name
        assert page.evaluate("getComputedStyle(document.querySelector('svg text')).fill") == ink
        page.locator("svg").screenshot(path=PICTURES / f"diagram_{name}_{width}_{scheme}.png")
    page.close()
