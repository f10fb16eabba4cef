"""Notebook 1 as a student uses it: JupyterLab in headless Chromium, run all cells, turn a dial, write, stop, fork.

An exception in the kernel's side of a widget is swallowed by the front end and by nbmake: only a browser shows that a
button does nothing. Screenshots go to build/browser, to be looked at. The front end alone: test_decoding_lab.py.
"""

import shutil

import pytest
from browser import CODE, ROOT, axe, lab_address, opened, picture, until, window


@pytest.fixture(scope="module")
def notebook(jupyter):
    """A copy of notebook 1: JupyterLab saves what it runs, and the source has no outputs."""
    return shutil.copy(ROOT / "notebooks" / "1_zero_shot_evaluation.ipynb", jupyter[1] / "notebook1.ipynb")


@pytest.fixture(scope="module")
def page(jupyter, notebook, browser):
    """The notebook, open in a window, with all of its cells run."""
    with opened(lab_address(jupyter, notebook), browser) as page:
        yield page


@pytest.fixture(scope="module")
def widget(page):
    """The decoding lab of the cell `explorer`."""
    show_explorer(page)
    box = page.locator(".dl[data-live]").first
    box.wait_for()
    page.wait_for_function("document.querySelector('.dl-share').textContent.includes('%')")
    return box


def show_explorer(page):
    """Cells outside the screen are not drawn."""
    show = """() => {
        const notebook = jupyterapp.shell.currentWidget.content;
        const at = notebook.widgets.findIndex(cell => cell.model.id == 'explorer');
        notebook.activeCellIndex = at;
        return notebook.scrollToItem(at, 'start');
    }"""
    page.evaluate(show)


def state(page, what):
    """Something of the lab's own state."""
    return page.evaluate(f"document.querySelector('.dl[data-live]').decodingLab.{what}")


def press(page, name, key, times=1):
    """Arrow keys on a dial."""
    dial = page.get_by_label(name, exact=True)
    dial.focus()
    for _ in range(times):
        dial.press(key)


def written(page):
    until(page, lambda: state(page, "replies.B.end") and not state(page, "writing"), "the end of the reply")


def test_all_cells_run_without_an_error(page):
    """JupyterLab goes on drawing whatever failed; an error is in the outputs only."""
    picture(page, "1-all-cells-run")
    cells = page.evaluate(CODE)
    errors = [(cell["id"], out["evalue"]) for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
    assert not errors
    assert any("READY" in str(out) for out in cells[0]["outputs"])


def test_printed_lines_break_between_words(page):
    """JupyterLab broke them anywhere: "max_new_t okens"."""
    word_break = """() => {
        const output = document.createElement("div");
        output.className = "jp-OutputArea";
        output.innerHTML = '<div class="jp-OutputArea-output"><pre>a line</pre></div>';
        document.body.append(output);
        const found = getComputedStyle(output.querySelector("pre")).wordBreak;
        output.remove();
        return found;
    }"""
    assert page.evaluate(word_break) == "normal"


def test_a_dial_changes_the_bars_at_once(page, widget):
    """In the same event: nothing is asked of the kernel, which may be busy with a long cell."""
    picture(page, "2-before-the-dial")
    assert "cut by top-k" not in widget.inner_text()
    until(page, lambda: not state(page, "dreaming") and state(page, "asking.idle"), "the end of greedy's path")
    count = state(page, "asking.count")
    press(page, "top-k", "ArrowRight", 3)
    assert widget.inner_text().count("cut by top-k") == 9 and state(page, "asking.count") == count
    picture(page, "3-after-the-dial")


def test_write_streams_a_reply_token_by_token_and_stop_ends_it(page, widget):
    """A reply that came all at once could not be stopped; from a thread, Colab did not draw it at all."""
    widget.get_by_text("more dials").click()
    press(page, "at least … tokens", "End")
    widget.get_by_role("button", name="Write", exact=True).click()
    lengths = set()
    until(page, lambda: lengths.add(state(page, "replies.B.ids.length")) or len(lengths) > 5, "a growing reply")
    picture(page, "4-tokens-arrive")
    widget.get_by_role("button", name="Stop", exact=True).click()
    until(page, lambda: state(page, "asking.idle"), "the last answer")
    stopped = state(page, "replies.B.ids.length")
    page.wait_for_timeout(700)
    assert state(page, "replies.B.ids.length") == stopped < 200, "it goes on writing"
    assert "Stopped" in widget.get_by_role("status").inner_text()
    press(page, "at least … tokens", "Home")
    picture(page, "5-stopped")


def test_the_reply_is_what_labkit_writes_with_these_settings(page, widget):
    """Settings that another draw answers are no settings to hand on."""
    widget.get_by_role("button", name="Start over").click()
    widget.get_by_role("button", name="Write", exact=True).click()
    written(page)
    ids, code = state(page, "replies.B.ids"), widget.locator(".dl-code pre").inner_text().split("\n")[0]
    widget.get_by_role("button", name="Use these settings").click()
    until(page, lambda: "explorer.chosen" in widget.get_by_role("status").inner_text(), "the notebook's answer")
    asked = "import labkit; ids = labkit.generate(lm, [explorer.prompts[1].input_ids], explorer.chosen)[0]; "
    asked += f"assert explorer.chosen == {code}; print(ids)"
    run = """async (code) => {
        const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        const texts = [];
        const future = kernel.requestExecute({ code });
        future.onIOPub = (message) => texts.push(message.content.text ?? message.content.evalue ?? "");
        await future.done;
        return texts.join("");
    }"""
    said = page.evaluate(run, asked)
    stop = state(page, "start.stop")
    assert said.strip() == str([token for token in ids if token not in stop])


def test_another_token_forks_the_reply_and_the_kernel_says_what_that_does_to_the_task(page, widget):
    before = state(page, "replies.B.ids")
    widget.locator(".dl-reply[data-reply=B] .dl-chip").first.click()
    until(page, lambda: state(page, "at") == 0, "the first position")
    widget.locator("button.dl-bar-row:not(.dl-chosen):not(.dl-empty)").first.click()
    written(page)
    assert state(page, "replies.B.ids")[0] != before[0]
    tree = widget.locator(".dl-tree")
    until(page, lambda: tree.inner_text().count("Inform") >= 2, "the scores of both replies")
    assert "Success" in tree.inner_text() and "probability" in tree.inner_text()
    picture(page, "6-fork")


def test_two_settings_stand_side_by_side(page, widget):
    """Two columns that a narrow notebook puts outside the window are seen by nobody."""
    widget.get_by_role("button", name="Keep as A").click()
    press(page, "top-k", "ArrowLeft", 2)
    widget.get_by_role("button", name="Write", exact=True).click()
    both = "Object.values(document.querySelector('.dl[data-live]').decodingLab.replies).every((reply) => reply.end)"
    until(page, lambda: page.evaluate(both), "A and B")
    labels = widget.locator(".dl-by").all_inner_texts()
    assert labels == ["bot, A: sample, top_k 3", "bot, B: sample, top_k 1"]
    boxes = [box.bounding_box() for box in widget.locator(".dl-reply").all()]
    assert all(box["x"] + box["width"] <= 1500 for box in boxes)
    picture(page, "7-side-by-side")
    widget.get_by_role("button", name="Forget A").click()


def test_another_turn_an_instruction_and_what_does_not_fit(page, widget):
    widget.get_by_role("button", name="next turn").click()
    until(page, lambda: state(page, "place.turn") == 2 and state(page, "asking.idle"), "the next turn")
    widget.get_by_text("Put something before").click()
    field = widget.get_by_label("instruction", exact=True)
    field.fill("you are a clerk .")
    field.blur()
    until(page, lambda: "you are a clerk" in widget.locator(".dl-dialogue").inner_text(), "the instruction")


def test_a_belief_state_is_written_under_the_grammar_that_the_kernel_tells(page, widget):
    """The grammar of `generate` was the one filter that the lab did not show."""
    widget.get_by_label("write", exact=True).select_option("state")
    until(page, lambda: state(page, "place.format") == "state" and state(page, "asking.idle"), "the place of the state")
    widget.get_by_label("grammar", exact=True).select_option("said")
    until(page, lambda: "cuts" in widget.locator(".dl-grammar .dl-effect").inner_text(), "what the grammar cuts")
    widget.get_by_role("button", name="Write", exact=True).click()
    written(page)
    tree = widget.locator(".dl-tree")
    until(page, lambda: "the annotated state" in tree.inner_text(), "the kernel's verdict")
    assert "✓ a valid state" in tree.inner_text()
    picture(page, "7-grammar")


def test_charts_follow_jupyterlab_s_theme(page):
    """They stayed white in the dark theme."""
    theme = "(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })"
    show = """() => {
        const notebook = jupyterapp.shell.currentWidget.content;
        return notebook.scrollToItem(notebook.widgets.findIndex(cell => cell.model.id == 'best'), 'start');
    }"""
    page.evaluate(show)
    chart = page.locator(".js-plotly-plot:visible").first
    chart.wait_for()
    turned = "(one) => getComputedStyle(one).filter"
    picture(page, "7-charts-light")
    assert chart.evaluate(turned) == "none"
    page.evaluate(theme, "JupyterLab Dark")
    until(page, lambda: chart.evaluate(turned) == "invert(0.92) hue-rotate(180deg)", "a dark chart")
    picture(page, "7-charts-dark")
    page.evaluate(theme, "JupyterLab Light")
    until(page, lambda: chart.evaluate(turned) == "none", "a light chart")
    show_explorer(page)


def test_axe_finds_nothing_in_the_notebook(page, widget):
    assert axe(page, ".dl") == []


def test_a_notebook_opened_again_without_its_kernel_shows_the_recorded_lab_and_no_error(
    page, widget, browser, jupyter, notebook
):
    """It said "Error displaying widget: model not found" where the sliders had been. Last: it ends the first kernel."""
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    until(page, lambda: "data-twin-of" in notebook.read_text(), "a saved notebook")
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.wait_for_timeout(1000)
    again = window(browser, lab_address(jupyter, notebook, "again"))
    show_explorer(again)
    twin = again.locator("[data-twin-of] .dl")
    twin.wait_for()
    until(again, lambda: "%" in twin.locator(".dl-share").first.inner_text(), "the recorded position")
    texts = again.locator(".jp-OutputArea-child:visible").all_inner_texts()
    assert not [text for text in texts if "Error displaying widget" in text or "Loading widget" in text]
    curve, rows = (twin.locator(name).bounding_box() for name in (".dl-curve", ".dl-rows"))
    assert abs(curve["height"] - rows["height"]) < 2, "the notebook's own styles squeeze the line"
    again.get_by_label("top-k", exact=True).focus()
    again.get_by_label("top-k", exact=True).press("ArrowRight")
    assert "cut by top-k" in twin.inner_text()
    twin.get_by_role("button", name="Write", exact=True).click()
    length = "document.querySelector('.dl').decodingLab.replies.B.ids.length"
    until(again, lambda: again.evaluate(length) > 0, "a reply")
    picture(again, "8-opened-again")
    again.close()
