"""The decoding lab's front end in headless Chromium, on a page without a kernel: filters, latency, names, keyboard.

Screenshots go to build/browser, latencies to build/browser/decoding_lab.json.
"""

import base64
import json
import os
import shutil
import statistics

import decoding_lab_cases as cases
import decoding_lab_page
import numpy as np
import pytest
from browser import PICTURES, axe, move, own_milliseconds, watched

V = 50_304  # pythia's vocabulary
SHARE = 4 if shutil.which("node") else 1  # `make test-long` asks more in Node, which computes as Chromium does
DIALS = ["temperature", "top-k", "top-p", "min-p", "typical-p", "repetition penalty", "at least … tokens"]


@pytest.fixture
def opened(browser):
    """Opens the lab with a made-up model; what the page logs as an error fails the test."""
    with watched(browser) as new_page:

        def open_page(size=2_048, delay=0, html=None, **look):
            page = new_page(**look)
            page.set_content(html or decoding_lab_page.page(size, delay))
            page.wait_for_function("document.querySelector('.dl-share')?.textContent.includes('%')")
            return page

        yield open_page


def measured(name, figures):
    """Keep figures for who reads the build folder."""
    path = PICTURES / "decoding_lab.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {name: figures}, indent=1))


def written(page):
    """Wait until the reply is finished."""
    page.wait_for_function("!window.lab.writing && window.lab.replies.B.end && window.lab.asking.idle")


# --- filters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "n"), [(2_048, 440 // SHARE), (V, 60 // SHARE)])
def test_filters_in_the_browser_keep_what_transformers_keeps(opened, size, n):
    """A bar that the page draws and the model's own filters do not is a wrong explanation."""
    page = opened()
    run = """({ bytes, one }) => {
        const logits = new Float32Array(Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0)).buffer);
        const position = { logits, order: module.descending(logits) };
        const { distribution } = module.filtered(position, one.settings, one.where);
        const shares = Float64Array.from(logits, (_, id) => distribution.cutBy[id] ? -1 : distribution.probability(id));
        const found = new Uint8Array(shares.buffer);
        let text = "";
        for (let at = 0; at < found.length; at += 8192) text += String.fromCharCode(...found.subarray(at, at + 8192));
        return btoa(text);
    }"""
    for case in [*cases.random_cases(size, n, seed=1), *cases.grammar_cases(size, n // 10, seed=1)]:
        given = {"bytes": base64.b64encode(case.logits.tobytes()).decode(), "one": cases.as_json(case)}
        found = np.frombuffer(base64.b64decode(page.evaluate(run, given)))
        with cases.stable_sort():
            expected = cases.by_transformers(case)
        assert ((found == cases.CUT) == (expected == cases.CUT)).all(), case.settings
        assert np.abs(found - expected).max() < 1e-6, case.settings


# --- speed ------------------------------------------------------------------------------------------------------------


def test_a_dial_reaches_the_bars_within_a_frame_and_asks_nobody(opened):
    """Sliders that asked the kernel took 29 ms in JupyterLab, and nothing at all without one."""
    page = opened(size=V)
    page.wait_for_function("window.lab.learnt && window.lab.asking.idle && !window.lab.dreaming")
    asked = page.evaluate("window.asked.length")
    page.get_by_text("more dials").click()
    figures = {}
    ranges = {"temperature": (0.1, 2), "top_k": (1, 50), "top_p": (0.05, 0.99), "min_p": (0.01, 0.3)}
    ranges |= {"typical_p": (0.05, 0.95), "repetition_penalty": (1.05, 2), "min_new_tokens": (1, 20)}
    moves = """([name, low, high]) => {
        const dial = window.lab.dials[name].range;
        const bars = document.querySelector(".dl-rows");
        const times = [];
        for (let at = 0; at < 100; at++) {
            dial.value = low + ((high - low) * ((at * 37) % 100)) / 99;
            const start = performance.now();
            dial.dispatchEvent(new Event("input"));
            bars.getBoundingClientRect(); // the layout, too
            times.push(performance.now() - start);
        }
        return times.sort((one, other) => one - other);
    }"""
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the page's own thread, whatever else runs
    for name, (low, high) in ranges.items():
        before = own_milliseconds(cdp)
        times = page.evaluate(moves, [name, low, high])
        own = (own_milliseconds(cdp) - before) / len(times)
        figures[name] = {"median": statistics.median(times), "p95": times[94], "own time": own}
        page.evaluate("(name) => window.lab.set(name, window.module.FILTERS[name])", name)
    assert page.evaluate("window.asked.length") == asked
    write_states(page)  # the grammar is the first of the filters then
    page.wait_for_function("window.lab.asking.idle && !window.lab.dreaming")
    asked = page.evaluate("window.asked.length")
    before = own_milliseconds(cdp)
    times = page.evaluate(moves, ["temperature", *ranges["temperature"]])
    own = (own_milliseconds(cdp) - before) / len(times)
    figures["temperature after a grammar"] = {"median": statistics.median(times), "p95": times[94], "own time": own}
    figures["load of the machine"] = os.getloadavg()[0]
    measured(f"ms from a slider event to the changed bars, V={V}, n=100", figures)
    quiet = figures.pop("load of the machine") < os.cpu_count()
    assert all(one["own time"] < 16 for one in figures.values()), figures
    if quiet:  # a process that waits for its turn says nothing about the page
        assert all(one["median"] < 16 for one in figures.values()), figures
    assert page.evaluate("window.asked.length") == asked


def test_a_new_position_is_drawn_soon_after_its_answer(opened):
    page = opened(size=V)
    for _ in range(5):
        page.get_by_role("button", name="Next token", exact=True).click()
        page.wait_for_function("window.lab.asking.idle && window.lab.at === window.lab.cursor")
    script = "[...window.lab.positions.values()].filter((one) => one.drawn).map((one) => one.drawn - one.arrived)"
    times = page.evaluate(script)
    measured(f"ms from the kernel's answer to the drawn position, V={V}", {"median": statistics.median(times)})
    assert len(times) >= 5 and statistics.median(times) < 150


def test_nothing_jumps_while_dials_move_and_a_reply_is_written(opened):
    """Generate moved by 112 pixels when filters were switched on, and the chart while a reply grew."""
    page = opened(delay=5)
    places = """() => [...document.querySelectorAll(".dl-lab button:not(.dl-chip), .dl-stack, .dl-tree, .dl-status")]
        .filter((one) => !one.closest(".dl-tree") || one.matches(".dl-tree"))
        .map((one) => JSON.stringify(one.getBoundingClientRect()))"""
    before = page.evaluate(places)
    for name, value in {"temperature": 0.3, "top-k": 5, "top-p": 0.5}.items():
        move(page, name, value)
        assert page.evaluate(places) == before
    page.wait_for_timeout(400)  # until the status line has spoken
    assert page.evaluate(places) == before
    page.get_by_role("button", name="Write").click()
    written(page)
    page.wait_for_timeout(400)
    assert page.evaluate(places) == before


# --- what a person does -----------------------------------------------------------------------------------------------


def test_stop_is_not_asking(opened):
    """Stop was an event for a thread; now nothing is asked after it."""
    page = opened(delay=200)
    page.get_by_role("button", name="Write").click()
    page.wait_for_function("window.lab.replies.B.ids.length >= 2")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_function("window.lab.asking.idle")
    length = page.evaluate("window.lab.replies.B.ids.length")
    page.wait_for_timeout(400)
    assert page.evaluate("window.lab.replies.B.ids.length") == length < 7
    assert "Stopped" in page.get_by_role("status").inner_text()
    page.get_by_role("button", name="Write").click()
    written(page)
    assert page.evaluate("window.lab.replies.B.ids.length") == 7, "it goes on where it stopped"


def test_one_question_at_a_time(opened):
    """Two questions in flight overtake one another where the kernel is slow."""
    page = opened(delay=30)
    page.wait_for_function("window.lab.learnt && window.lab.asking.idle && !window.lab.dreaming")
    page.evaluate("""() => {
        const { asking } = window.lab;
        const send = asking.model.send.bind(asking.model);
        const receive = asking.receive.bind(asking);
        window.unanswered = 0;
        window.most = 0;
        asking.model.send = (question) => {
            window.most = Math.max(window.most, ++window.unanswered);
            send(question);
        };
        asking.receive = (...answer) => {
            window.unanswered--;
            receive(...answer);
        };
    }""")
    page.get_by_role("button", name="Write").click()
    page.get_by_label("seed", exact=True).evaluate(
        "(seed) => { seed.value = 3; seed.dispatchEvent(new Event('change')); }"
    )
    written(page)
    assert page.evaluate("window.most") == 1


def test_another_token_forks_the_reply_and_the_tree_tells_what_it_does_to_the_task(opened):
    page = opened()
    page.get_by_role("button", name="Write").click()
    written(page)
    first = page.evaluate("window.lab.replies.B.ids")
    page.locator(".dl-reply[data-reply=B] .dl-chip").nth(2).click()
    page.wait_for_function("window.lab.at === 2")
    assert "← written" in page.locator(".dl-chosen .dl-fate").inner_text()
    other = page.locator("button.dl-bar-row:not(.dl-chosen):not(.dl-empty)").first
    other.click()
    written(page)
    second = page.evaluate("window.lab.replies.B.ids")
    assert second[:2] == first[:2] and second[2] != first[2]
    leaves = page.locator(".dl-leaf")
    assert leaves.count() == 2 and page.locator(".dl-shared").count() == 1
    tree = page.locator(".dl-tree").inner_text()
    assert tree.count("Inform") == 2 and tree.count("probability") == 2 and "the corpus's reply passes" not in tree
    leaves.nth(0).click()
    leaves.nth(1).click()
    assert sorted([first, second]) == sorted(page.evaluate("[...window.lab.leaves.values()].map((leaf) => leaf.ids)"))


def test_greedy_switches_off_the_dials_that_do_nothing(opened):
    """They looked active and did nothing."""
    page = opened()
    move(page, "top-k", 5)
    page.get_by_label("greedy").check()
    page.get_by_text("more dials").click()
    states = {name: page.get_by_label(name, exact=True).is_disabled() for name in DIALS}
    assert [name for name, disabled in states.items() if not disabled] == ["repetition penalty", "at least … tokens"]
    assert "greedy draws nothing" in page.locator(".dl-needle-text").inner_text().lower()
    assert "top_k" not in page.locator(".dl-code pre").inner_text().split("#")[0]
    page.get_by_label("sample").check()
    assert page.get_by_label("top-k", exact=True).input_value() == "5", "the values are kept for the way back"


def test_temperature_cuts_nothing_and_min_new_tokens_is_a_filter(opened):
    """Underflow in single precision was counted as 1,318 tokens cut; a forbidden newline was called kept."""
    page = opened()
    page.get_by_text("more dials").click()
    move(page, "temperature", 0.1)
    page.wait_for_function("document.querySelector('.dl-status').textContent.includes('2,048 of 2,048')")
    page.evaluate("window.lab.positions.get('').logits[0] = 20")  # the token that ends a reply
    page.evaluate("""() => {
        const one = window.lab.positions.get("");
        one.order = window.module.descending(one.logits);
        one.plain = null;
        const off = { ...window.module.FILTERS, strategy: "sample" };
        one.plain = window.module.filtered(one, off, one.where).distribution;
        window.lab.drawPosition(one);
    }""")
    move(page, "at least … tokens", 3)
    row = page.locator("button.dl-bar-row").first
    assert "⏎" in row.inner_text() and "cut by at least" in row.inner_text()


def test_a_minimum_that_was_taken_back_leaves_no_trace(opened):
    """Moved to 198 and back, "at least" left max_new_tokens at 198 for every cell after."""
    page = opened()
    page.get_by_text("more dials").click()
    move(page, "at least … tokens", 198)
    assert "max_new_tokens=198" in page.locator(".dl-code pre").inner_text()
    move(page, "at least … tokens", 0)
    assert "max_new_tokens=40" in page.locator(".dl-code pre").inner_text()


def test_a_and_b_are_written_with_the_same_random_numbers(opened):
    page = opened()
    page.get_by_role("button", name="Keep as A").click()
    move(page, "top-k", 1)
    assert page.locator(".dl-key-a").is_visible() and page.locator(".dl-a").first.is_visible()
    page.get_by_role("button", name="Write").click()
    page.wait_for_function("Object.values(window.lab.replies).every((reply) => reply.end) && !window.lab.writing")
    labels = page.locator(".dl-reply .dl-by").all_inner_texts()
    assert labels == ["bot, A: sample", "bot, B: sample, top_k 1"]
    replies = page.evaluate("[window.lab.replies.A.ids, window.lab.replies.B.ids]")
    assert replies[0] != replies[1] and page.locator(".dl-differs").count() > 0
    page.screenshot(path=PICTURES / "lab-a-and-b.png", full_page=True)


def test_a_bet_comes_before_the_bars(opened):
    page = opened()
    page.get_by_role("button", name="bet first: guess before top-k").click()
    before = page.locator(".dl-rows").inner_text()
    move(page, "top-k", 5)
    assert page.locator(".dl-rows").inner_text() == before
    assert "How much of the probability will top-k 5 cut?" in page.locator(".dl-bet").inner_text()
    page.get_by_role("button", name="Show").click()
    assert "cut by top-k" in page.locator(".dl-rows").inner_text()
    assert page.get_by_role("status").inner_text().startswith("You bet 50 %, it is")


def test_a_reply_says_the_settings_that_it_was_written_with(opened):
    """The old reply stood there as if the dials had written it."""
    page = opened()
    page.get_by_role("button", name="Write").click()
    written(page)
    move(page, "top-k", 5)
    assert page.locator(".dl-by").last.inner_text() == "bot, written with sample; the dials have moved"


def test_markup_in_a_dialogue_is_text(opened):
    page = opened()
    assert "<b>nice</b>" in page.locator(".dl-dialogue").inner_text()
    assert page.locator(".dl-dialogue mark").first.inner_text() == "[hotel]"


def test_another_turn_begins_anew_and_greedys_path_with_it(opened):
    page = opened(delay=20)
    page.get_by_role("button", name="Next token", exact=True).click()
    page.get_by_role("button", name="next turn").click()
    page.wait_for_function("window.lab.place.turn === 2 && window.lab.ghost.ended && window.lab.asking.idle")
    assert page.evaluate("window.lab.replies.B.ids") == []
    assert "…" not in page.locator(".dl-ghost").inner_text()


def test_a_place_that_cannot_be_shown_is_said_and_the_old_one_stays(opened):
    page = opened()
    page.evaluate("""() => {
        const { model } = window.lab.asking;
        const send = model.send.bind(model);
        const hear = window.lab.asking.hear;
        const wrong = { error: "these examples are too long" };
        model.send = (question) =>
            question.ask === "place" && question.shots ? hear({ id: question.id, ...wrong }, []) : send(question);
    }""")
    page.get_by_text("Put something before").click()
    page.get_by_label("worked examples").fill("2")
    page.get_by_label("worked examples").blur()
    page.wait_for_function("document.querySelector('.dl-status').textContent.includes('too long')")
    page.wait_for_timeout(400)
    assert page.get_by_role("status").inner_text() == "⚠ these examples are too long"
    assert page.evaluate("window.lab.place.shots") == 0 and page.locator(".dl-bubble").count() == 3


def test_the_recorded_lab_works_as_a_file_without_a_network(browser, tiny_lm, miniwoz, tmp_path):
    """A double click on a saved page: no server, no kernel, no address but its own."""
    from labkit.decoding.config import DecodingConfig
    from labkit.decoding.generate import stream
    from labkit.notebook.decoding_lab.twin import page as recorded_page
    from labkit.notebook.widgets import DecodingExplorer

    config = DecodingConfig("sample", max_new_tokens=8)
    explorer = DecodingExplorer(tiny_lm, miniwoz["test"][:2], turn=1, config=config, corpus=miniwoz)
    (tmp_path / "lab.html").write_text(recorded_page(explorer), encoding="utf-8")
    asked = []
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{tmp_path}/lab.html")
    page.wait_for_function("document.querySelector('.dl-share')?.textContent.includes('%')")
    move(page, "top-k", 3)
    assert page.locator(".dl-rows").inner_text().count("cut by top-k") == 9
    move(page, "top-k", 0)
    page.get_by_role("button", name="Write").click()
    lab = "document.querySelector('.dl').decodingLab"
    page.wait_for_function(f"!{lab}.writing && {lab}.replies.B.end")
    assert page.evaluate(f"{lab}.replies.B.ids") == list(stream(tiny_lm, explorer.prompts[1].input_ids, config))
    page.wait_for_function("document.querySelector('.dl-tree').textContent.includes('Inform')")
    page.locator("button.dl-bar-row:not(.dl-chosen):not(.dl-empty)").first.click()
    page.wait_for_function("document.querySelector('.dl-status').textContent.includes('not visited')")
    assert axe(page, ".dl") == []
    page.close()
    assert [url[:30] for url in asked if not url.startswith(("file:", "data:"))] == []


def test_the_html_report_shows_the_recorded_lab(browser, tiny_lm, miniwoz, tmp_path):
    """nbconvert's widgets come from addresses outside; in the report there was a table only."""
    import nbformat

    from labkit.course import report
    from labkit.decoding.config import DecodingConfig
    from labkit.notebook.decoding_lab.twin import start_of, twin_html
    from labkit.notebook.widgets import DecodingExplorer

    explorer = DecodingExplorer(tiny_lm, miniwoz["test"][:2], config=DecodingConfig("sample", max_new_tokens=4))
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/html": "", "text/plain": "a table"}
    twin = {"text/html": twin_html(explorer, start_of(explorer)), "text/plain": ""}
    outputs = [nbformat.v4.new_output("display_data", data) for data in (view, twin)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("explorer", outputs=outputs)])
    (tmp_path / "report.html").write_text(report.notebook_page(notebook, "a report"), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.goto(f"file://{tmp_path}/report.html")
    page.wait_for_function("document.querySelector('.dl-share')?.textContent.includes('%')")
    move(page, "top-k", 3)
    assert page.locator(".dl-rows").inner_text().count("cut by top-k") == 9
    page.close()


def test_a_slow_kernel_is_said(opened):
    page = opened()
    page.evaluate("window.lab.asking.model.send = () => {}")
    page.clock.install()
    page.get_by_role("button", name="Next token", exact=True).click()
    page.clock.run_for(10_000)
    page.wait_for_function("document.querySelector('.dl-status').textContent.includes('No answer yet')")


# --- the grammar ------------------------------------------------------------------------------------------------------


def write_states(page, grammar="schema"):
    """Let the lab write the belief state under a grammar."""
    page.get_by_label("write", exact=True).select_option("state")
    page.wait_for_function("window.lab.info?.grammars.length === 2 && window.lab.shown?.where.allowed")
    page.get_by_label("grammar", exact=True).select_option(grammar)


def test_the_grammar_is_the_first_filter_and_says_what_it_cuts(opened):
    """`generate` had it, and the lab showed every filter but this one."""
    page = opened()
    write_states(page)
    effect = page.locator(".dl-grammar .dl-effect")
    assert effect.inner_text().startswith("1. cuts 9") and effect.inner_text().endswith(", 20 left")
    move(page, "top-k", 5)
    top_k = page.locator(".dl-dial").filter(has=page.get_by_label("top-k", exact=True)).locator(".dl-effect")
    assert top_k.inner_text().startswith("2. cuts ") and top_k.inner_text().endswith(", 5 left")
    shown = page.locator(".dl-rows").inner_text()
    assert "cut by grammar" in shown and shown.count("cut by top-k") == 1, "half of the rows are its own likeliest"
    assert "grammar schema" in page.locator(".dl-by").last.inner_text()
    code = page.locator(".dl-code pre").inner_text()
    assert "labkit.state_grammar(corpus)" in code and "prefix_allowed_tokens_fn" in code
    page.get_by_label("grammar", exact=True).select_option("said")
    assert effect.inner_text().endswith(", 2 left")
    page.get_by_label("grammar", exact=True).select_option("none")
    assert effect.inner_text() == "off" and "state_grammar" not in page.locator(".dl-code pre").inner_text()


@pytest.mark.parametrize("mode", ["sample", "greedy"])
def test_what_is_written_under_the_grammar_is_a_line_of_it(opened, mode):
    page = opened()
    write_states(page, "said")
    page.get_by_label(mode).check()
    asked = page.evaluate("window.asked.length")
    page.get_by_role("button", name="Write").click()
    written(page)
    first, *rest = page.evaluate("window.lab.replies.B.ids")
    assert first in (4, 10) and rest == [7 * first, 21, 0]
    logits = page.evaluate("(from) => window.asked.slice(from).filter((one) => one.ask === 'logits').length", asked)
    assert logits <= 4 + 7, "the grammar comes with the logits: greedy's path, and one question a token"


def test_a_beginning_that_no_state_has_is_said_and_nothing_is_written(opened):
    """NaN on every bar, and a token that is not there."""
    page = opened()
    write_states(page)
    goes_on = page.evaluate(
        "Array.from({ length: 2048 }, (_, id) => id).filter((id) => allowedAfter([id]).schema.length)"
    )
    assert goes_on == list(range(2, 41, 2)), "after any other token, which is clicked below, there is none"
    page.get_by_role("button", name="cut by grammar").first.click()
    page.wait_for_function("window.lab.at === 1 && window.lab.now.distribution.alive.length === 0")
    assert page.locator(".dl-needle-text").inner_text() == "No token is left here."
    assert "NaN" not in page.locator(".dl-chart").inner_text()
    for name in ("Write", "Next token"):
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_function("!window.lab.writing && window.lab.asking.idle")
        assert "no state of this grammar begins" in page.get_by_role("status").inner_text()
        assert page.evaluate("window.lab.replies.B.ids.length") == 1
    page.get_by_label("grammar", exact=True).select_option("none")
    page.get_by_role("button", name="Write").click()
    written(page)
    assert page.evaluate("window.lab.replies.B.ids.length") > 1, "without it the line goes on"


def test_a_plain_reply_has_no_grammar_and_the_switch_says_why(opened):
    page = opened()
    grammar = page.get_by_label("grammar", exact=True)
    assert grammar.is_disabled()
    assert page.locator(".dl-grammar .dl-effect").inner_text() == "off: a reply has none"
    write_states(page)
    page.get_by_label("write", exact=True).select_option("turns")
    page.wait_for_function("window.lab.info?.grammars.length === 0 && window.lab.shown && window.lab.asking.idle")
    assert grammar.is_disabled() and grammar.input_value() == "none"
    assert page.evaluate("'format' in JSON.parse(JSON.stringify(window.asked.at(-1)))") is False
    assert "grammar" not in page.locator(".dl-by").last.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_grammar_fits_every_width_and_axe_finds_nothing(opened, scheme):
    page = opened(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    write_states(page)
    page.get_by_role("button", name="bet first: guess before grammar").click()
    for width in (1440, 360):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=PICTURES / f"lab-grammar-{width}-{scheme}.png", full_page=True)
    assert axe(page, ".dl") == []


def test_the_recorded_lab_has_the_grammar_of_the_places_that_were_visited(opened, tiny_lm, miniwoz):
    from labkit.decoding.config import DecodingConfig
    from labkit.decoding.generate import stream
    from labkit.notebook.decoding_lab.twin import page as recorded_page
    from labkit.notebook.widgets import DecodingExplorer

    config = DecodingConfig("sample", max_new_tokens=12)
    how = {"corpus": miniwoz, "format": "state", "grammar": "said"}
    explorer = DecodingExplorer(tiny_lm, miniwoz["dev"][:1], turn=1, config=config, **how)
    page = opened(html=recorded_page(explorer))
    lab = "document.querySelector('.dl').decodingLab"
    prompt = explorer.prompts[1].input_ids
    held = explorer.state_lines.filter("said", explorer.state_line(explorer.place))
    for grammar, filters in (("said", [held]), ("none", [])):
        page.get_by_label("grammar", exact=True).select_option(grammar)
        page.get_by_role("button", name="Write").click()
        page.wait_for_function(f"!{lab}.writing && {lab}.replies.B.end")
        assert page.evaluate(f"{lab}.replies.B.ids") == list(stream(tiny_lm, prompt, config, filters=filters))
        page.get_by_role("button", name="Start over").click()


# --- for everybody ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "widths"),
    [("light", (360, 400, 800, 1440, 1600)), ("dark", (1600, 1440, 800, 400, 360))],
)
def test_every_width_and_theme_is_whole_and_axe_finds_nothing(opened, scheme, widths):
    """One window that is made wider, and one that is made narrower."""
    page = opened(viewport={"width": widths[0], "height": 900}, color_scheme=scheme)
    page.get_by_text("more dials").click()
    page.get_by_role("button", name="Write").click()
    written(page)
    move(page, "top-p", 0.6)
    page.locator(".dl-chip").nth(1).click()
    page.wait_for_function("window.lab.at === 1")
    assert page.evaluate("document.querySelector('.dl').dataset.theme") == scheme
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=PICTURES / f"lab-{width}-{scheme}.png", full_page=True)
        if width in (360, 1600):
            assert axe(page, ".dl") == []


def test_the_whole_way_by_keyboard_alone(opened):
    """A slider, then a reply, then another token in it: no mouse."""
    page = opened()

    def tab_to(condition):
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(f"(() => {{ const one = document.activeElement; return Boolean({condition}); }})()"):
                return
        raise AssertionError(f"Tab never reaches {condition}")

    tab_to("one.textContent === 'Write'")
    page.keyboard.press("Enter")
    written(page)
    tab_to("one.id.endsWith('-temperature')")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("window.lab.settings.temperature") == pytest.approx(1.15)
    page.evaluate("document.body.focus()")
    page.keyboard.press("Shift+Tab")
    for _ in range(40):
        if page.evaluate("document.activeElement.classList.contains('dl-chip')"):
            break
        page.keyboard.press("Shift+Tab")
    for key in ("Home", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("window.lab.at === 2")
    before = page.evaluate("window.lab.replies.B.ids")
    tab_to("one.classList.contains('dl-bar-row')")
    taken = page.evaluate("window.lab.taken")
    ids = page.evaluate("window.lab.rows.map((row) => row.id)")
    page.keyboard.press("Home")
    if ids[0] == taken:
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    written(page)
    after = page.evaluate("window.lab.replies.B.ids")
    assert after[:2] == before[:2] and after[2] != before[2]


def test_every_control_has_a_name_and_changes_are_announced(opened):
    """Twelve sliders had none: a screen reader said "slider" twelve times."""
    page = opened()
    page.get_by_text("more dials").click()
    nameless = page.evaluate("""() => {
        const named = (one) => one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.[0]?.textContent;
        const controls = [...document.querySelectorAll(".dl button:not(.dl-empty), .dl input, .dl textarea")];
        return controls.filter((one) => !named(one)).map((one) => one.outerHTML);
    }""")
    assert nameless == []
    move(page, "top-k", 5)
    page.wait_for_function("document.querySelector('[role=status]').textContent.includes('top-k 5 cuts')")
    assert "5 of 2,048 tokens left" in page.get_by_role("status").inner_text()


def test_a_lab_that_is_drawn_before_it_is_on_the_page_comes_up(opened):
    """An element outside the page has no colours: the lab stayed empty in JupyterLab, every now and then."""
    page = opened(color_scheme="dark")
    page.evaluate("""() => {
        const later = document.createElement("div");
        later.id = "later";
        const start = { ...window.lab.start, id: "later" };
        window.module.mount(later, start, madeUp(2048, [], 0));
        setTimeout(() => document.querySelector("main").append(later), 300);
    }""")
    page.wait_for_function("document.querySelector('#later .dl-share')?.textContent.includes('%')")
    page.wait_for_function("document.querySelector('#later .dl').dataset.theme === 'dark'")


def test_reduced_motion_is_respected(opened):
    moving = "getComputedStyle(document.querySelector('.dl-now')).transitionDuration"
    assert opened().evaluate(moving) == "0.15s"
    assert opened(reduced_motion="reduce").evaluate(moving) == "0s"
