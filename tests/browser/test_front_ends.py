"""The decoding lab and the chat in all front ends that can be had here, and in core widgets.

JupyterLab 4 has the other tests. Here: Notebook 7; core widgets, where custom ones are off; the classic notebook with
ipywidgets 7.7 and anywidget 0.9, as Colab has them, where `make classic` has made that environment (LAB_CLASSIC names
the Python of another one).
"""

import importlib.util
import os
from pathlib import Path

import nbformat
import pytest
from browser import CODE, ROOT, lab_address, picture, serving_classic, until, window
from nbformat.v4 import new_code_cell, new_notebook

from labkit.course.release import METADATA
from labkit.notebook.stand_in import stand_in

SETUP = """import os, labkit
from labkit.notebook.chat import Conversation
from labkit.notebook.widgets import decoding_explorer

lm, corpus = labkit.load_model("mini-pythia-500k"), labkit.load_corpus("miniwoz", sizes={"train": 2})
decoding = labkit.DecodingConfig(min_new_tokens=200, max_new_tokens=200)
believed = lambda state, text: {"hotel": {"area": "north"}}"""
LAB = "decoding_explorer(lm, corpus['train'])"
CHAT = "Conversation(lm, corpus.database, decoding, track=believed)"
CORE = 'os.environ["LAB_WIDGETS"] = "core"'
CLASSIC = Path(os.environ.get("LAB_CLASSIC", ROOT / ".venv-classic" / "bin" / "python"))


def notebook(home, *cells):
    path = home / "fronts.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=METADATA), path)
    return path


def run_all(page):
    page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
    failed = f"{CODE}.flatMap(cell => cell.outputs).filter(out => out.output_type == 'error').map(out => out.evalue)"
    page.wait_for_function(f"{failed}.length || {CODE}.every(cell => cell.execution_count)", timeout=300_000)
    assert page.evaluate(failed) == []


def drawn(box, n=9):
    """A dial moves the bars without the kernel, Write and the chat ask for what grows."""
    page = box.page
    lab, chat = box.locator(".dl:not(.ch)[data-live]").first, box.locator(".ch[data-live]").first
    lab.scroll_into_view_if_needed()
    until(page, lambda: "%" in lab.locator(".dl-share").first.inner_text(), "the first bars")
    dial = lab.get_by_label("top-k", exact=True)
    dial.focus()
    for _ in range(3):
        dial.press("ArrowRight")
    assert lab.inner_text().count("cut by top-k") == n
    lab.get_by_role("button", name="Write", exact=True).click()
    length = "document.querySelector('.dl:not(.ch)[data-live]').decodingLab.replies.B.ids.length"
    until(page, lambda: page.evaluate(length) > 1, "a reply")
    chat.get_by_label("you").fill("a hotel in the north")
    chat.get_by_label("you").press("Enter")
    assert "user: a hotel in the north" in chat.inner_text()
    reply = "document.querySelector('.ch[data-live]').chat.last.reply.length"
    lengths = set()
    until(page, lambda: lengths.add(page.evaluate(reply)) or len(lengths) > 2, "a growing reply")
    chat.get_by_role("button", name="Stop").click()
    until(page, lambda: "(stopped)" in chat.inner_text(), "a stopped reply")


@pytest.mark.parametrize(
    ("main", "widget", "seen"),
    [
        ("", "", True),  # a page without widgets
        ("main", "Error displaying widget: model not found", True),
        ("main", "a slider", False),
    ],
)
def test_a_stand_in_is_seen_where_its_widget_is_not_and_hides_the_error_box(browser, main, widget, seen):
    output = f'<div class="jp-OutputArea-child"><div class="jupyter-widgets">{widget}</div></div>' if widget else ""
    twin = stand_in("<p>what was there</p>", "one")
    page = browser.new_page()
    page.clock.install()
    page.set_content(f'<div id="{main}"><div class="jp-OutputArea">{output}<div>{twin}</div></div></div>')
    page.clock.run_for(3000 if main else 100)
    assert page.get_by_text("what was there").is_visible() == seen
    assert not page.get_by_text("Error displaying widget").is_visible()
    page.close()


def test_notebook_7_draws_the_lab_and_the_chat(jupyter, browser):
    if importlib.util.find_spec("notebook") is None:
        pytest.skip("no Notebook 7: pip install '.[browser]'")
    address, home = jupyter
    page = window(browser, f"{address}/notebooks/{notebook(home, SETUP, LAB, CHAT).name}")
    run_all(page)
    drawn(page.locator("body"))
    picture(page, "notebook-7")
    page.close()


def test_core_widgets_write_when_play_ticks_and_the_chat_has_my_line(jupyter, browser):
    """Where custom widgets are off, Play asks for the next token: no thread, and Pause is not asking."""
    page = window(browser, lab_address(jupyter, notebook(jupyter[1], SETUP, CORE, LAB, CHAT)))
    run_all(page)
    assert page.locator(".dl").count() == 0
    reply = page.locator(".widget-html-content").filter(has_text="bot>").first
    play = page.locator(".widget-play button").first
    play.scroll_into_view_if_needed()
    play.click()
    until(page, lambda: len(reply.inner_text()) > len("bot> ") + 3, "a reply of a few letters")
    picture(page, "core-widgets")
    play.click()
    page.wait_for_timeout(1000)
    paused = reply.inner_text()
    page.wait_for_timeout(1000)
    assert reply.inner_text() == paused
    line = page.get_by_placeholder("i am looking for …")
    line.click()
    page.keyboard.type("i want a hotel in the north of town")
    page.keyboard.press("Enter")
    log = page.locator(".widget-html-content [role=log]")
    until(page, lambda: "user: i want a hotel in the north of town\n" in log.inner_text(), "my own line")
    until(page, lambda: "bot:" in log.inner_text() and "writing" not in log.inner_text(), "the answer")
    assert line.input_value() == "" and "belief state: hotel area=north" in log.inner_text()
    page.close()


def test_the_classic_notebook_with_colabs_versions_draws_the_lab_and_the_chat(browser, tmp_path):
    """Colab has ipywidgets 7.7 and anywidget 0.9; the classic widget manager is what these were made for."""
    if not CLASSIC.exists():
        pytest.skip("no environment with ipywidgets 7.7 and anywidget 0.9: make classic")
    with serving_classic(tmp_path, CLASSIC) as address:
        page = browser.new_page(viewport={"width": 1200, "height": 1700})
        page.set_default_timeout(60_000)
        page.goto(f"{address}/notebooks/{notebook(tmp_path, SETUP, LAB, CHAT).name}")
        page.wait_for_function("window.Jupyter?.notebook?.kernel?.is_connected()")
        page.wait_for_timeout(5000)  # the widget manager asks the kernel for its widgets, which must not cross new ones
        page.evaluate("Jupyter.notebook.execute_all_cells()")
        finished = "Jupyter.notebook.get_cells().every((cell) => cell.input_prompt_number > 0)"
        page.wait_for_function(finished, timeout=300_000)
        drawn(page.locator("body"))
        picture(page, "classic")
        page.close()
