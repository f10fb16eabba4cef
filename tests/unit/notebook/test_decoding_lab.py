"""The decoding lab's kernel side, its recorded twin, its fallback in core widgets, and its filters in Node."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.decoding.config import FILTERS, DecodingConfig
from labkit.decoding.generate import generate, next_token_logits, stream
from labkit.decoding.grammar import state_grammar
from labkit.decoding.rows import Written
from labkit.decoding.vocabulary import only
from labkit.errors import LabError
from labkit.notebook.decoding_lab import answers as answers_module
from labkit.notebook.decoding_lab.core import CoreLab
from labkit.notebook.decoding_lab.files import MODULE
from labkit.notebook.decoding_lab.recording import expanded, opening_answers, question_key, recorded_answers
from labkit.notebook.decoding_lab.tables import settings_text
from labkit.notebook.decoding_lab.twin import page, start_of, twin_html
from labkit.notebook.widgets import (
    DecodingExplorer,
    decoding_explorer,
    decoding_table,
    next_token_chart,
    settings_code,
    steps_table,
)
from labkit.prompts.state_values import Heard
from labkit.prompts.text import state_text

SUPPORT = Path(__file__).parents[2] / "support"
sys.path.insert(0, str(SUPPORT))
import decoding_lab_cases as cases  # noqa: E402
from node import NODE, run_node  # noqa: E402

HERE = {"dialogue": 0, "turn": 0, "instruction": "", "shots": 0}


@pytest.fixture
def dialogue():
    said = ["i want a cheap hotel <b>", "what area ?", "the north", "how about [hotel_name] ?"]
    turns = [Turn(BOT if index % 2 else USER, text) for index, text in enumerate(said)]
    return Dialogue("A.json", ("hotel",), turns)


@pytest.fixture
def explorer(tiny_lm, dialogue):
    return DecodingExplorer(tiny_lm, dialogue, config=DecodingConfig(strategy="sample", max_new_tokens=8, seed=3))


def asked(explorer, ask, **question):
    """The answer to a question at the first turn, and its numbers."""
    answer, buffers = explorer.answer({"ask": ask, **HERE, **question})
    assert "error" not in answer, answer
    return answer, buffers


# --- filters ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[4, pytest.param(1, marks=pytest.mark.long)], ids=["a quarter", "all"])
def by_node(request, tmp_path_factory):
    """650 random cases or a quarter, 100 or 25 under a grammar, what Node makes of them, and what it printed."""
    if NODE is None:
        pytest.skip("no Node on this machine: the browser tests run the same cases")
    folder = tmp_path_factory.mktemp("filters")
    part = request.param
    some = [*cases.random_cases(2_048, 450 // part), *cases.random_cases(50_304, 100 // part)]
    some += [*cases.grammar_cases(2_048, 80 // part), *cases.grammar_cases(50_304, 20 // part)]
    files = cases.write(some, folder)
    printed = run_node(SUPPORT / "decoding_lab_filters.mjs", MODULE, *files, out=folder / "out.f64")
    shares = np.split(np.fromfile(folder / "out.f64"), np.cumsum([len(case.logits) for case in some])[:-1])
    return list(zip(some, shares, map(json.loads, printed.splitlines()), strict=True))


@pytest.mark.slow
def test_filters_in_javascript_keep_what_transformers_keeps(by_node):
    for case, found, _ in by_node:
        with cases.stable_sort():
            expected = cases.by_transformers(case)
        assert ((found == cases.CUT) == (expected == cases.CUT)).all(), case.settings
        assert np.abs(found - expected).max() < 1e-6, case.settings


@pytest.mark.slow
def test_where_equal_logits_are_cut_apart_the_same_number_stays(by_node):
    """transformers' top-p leaves open which of equal tokens it cuts; how many, it does not."""
    for case, found, _ in by_node:
        expected = cases.by_transformers(case)
        other = (found == cases.CUT) != (expected == cases.CUT)
        assert (found == cases.CUT).sum() == (expected == cases.CUT).sum(), case.settings
        assert len(set(case.logits[other])) <= 2 * len(set(case.context)) + 1, "they are equal, apart from the penalty"


@pytest.mark.slow
def test_shares_entropy_and_choice_are_labkits(by_node):
    for _, found, said in by_node:
        left = np.where(found == cases.CUT, 0, found)  # [V]
        some = left[left > 0]
        assert said["entropy"] == pytest.approx(abs((some * np.log2(some)).sum()), abs=1e-9)
        assert said["greedy"] == int(left.argmax())
        cumulative = left.cumsum()  # [V] as labkit.generate draws
        drawn = [int((cumulative <= number * cumulative[-1]).sum()) for number in cases.DRAWS]
        assert said["drawn"] == drawn
        names = [stage["name"] for stage in said["stages"]]
        in_order = [name for name in ("grammar", "min_new_tokens", *FILTERS) if name in names]
        assert names == in_order, "not in labkit's order"
        assert all(stage["removed"] == 0 for stage in said["stages"] if stage["name"] == "temperature")


@pytest.mark.slow
def test_settings_as_python_are_labkits_own(by_node):
    for case, _, said in by_node:
        config = replace(case.settings, max_new_tokens=max(64, case.settings.min_new_tokens))
        labkit_code, transformers_code, summary = said["code"]
        if case.allowed is not None:
            labkit_code, grammar = labkit_code.split("\n")
            assert grammar.startswith("labkit.state_grammar(corpus)  #")
            with_grammar, _ = transformers_code.split("  #")
            transformers_code = with_grammar.replace(", prefix_allowed_tokens_fn=allowed)", ")")
            assert transformers_code != with_grammar
        assert f"{labkit_code}\n\n# the same by transformers\n{transformers_code}" == settings_code(config)
        own = settings_text(replace(config, min_new_tokens=0))
        others = ("grammar schema", f"min_new_tokens {config.min_new_tokens}")
        assert [part for part in summary.split(", ") if part not in others] == own.split(", ")


@pytest.mark.slow
def test_what_a_grammar_cuts_is_what_labkits_own_filter_forbids(by_node):
    for case, found, said in by_node:
        if case.allowed is None:
            continue
        plain = np.exp(case.logits.astype(float) - case.logits.max())  # [V]
        left = only(case.logits, case.allowed)  # [V] as StateGrammar.filter leaves them
        removed = plain[np.isneginf(left)].sum() / plain.sum()
        grammar = said["stages"][0]
        assert grammar["name"] == "grammar" and grammar["left"] == len(case.allowed)
        assert grammar["removed"] == pytest.approx(removed, abs=1e-9)
        assert (found[np.isneginf(left)] == cases.CUT).all()


# --- answers ----------------------------------------------------------------------------------------------------------


def test_logits_are_the_models_and_it_runs_once_for_a_position(explorer, tiny_lm, monkeypatch):
    calls = []
    monkeypatch.setattr(answers_module, "next_token_logits", lambda *a: calls.append(a) or next_token_logits(*a))
    for _ in range(3):
        answer, (numbers,) = asked(explorer, "logits", reply=[5, 6])
    prompt = explorer.prompts[0].input_ids
    assert len(calls) == 1
    assert np.array_equal(np.frombuffer(numbers, np.float32), next_token_logits(tiny_lm, [*prompt, 5, 6]))
    assert answer["texts"]["5"] == tiny_lm.tokenizer.decode([5]) and len(answer["texts"]) >= 64


def test_the_random_numbers_are_those_of_generate(explorer, tiny_lm):
    """Settings handed to a cell below would else write another reply than the lab did."""
    _, (numbers,) = asked(explorer, "draws", seed=3, n=8)
    draws, ids, prompt = np.frombuffer(numbers), [], explorer.prompts[0].input_ids
    for number in draws:
        logits = next_token_logits(tiny_lm, [*prompt, *ids]).astype(float)
        share = np.exp(logits - logits.max()).cumsum()
        ids.append(int((share <= number * share[-1]).sum()))
    expected = list(stream(tiny_lm, prompt, explorer.config))
    assert ids[: len(expected)] == expected


def test_a_place_says_what_was_said_as_the_model_reads_it(explorer):
    answer, _ = asked(explorer, "place", turn=1)
    assert answer["said"] == [["user", "i want a cheap hotel <b>"], ["bot", "what area ?"], ["user", "the north"]]
    assert (answer["turn"], answer["turns"]) == (1, 2) and answer["prompt"] == explorer.prompts[1].input_ids


def test_a_late_turn_becomes_the_last_and_a_wrong_dialogue_is_an_answer(explorer):
    """Turn 5 of a dialogue of two turns was an IndexError inside a callback, where nobody sees it."""
    assert asked(explorer, "place", turn=99)[0]["turn"] == 1
    answer, _ = explorer.answer({"ask": "place", **HERE, "dialogue": 5})
    assert "no such dialogue" in answer["error"] and "there are 1" in answer["error"]
    assert explorer.turn == 1, "it stays where it was"


@pytest.mark.parametrize(
    "question", [{"ask": "nothing"}, {}, {"ask": "logits"}, {"ask": "logits", **HERE, "reply": "x"}]
)
def test_a_question_that_makes_no_sense_is_answered_too(explorer, question):
    """What is raised in the kernel is dropped by the front end, which would wait for ever."""
    answer, buffers = explorer.answer(question)
    assert answer["error"] and not buffers


def test_an_error_of_the_model_is_one_line(explorer, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(answers_module, "next_token_logits", broken)
    assert "out of memory" in explorer.answer({"ask": "logits", **HERE, "reply": []})[0]["error"]


def test_logits_that_are_no_numbers_are_said(explorer, monkeypatch):
    monkeypatch.setattr(answers_module, "next_token_logits", lambda *_: np.array([np.nan, 1.0], dtype=np.float32))
    assert "no numbers" in explorer.answer({"ask": "logits", **HERE, "reply": []})[0]["error"]


def test_an_instruction_and_worked_examples_stand_before_the_history(tiny_lm, dialogue, miniwoz):
    """A text box that changes the screen and not the prompt."""
    explorer = DecodingExplorer(tiny_lm, dialogue, examples=miniwoz["train"][:1])
    bare = explorer.prompts[0].input_ids
    answer, _ = asked(explorer, "place", instruction="you are a clerk .", shots=1)
    text = tiny_lm.tokenizer.decode(answer["prompt"])
    assert text.startswith("you are a clerk .\nuser>") and text.endswith(tiny_lm.tokenizer.decode(bare))
    assert miniwoz["train"][0].turns[0].utterance in text
    assert "you are a clerk" in explorer.question().text and "1 worked examples" in explorer.question().text


def test_examples_that_leave_no_room_are_said_not_swallowed(tiny_lm, dialogue, miniwoz):
    explorer = DecodingExplorer(tiny_lm, dialogue, examples=miniwoz["train"][:9])
    answer, _ = explorer.answer({"ask": "logits", **HERE, "shots": 9, "reply": []})
    assert "reads 512 tokens" in answer["error"]


def test_used_settings_are_a_plain_configuration(explorer):
    config = {"strategy": "sample", "max_new_tokens": 8, "temperature": 0.7, "seed": 3}
    asked(explorer, "use", config=config)
    assert explorer.chosen == DecodingConfig("sample", 8, 0.7, seed=3)
    assert "make no sense" in explorer.answer({"ask": "use", "config": {"temperature": 0.0}})[0]["error"]


def test_a_reply_is_scored_by_labkits_own_metric(tiny_lm, miniwoz):
    """The corpus's own reply must pass as it does in `evaluate`, and an empty one where the venue is named must not."""
    from labkit.metrics import evaluate, gold_predictions

    some = miniwoz["test"][:12]
    explorer = DecodingExplorer(tiny_lm, some, corpus=miniwoz)
    changed = 0
    for number, dialogue in enumerate(some):
        gold = evaluate(gold_predictions([dialogue]), miniwoz).explain(dialogue.key)
        for turn in range(len(dialogue.bot_turns)):
            empty = explorer.scored(dialogue, turn, "ok")
            assert empty["gold"] == {"inform": gold.inform, "success": gold.success}
            changed += empty["success"] != gold.success
        own, _ = asked(explorer, "score", dialogue=number, reply=tiny_lm.codec.encode(" ok\n"))
        assert own["text"] == "ok" and own["gold"] == {"inform": gold.inform, "success": gold.success}
    assert changed > 5, "no single reply decides on Success"


def test_without_a_goal_there_is_no_score_and_no_error(explorer):
    assert asked(explorer, "score", reply=[5])[0].keys() == {"text", "lexical"}


def test_names_and_numbers_are_for_reading(tiny_lm, miniwoz):
    explorer = DecodingExplorer(tiny_lm, miniwoz["test"], database=miniwoz.database)
    answer, _ = asked(explorer, "score", reply=tiny_lm.codec.encode(" call [hotel_name] or [unknown_slot]"))
    name = explorer.dialogue.turns[0].state["hotel"]["name"]
    assert answer["text"] == "call [hotel_name] or [unknown_slot]"
    assert answer["lexical"] == f"call {name} or [unknown_slot]"


# --- a belief state and its grammar -----------------------------------------------------------------------------------

STATE = {**HERE, "turn": 1, "format": "state"}


def stating(tiny_lm, miniwoz, **how):
    """A lab that writes the belief state of the second turn."""
    config = DecodingConfig("sample", max_new_tokens=24, seed=3)
    how = {"format": "state", "corpus": miniwoz, "turn": 1, "config": config, **how}
    return DecodingExplorer(tiny_lm, miniwoz["dev"][:3], **how)


def test_the_logits_come_with_what_each_grammar_allows_after_them(tiny_lm, miniwoz):
    """One message, one answer; and it is what `generate` is held to by the same grammar."""
    explorer = stating(tiny_lm, miniwoz)
    prompt = explorer.prompts[1].input_ids
    heard = Heard.of(explorer.dialogue, 1)
    ended = []
    for name, options in {"schema": {}, "said": {"only_said": True}}.items():
        grammar = state_grammar(miniwoz, **options).filter(tiny_lm.codec, [heard])
        reply = []
        for token in stream(tiny_lm, prompt, DecodingConfig(max_new_tokens=80), filters=[grammar]):
            answer, (numbers,) = asked(explorer, "logits", **{**STATE, "reply": reply})
            logits = np.frombuffer(numbers, np.float32)
            allowed = answer["allowed"]
            assert np.array_equal(only(logits, allowed[name]), grammar(logits, Written(0, prompt, reply)))
            assert token in allowed[name] and set(allowed) == {"schema", "said"}
            assert str(token) in answer["texts"], "the likeliest of those that are allowed have their text"
            reply.append(token)
        if token in tiny_lm.codec.stop_ids:
            ended.append(asked(explorer, "score", **{**STATE, "reply": reply})[0]["state"]["valid"])
    assert ended and all(ended)


def test_a_plain_reply_has_no_grammar_and_says_so(explorer, tiny_lm, miniwoz):
    place, _ = asked(explorer, "place")
    assert place["grammars"] == [] and "belief state" in place["noGrammar"]
    assert "allowed" not in asked(explorer, "logits", reply=[])[0]
    place, _ = explorer.answer({"ask": "place", **STATE})
    assert place["grammars"] == [] and "without a corpus" in place["noGrammar"]
    assert asked(stating(tiny_lm, miniwoz), "place", **STATE)[0]["grammars"] == ["schema", "said"]
    changes = {**STATE, "format": "changes-db"}
    place, _ = asked(stating(tiny_lm, miniwoz), "place", **changes)
    assert place["grammars"] == ["schema", "said", "all-said"] and place["noGrammar"] == ""


def test_a_corpus_without_a_schema_is_the_reason(tiny_lm, miniwoz):
    bare = replace(miniwoz, schema=[])
    place, _ = asked(stating(tiny_lm, bare), "place", **STATE)
    assert place["grammars"] == [] and "no schema" in place["noGrammar"]


def test_a_written_state_is_judged_by_the_annotation(tiny_lm, miniwoz):
    """Inform and Success of a state line said nothing: it was read as a reply."""
    explorer = stating(tiny_lm, miniwoz)
    gold = state_text(explorer.dialogue.turns[2].state)
    assert gold
    for text, verdict in {gold: (True, True), "": (True, False), "no such thing": (False, False)}.items():
        ids = tiny_lm.codec.encode(f" {text}\n")
        answer, _ = asked(explorer, "score", **STATE, reply=ids)
        assert answer == {"text": text, "state": {"valid": verdict[0], "right": verdict[1]}}


@pytest.mark.slow
def test_the_twin_of_a_state_has_it_free_and_under_the_grammar(tiny_lm, miniwoz):
    explorer = stating(tiny_lm, miniwoz, grammar="said")
    answers = recorded_answers(explorer)
    line = explorer.state_line(explorer.place)
    greedy = DecodingConfig(max_new_tokens=24)
    drawn = answers[question_key({"ask": "draws", **STATE, "seed": 3, "n": 256})]["numbers"]
    for config in (greedy, explorer.config):
        for filters in ([], [explorer.state_lines.filter("said", line)]):
            reply = list(stream(tiny_lm, explorer.prompts[1].input_ids, config, filters=filters))
            for length, token in enumerate(reply):
                answer = answers[question_key({"ask": "logits", **STATE, "reply": reply[:length]})]
                logits = expanded(answer)
                left = only(logits, answer["allowed"]["said"]) if filters else logits
                share = np.exp(left.astype(float) - left.max()).cumsum()
                landed = int((share <= drawn[length] * share[-1]).sum())
                assert token == (left.argmax() if config is greedy else landed)
            assert question_key({"ask": "score", **STATE, "reply": reply}) in answers
    start = start_of(explorer, recorded=True)
    assert start["config"]["grammar"] == "said" and start["place"]["format"] == "state"


@pytest.mark.parametrize("strategy", ["sample", "greedy"])
def test_core_widgets_and_the_table_of_a_code_host_know_the_grammar(tiny_lm, miniwoz, strategy):
    config = DecodingConfig(strategy, max_new_tokens=24, seed=3)
    explorer = stating(tiny_lm, miniwoz, grammar="said", config=config)
    static = explorer.static()
    assert static.text.split("\n")[1].strip() == "state>" and "cut by grammar" in static.html
    assert "grammar: " in static.text and " tokens allowed, removes " in static.text
    lab = CoreLab(explorer)
    lab.box()
    for tick in range(1, 30):
        lab.play.value = tick
    held = explorer.state_lines.filter("said", explorer.state_line(explorer.place))
    assert lab.reply == list(stream(tiny_lm, explorer.prompts[1].input_ids, config, filters=[held]))
    lab.reply = tiny_lm.codec.encode(" no state begins like this")
    length = len(lab.reply)
    lab.write_token()
    assert len(lab.reply) == length and "0 tokens allowed" in lab.chart.value


def test_a_grammar_that_there_is_not_is_said(tiny_lm, miniwoz, explorer):
    with pytest.raises(LabError, match="no grammar is called 'json'"):
        stating(tiny_lm, miniwoz, grammar="json")
    config = {"strategy": "greedy"}
    asked(explorer, "use", config=config, grammar="said")
    assert explorer.chosen_grammar == "said"
    asked(explorer, "use", config=config)
    assert explorer.chosen_grammar == "none"
    assert "no grammar is called" in explorer.answer({"ask": "use", "config": config, "grammar": "x"})[0]["error"]


# --- the widget and its twin ------------------------------------------------------------------------------------------


def test_the_widget_answers_with_the_id_of_the_question(explorer, monkeypatch):
    live = pytest.importorskip("labkit.notebook.decoding_lab.live")
    widget = live.DecodingLab(explorer, start_of(explorer))
    sent = []
    monkeypatch.setattr(widget, "send", lambda content, buffers: sent.append((content, buffers)))
    widget.hear(widget, {"ask": "logits", **HERE, "reply": [], "id": "x-1"}, [])
    ((content, (numbers,)),) = sent
    assert content["id"] == "x-1" and numbers == widget.first == explorer.logits(explorer.place).tobytes()


def test_the_first_answers_come_with_the_widget(explorer):
    """With the kernel busy below ("Run All Cells"), the lab was empty for minutes."""
    opening = opening_answers(explorer)
    kinds = [json.loads(key)["ask"] for key in opening]
    assert kinds == ["place", "draws", "logits"]
    _, (numbers,) = asked(explorer, "draws", seed=3, n=256)
    assert next(one for one in opening.values() if "numbers" in one)["numbers"] == np.frombuffer(numbers).tolist()


def test_the_twin_has_every_position_of_greedys_reply_and_of_the_first_settings(explorer, tiny_lm):
    answers = recorded_answers(explorer)
    prompt = explorer.prompts[0].input_ids
    for config in (DecodingConfig(max_new_tokens=8), explorer.config):
        reply = list(stream(tiny_lm, prompt, config))
        for length in range(len(reply) + 1):
            answer = answers[question_key({"ask": "logits", **HERE, "reply": reply[:length]})]
            exact = next_token_logits(tiny_lm, [*prompt, *reply[:length]])
            shown = expanded(answer)
            assert len(shown) == len(exact) and shown.argmax() == exact.argmax()
            assert np.abs(np.exp(shown).cumsum() - np.exp(exact).cumsum()).max() < 0.01 * np.exp(exact).sum()
        assert question_key({"ask": "score", **HERE, "reply": reply}) in answers


def test_the_twin_has_no_markup_from_data(tiny_lm):
    """JSON in a script ends at the first closing tag in it."""
    evil = "</script><img src=x onerror=alert(1)><!--<script>"
    turns = [Turn(USER, evil), Turn(BOT, evil)]
    html = twin_html(explorer := DecodingExplorer(tiny_lm, Dialogue(evil, ("x",), turns)), start_of(explorer))
    assert "<img" not in html.replace("\\u003c", "").split('<script type="application/json"')[0]
    data = html.split('data-recorded-for="')[1].split(">", 1)[1].split("</script>")[0]
    assert "<!--" not in data and evil in str(json.loads(data)["answers"])
    assert html.count("</script>") == 2


def test_a_page_of_its_own_asks_for_no_address(explorer):
    html = page(explorer)
    assert html.startswith("<!doctype html>") and "<table" in html
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "") and "https://" not in html


def test_both_are_displayed_and_a_code_host_sees_one(explorer, monkeypatch):
    """The widget's own output has empty HTML: an untrusted notebook takes it, and shows the twin's table below."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    explorer._ipython_display_()
    widget, twin = shown
    assert widget["application/vnd.jupyter.widget-view+json"]["model_id"] and widget["text/html"] == ""
    assert (
        "tokens left" in widget["text/plain"] and "<table" in twin["text/html"] and "data-twin-of" in twin["text/html"]
    )


def test_the_twin_of_a_large_vocabulary_stays_small(explorer, monkeypatch):
    """Logits of pythia's vocabulary at every position of two replies would be 20 MB of notebook."""
    monkeypatch.setattr("labkit.notebook.decoding_lab.recording.SIZE", 3 * len(explorer.logits(explorer.place)))
    asked_for = [json.loads(key) for key in recorded_answers(explorer)]
    assert max(len(one["reply"]) for one in asked_for if one["ask"] == "logits") == 3


# --- where custom widgets are off -------------------------------------------------------------------------------------


def test_without_anywidget_core_widgets_are_displayed(explorer, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.setenv("LAB_WIDGETS", "core")
    explorer._ipython_display_()
    widget, twin = shown  # two outputs: of one, JupyterLab draws the widget's error box where no kernel is
    assert widget["application/vnd.jupyter.widget-view+json"]["model_id"] and widget["text/html"] == ""
    assert "<table" in twin["text/html"] and "data-twin-of" in twin["text/html"]


def test_play_asks_for_the_next_token_until_the_reply_ends(explorer, tiny_lm):
    """A thread that writes into a widget is not redrawn in Colab."""
    lab = CoreLab(explorer)
    lab.box()
    for tick in range(1, 12):
        lab.play.value = tick
    assert lab.reply == list(stream(tiny_lm, explorer.prompts[0].input_ids, explorer.config))
    assert tiny_lm.codec.decode(lab.reply)[:20] in lab.text.value.replace("&#x27;", "'").replace("&quot;", '"')


def test_core_sliders_redraw_the_chart_and_hand_settings_over(explorer):
    lab = CoreLab(explorer)
    lab.box()
    lab.controls["top_k"].value = 1
    assert "cut by top_k" in lab.chart.value and explorer.chosen.top_k == 0
    lab.use()
    assert explorer.chosen.top_k == 1 and "top_k=1" in lab.code.value
    lab.controls["strategy"].value = "greedy"
    assert lab.config.strategy == "greedy" and lab.config.top_k == 0 and lab.controls["top_k"].disabled
    assert "not taken" in lab.chart.value


def test_given_settings_are_kept_where_a_slider_is_narrower(tiny_lm, dialogue):
    """A slider up to 50 made top_k=50 out of 200 when the widgets were drawn."""
    config = DecodingConfig("sample", 300, top_k=200, seed=1234, temperature=3.0)
    explorer = DecodingExplorer(tiny_lm, dialogue, config=config)
    assert CoreLab(explorer).config == config
    begun = start_of(explorer)["config"]
    assert (begun["top_k"], begun["seed"], begun["temperature"]) == (200, 1234, 3.0)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_chart_names_what_cut_a_token_and_the_mass_that_each_filter_removed(tiny_lm):
    logits = np.full(len(tiny_lm.tokenizer), -20.0, dtype=np.float32)
    logits[10:14] = np.log([0.5, 0.3, 0.15, 0.05])
    chart = next_token_chart(tiny_lm, logits, DecodingConfig(strategy="sample", top_k=3, top_p=0.6), n=4)
    rows = chart.text.split("\n")
    assert [row.split()[-1] for row in rows[:4]] == ["kept", "kept", "top_p", "top_k"]
    assert "50.0% →   62.5%" in rows[0]  # 0.5 / (0.5 + 0.3)
    assert "top_k 3 removes 5.0% of the mass" in chart.text and "2 of" in rows[-1] and "0.95 bits" in rows[-1]
    assert chart.html.count("cut by") == 2


def test_a_cold_temperature_cuts_nothing(tiny_lm):
    """A probability that single precision rounds to 0 was counted as cut: "730 of 2048 tokens left"."""
    logits = np.linspace(-30, 0, len(tiny_lm.tokenizer), dtype=np.float32)
    chart = next_token_chart(tiny_lm, logits, DecodingConfig(strategy="sample", temperature=0.1))
    assert f"{len(logits):,} of {len(logits):,} tokens left" in chart.text


def test_greedy_takes_one_token_and_says_which(tiny_lm):
    logits = np.arange(len(tiny_lm.tokenizer), dtype=np.float32)
    rows = next_token_chart(tiny_lm, logits, DecodingConfig(), n=3).text.split("\n")
    assert rows[0].endswith("taken") and not rows[0].endswith("not taken") and rows[1].endswith("not taken")


def test_steps_table_tells_how_each_token_came_about(tiny_lm, explorer):
    prompt = explorer.prompts[0].input_ids
    table = steps_table(tiny_lm, prompt, DecodingConfig("sample", max_new_tokens=4, min_new_tokens=4, top_k=3))
    assert len(table.text.split("\n")) == 5 and table.html.count("<td>3</td>") == 4
    assert "entropy" in table.html


def test_decoding_table_shows_chart_and_reply_of_each_setting(tiny_lm, dialogue):
    configs = [DecodingConfig(max_new_tokens=4), DecodingConfig(strategy="sample", top_p=0.5, max_new_tokens=4)]
    table = decoding_table(tiny_lm, dialogue, configs, turn=1, n=3)
    assert "greedy\n" in table.text and "sample, top_p 0.5\n" in table.text and table.text.count("bot> ") == 2
    prompt = DecodingExplorer(tiny_lm, dialogue).prompts[1].input_ids
    (ids,) = generate(tiny_lm, [prompt], configs[1])
    assert f"bot> {tiny_lm.codec.decode(ids)}\n" in table.text and table.html.count("<table") == 2


def test_explorer_takes_the_dialogue_of_a_notebook(tiny_lm, miniwoz):
    assert decoding_explorer(tiny_lm, miniwoz["test"][0], turn=1).chart().text
