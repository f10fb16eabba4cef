"""The chat of notebook 5: its front end on a page without a kernel, and in JupyterLab, typed by keyboard.

Here an Enter once overtook the last letters, and the field kept what was said: neither is seen without a front end.
"""

import chat_page
import nbformat
import pytest
from browser import PICTURES, axe, lab_address, opened, picture, until, watched
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook

from labkit.course.release import METADATA
from labkit.course.report import notebook_page

CELL = """import labkit
from labkit.notebook.chat import Conversation

lm, corpus = labkit.load_model("mini-pythia-500k"), labkit.load_corpus("miniwoz", sizes={"train": 1})
decoding = labkit.DecodingConfig(min_new_tokens=200, max_new_tokens=200)
Conversation(lm, corpus.database, decoding, track=lambda state, text: {"hotel": {"area": "north"}})"""
WHOLE = "there is <b>gonville hotel</b> in the north of town , shall i book it ?"


# --- without a kernel -------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(browser):
    """Opens the chat with a made-up bot; what the page logs as an error fails the test."""
    with watched(browser) as new_page:

        def open_page(delay=0, **look):
            page = new_page(**{"viewport": {"width": 1000, "height": 700}, **look})
            page.set_content(chat_page.page(delay))
            page.wait_for_function("window.chat")
            return page

        yield open_page


def say(page, text):
    field = page.get_by_label("you", exact=True)
    field.fill(text)
    field.press("Enter")


def log(page):
    return page.get_by_role("log").inner_text()


def test_my_own_line_is_there_before_the_kernel_has_heard_it(drawn):
    """It disappeared from the field, and came back with the answer: minutes later, with a large model."""
    page = drawn()
    page.evaluate("window.chat.asking.model.send = () => {}")
    say(page, "a <b>hotel</b> in the north")
    assert "user: a <b>hotel</b> in the north" in log(page) and page.get_by_label("you").input_value() == ""
    assert "writing" in page.get_by_role("status").inner_text()


def test_the_reply_grows_word_by_word_and_stop_is_not_asking(drawn):
    page = drawn(delay=150)
    say(page, "a hotel in the north")
    page.wait_for_function("window.chat.exchanges[0].reply.split(' ').length > 3")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_function("window.chat.asking.idle")
    asked = page.evaluate("window.asked.filter((ask) => ask === 'more').length")
    page.wait_for_timeout(300)
    assert page.evaluate("window.asked.filter((ask) => ask === 'more').length") == asked < 14
    assert "(stopped)" in log(page) and WHOLE not in log(page)
    page.get_by_role("button", name="Go on").click()
    page.wait_for_function("window.chat.last.finished")
    assert f"bot: {WHOLE}" in log(page) and "(stopped)" not in log(page)
    assert "written: there is <b>[hotel_name]</b>" in log(page) and "hotel: 3 in the database" in log(page)


def test_after_a_stop_something_else_can_be_said(drawn):
    page = drawn(delay=150)  # a busy machine clicks late: the reply must not have ended by then
    say(page, "one")
    page.get_by_role("button", name="Stop").click()  # perhaps before the first word: then the turn is forgotten
    page.wait_for_function("window.chat.asking.idle")
    say(page, "two")
    page.wait_for_function("!window.chat.writing && window.chat.last.finished")
    texts = page.evaluate("window.chat.exchanges.map((one) => one.user)")
    assert texts[-1] == "two" and log(page).count("user: ") == len(texts)


def test_what_is_refused_goes_back_into_the_field(drawn):
    page = drawn()
    say(page, "   ")
    page.wait_for_function("document.querySelector('.ch-status').textContent.includes('nothing to answer')")
    assert "Nothing was said yet" in log(page)
    say(page, "fail")
    page.wait_for_function("document.querySelector('.ch-status').textContent.includes('fell over')")
    assert page.get_by_label("you").input_value() == "fail" and "user:" not in log(page)
    say(page, "hello")
    page.wait_for_function("!window.chat.writing && window.chat.last?.finished")
    page.get_by_role("button", name="Start over").click()
    page.wait_for_function("document.querySelector('.ch-log').textContent.includes('Nothing was said')")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (800, "light"), (800, "dark")])
def test_every_width_is_whole_and_axe_finds_nothing(drawn, width, scheme):
    """At 800 pixels both buttons read "S…"."""
    page = drawn(viewport={"width": width, "height": 640}, color_scheme=scheme)
    for text in ("a hotel in the north", "and for how much ?"):
        say(page, text)
        page.wait_for_function("!window.chat.writing && window.chat.last.finished")
    cut = "[...document.querySelectorAll('.ch button')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(cut) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture(page, f"chat-{width}-{scheme}")
    assert axe(page, ".ch") == []


# --- in JupyterLab ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box(jupyter, browser):
    """A conversation with an untuned model, whose every belief is a hotel in the north."""
    notebook = jupyter[1] / "chat.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(CELL)], metadata=METADATA), notebook)
    with opened(lab_address(jupyter, notebook), browser) as page:
        box = page.locator(".ch[data-live]").first
        box.wait_for()
        box.notebook = notebook
        yield box
        page.screenshot(path=PICTURES / "chat.png")


def report_page(path):
    """The page that `labkit preflight` makes."""
    return notebook_page(nbformat.read(path, as_version=4), "chat"), None


def test_a_student_types_and_the_reply_grows_in_the_notebook(box):
    page = box.page
    box.get_by_label("you").click()
    page.keyboard.type("i want a hotel in the north of town, and a <b>table</b>, too")
    page.keyboard.press("Enter")
    assert "user: i want a hotel in the north of town, and a <b>table</b>, too\n" in log(box)
    lengths = set()
    reply = "document.querySelector('.ch[data-live]').chat.last.reply.length"
    until(page, lambda: lengths.add(page.evaluate(reply)) or len(lengths) > 3, "a growing reply")
    box.get_by_role("button", name="Stop").click()
    until(page, lambda: "(stopped)" in log(box), "a stopped reply")
    assert "belief state: hotel area=north" in log(box) and "in the database" in log(box)
    until(page, lambda: page.evaluate("document.querySelector('.ch').chat.asking.idle"), "the last answer")
    stopped = page.evaluate(reply)
    page.wait_for_timeout(500)
    assert page.evaluate(reply) == stopped


def test_the_saved_notebook_has_what_was_said_and_hides_it_behind_the_widget(box):
    """A notebook that was opened again had an empty chat, or an error box."""
    page = box.page
    twin = page.locator("[data-twin-of]")
    until(page, lambda: "north of town" in (twin.text_content() or ""), "the twin of what was said")
    assert not twin.is_visible()
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    until(page, lambda: "north of town, and a" in box.notebook.read_text(), "a saved notebook")


@pytest.mark.parametrize("make", [HTMLExporter().from_filename, report_page])
def test_what_was_said_is_read_on_a_page_that_nbconvert_made(box, browser, make, tmp_path):
    """There, no widget comes up: what stands behind it is all that a reader has."""
    page = tmp_path / "chat.html"
    page.write_text(make(str(box.notebook))[0], encoding="utf-8")
    shown = browser.new_page()
    shown.context.set_offline(True)
    shown.goto(page.as_uri())
    said = shown.locator("[data-twin-of]")
    said.wait_for()
    assert "user: i want a hotel in the north" in log(said) and "bot:" in log(said)
    assert "belief state: hotel area=north" in log(said)
    shown.close()


def test_too_much_is_said_below(box):
    box.get_by_label("you").fill("long " * 100)
    box.get_by_label("you").press("Enter")
    until(box.page, lambda: "too much for one turn" in box.get_by_role("status").inner_text(), "the refusal")
    assert log(box).count("user:") == 1
