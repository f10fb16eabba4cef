"""The chat of notebook 5 in JupyterLab: typed by keyboard, as a student does it.

Here an Enter once overtook the last letters, and the field kept what was said: neither is seen without a front end.
"""

import nbformat
import pytest
from browser import PICTURES, opened, serving, until
from nbformat.v4 import new_code_cell, new_notebook

from labkit.course.release import METADATA

CELL = """import labkit
from labkit.notebook.chat import Conversation

lm, corpus = labkit.load_model("mini-pythia-500k"), labkit.load_corpus("miniwoz", sizes={"train": 1})
decoding = labkit.DecodingConfig(max_new_tokens=8)
Conversation(lm, corpus.database, decoding, track=lambda state, text: {"hotel": {"area": "north"}})"""


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """The widgets of a conversation with an untuned model, whose every belief is a hotel in the north."""
    home = tmp_path_factory.mktemp("chat")
    nbformat.write(new_notebook(cells=[new_code_cell(CELL)], metadata=METADATA), home / "chat.ipynb")
    with serving(home) as address, opened(f"{address}/lab/tree/chat.ipynb") as page:
        box = page.locator(".jp-OutputArea-output .widget-vbox").first
        box.wait_for()
        yield box
        page.screenshot(path=PICTURES / "chat.png")


def log(box):
    return box.locator(".widget-html-content").first.inner_text()


def said(box, n):
    """Wait for so many answers."""
    until(box.page, lambda: log(box).count("bot:") == n and "writing" not in log(box), f"{n} answers: {log(box)}")


def test_enter_sends_the_whole_line_and_empties_the_field(box):
    field = box.locator("input[type=text]")
    field.click()
    for n, text in enumerate(["i want a hotel in the north of town", "and a <b>table</b> for two, too"], 1):
        box.page.keyboard.type(text)
        box.page.keyboard.press("Enter")
        said(box, n)
        assert f"user: {text}\n" in log(box) and field.input_value() == ""
    assert "belief state: hotel area=north" in log(box) and "in the database" in log(box)
    assert box.page.evaluate("document.activeElement.tagName") == "INPUT", "the next turn can be typed at once"


def test_nothing_and_too_much_are_said_below(box):
    for text, words in (("  ", "nothing to answer"), ("long " * 100, "too much for one turn")):
        box.page.keyboard.insert_text(text)
        box.page.keyboard.press("Enter")
        until(box.page, lambda words=words: words in log(box), words)
    said(box, 2)


def test_the_buttons_send_and_start_over(box):
    box.locator("input[type=text]").click()
    box.page.keyboard.type("a train to oxmoor")
    box.get_by_role("button", name="Send").click()
    said(box, 3)
    box.page.wait_for_timeout(500)
    assert "nothing to answer" not in log(box), "a click leaves the field, which has sent it already"
    box.page.keyboard.press("Tab")
    box.page.keyboard.press("Enter")
    until(box.page, lambda: "Nothing was said yet" in log(box), "a fresh start")
