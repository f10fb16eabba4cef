"""Chat: a conversation without widgets, the same in a browser's place, and inputs that nobody should type."""

import json
import threading
from dataclasses import replace
from html import unescape
from importlib import import_module

import pytest
import tiny_models

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.decoding.config import DecodingConfig
from labkit.decoding.grammar import state_grammar
from labkit.decoding.predict import answer
from labkit.decoding.streamed import AnswerSoFar
from labkit.errors import LabError
from labkit.interaction import RulePolicy, partner_of
from labkit.interaction.bots import Talk
from labkit.notebook import chat
from labkit.notebook.chat import LONGEST, Conversation
from labkit.notebook.chat_box import answers, files
from labkit.notebook.view import filled, matching

EVIL = "<script>alert(1)</script>"
DATABASE = {
    "restaurant": [
        {"name": "curry garden", "food": "indian", "area": "centre", "phone": "01223"},
        {"name": "bella tavola", "food": "italian", "area": "east", "phone": "01632"},
        {"name": "da mario", "food": "italian", "area": "west", "phone": "01999"},
    ],
    "taxi": {"taxi_types": ["skoda"]},  # a table, not entities
}
ITALIAN = {"restaurant": {"food": "italian"}}


@pytest.fixture
def conversation(tiny_lm, monkeypatch):
    """A model that believes ITALIAN and offers a venue; `heard` holds the dialogues it was asked about."""

    def answer(lm, dialogue, config, state=None, **how):
        heard.append(dialogue)
        return {
            "response": "[restaurant_choice] found, [restaurant_name], call [restaurant_phone]",
            "state": state or ITALIAN,
        }

    heard = []
    monkeypatch.setattr(chat, "answer", answer)
    talk = Conversation(tiny_lm, DATABASE)
    talk.heard = heard
    return talk


def test_an_answer_has_state_matches_and_names(conversation):
    said = conversation.say("  italian \n food ")
    assert said.user == "italian food", "a line break would begin a turn of its own in the prompt"
    assert [row["name"] for row in said.matches["restaurant"]] == ["bella tavola", "da mario"]
    assert said.text == "2 found, bella tavola, call 01632" and "[restaurant_name]" in said.reply


def test_the_history_holds_placeholders_and_the_models_own_states(conversation):
    """A name in the history is what the model never saw in training; so is a turn without its state."""
    conversation.say("hello")
    conversation.say("and the phone?")
    turns = conversation.heard[1].turns
    assert [turn.utterance for turn in turns[::2]] == ["hello", "and the phone?"]
    assert turns[1].utterance.startswith("[restaurant_choice]") and turns[0].state == ITALIAN


def test_a_bot_that_looks_things_up_is_asked_with_the_database(tiny_lm, monkeypatch):
    asked = []

    def answer(lm, dialogue, config, state, *, format, database):
        asked.append((format, database.count({**ITALIAN, "taxi": {"leaveat": "12:00"}})))
        return {"response": "hello", "state": {}}

    monkeypatch.setattr(chat, "answer", answer)
    Conversation(tiny_lm, DATABASE, format="db").say("italian food")
    assert asked == [("db", {"restaurant": 2})]
    with pytest.raises(LabError, match="no database"):
        Conversation(tiny_lm, {}, format="db")


def test_a_tracker_gets_the_state_before_and_the_turn(conversation):
    conversation.track = lambda state, text: {"restaurant": {**state.get("restaurant", {}), text: "yes"}}
    conversation.play(["cheap", "west"])
    assert conversation.answers[-1].state == {"restaurant": {"cheap": "yes", "west": "yes"}}


@pytest.mark.parametrize(("text", "words"), [("", "nothing"), (" \n\t", "nothing"), ("x" * (LONGEST + 1), "401 char")])
def test_what_cannot_be_answered_is_refused_and_leaves_no_trace(conversation, text, words):
    with pytest.raises(LabError, match=words):
        conversation.say(text)
    assert not conversation.heard and words in conversation.respond(text).text
    conversation.say("x" * LONGEST)
    assert len(conversation.heard[0].turns) == 2


def test_html_is_text_wherever_it_comes_from(conversation, monkeypatch):
    evil = {"response": EVIL, "state": {"restaurant": {"food": EVIL}}}
    monkeypatch.setattr(chat, "answer", lambda *_: evil)
    shown = conversation.play([EVIL])
    assert "<script" not in shown.html and shown.html.count("&lt;script&gt;") == 3
    assert "<script" not in conversation.show(EVIL).html
    assert shown.text.count(EVIL) == 3


def test_the_text_twin_says_what_the_picture_says(conversation):
    shown = conversation.play(["italian food"])
    assert shown.text.split("\n") == [
        "user> italian food",
        "    belief state: restaurant food=italian",
        "    restaurant: 2 in the database (bella tavola, da mario)",
        "bot> 2 found, bella tavola, call 01632",
    ]
    assert all(words in shown.html for words in ("2 in the database", "food=italian", "bella tavola, call 01632"))


def test_nothing_found_and_domains_without_entities(conversation, monkeypatch):
    state = {"restaurant": {"food": "french"}, "taxi": {"leaveat": "12:00"}, "nonsense": {"a": "b"}}
    monkeypatch.setattr(chat, "answer", lambda *_: {"response": "[restaurant_name] at [taxi_leaveat]", "state": state})
    said = conversation.say("a taxi to a french place")
    assert said.matches == {"restaurant": []} and said.text == "[restaurant_name] at [taxi_leaveat]".replace(
        "[taxi_leaveat]", "12:00"
    )
    assert "restaurant: 0 in the database" in said.lines()


def test_a_placeholder_without_a_domain_is_about_the_active_one():
    state = {"hotel": {"bookday": "friday"}, "restaurant": {"bookday": "monday"}}
    assert filled("booked for [bookday]", state, DATABASE, "hotel") == "booked for friday"
    assert filled("booked for [bookday]", state, DATABASE) == "booked for [bookday]"
    assert filled("[restaurant_name]", {}, DATABASE) == "[restaurant_name]", "nobody asked for any restaurant"
    assert len(matching("restaurant", {}, DATABASE)) == 3 and matching("taxi", state, DATABASE) == []


def test_an_error_of_the_model_is_said_below(conversation, monkeypatch):
    def broken(*_):
        raise RuntimeError("the model fell over")

    conversation.say("hello")
    monkeypatch.setattr(chat, "answer", broken)
    assert "hello" in conversation.respond("again").text and "the model fell over" in conversation.respond("again").html


def test_what_is_typed_is_sent_once_and_the_field_is_empty_again(conversation):
    """A browser tells the value at Enter and on leaving the field, which a click on Send does, too."""
    above, row = conversation.box().children
    (log,) = above.children
    line, send, again = row.children
    line.value = "italian food"
    assert line.value == "" and "bella tavola" in log.value
    send.click()
    assert len(conversation.answers) == 1 and "nothing to answer" not in log.value
    line.value = "  "
    assert line.value == "" and "nothing to answer" in log.value and len(conversation.answers) == 1
    line.value = "italian food"
    assert len(conversation.answers) == 2, "the same words again are a turn, too"
    again.click()
    assert not conversation.answers and "Nothing was said" in log.value


def test_my_own_line_is_there_while_the_bot_writes(conversation, monkeypatch):
    """It disappeared from the field, and came back with the answer: minutes later, with a large model."""
    above, row = conversation.box().children
    (log,) = above.children
    line = row.children[0]
    seen = []
    known = chat.answer

    def slow(*given):
        seen.append(log.value)
        return known(*given)

    monkeypatch.setattr(chat, "answer", slow)
    line.value = "italian food"
    line.value = f"and {EVIL}"
    assert "italian food" in seen[0] and "The bot is writing" in seen[0] and "bella tavola" not in seen[0]
    assert "and &lt;script&gt;" in seen[1] and "bella tavola" in seen[1]
    assert "writing" not in log.value and log.value.count("and &lt;script&gt;") == 1
    assert conversation.waiting("hello").text.endswith("user> hello\nThe bot is writing …")


def test_no_thread_touches_the_chat(conversation, monkeypatch):
    """Colab does not redraw a widget that a thread changes."""
    monkeypatch.setattr(threading.Thread, "start", lambda *_: pytest.fail("a thread was started"))
    above, row = conversation.box().children
    row.children[0].value = "italian food"
    assert "bella tavola" in above.children[0].value


@pytest.mark.slow
def test_a_real_model_keeps_the_thread(tiny_lm):
    """Untrained, it writes nonsense: a state that does not parse and an empty reply are answers, too; a history longer
    than the context (512 tokens here) loses its beginning."""
    talk = Conversation(tiny_lm, DATABASE, DecodingConfig(max_new_tokens=16))
    talk.play(["i want italian food in the centre of town please, and a hotel for 4 nights"] * 6)
    assert len(talk.answers) == 6 and all(isinstance(one.state, dict) for one in talk.answers)


def test_a_turn_that_is_too_many_tokens_is_one_line(tiny_lm):
    """400 characters can be 2,000 tokens."""
    talk = Conversation(tiny_lm, DATABASE)
    assert "reads 512 tokens" in talk.respond("\U0001f600" * LONGEST).text and not talk.answers


def test_a_tracked_state_stands_in_the_prompt(tiny_lm, monkeypatch):
    read, module = [], import_module("labkit.decoding.predict")
    monkeypatch.setattr(module, "generate", lambda lm, prompts, config: read.extend(prompts) or [[]])
    talk = Conversation(tiny_lm, DATABASE, track=lambda *_: ITALIAN)
    talk.say("italian food")
    assert tiny_lm.tokenizer.decode(read[0]) == "user> italian food\nstate> restaurant food=italian\nbot>"


# --- a simulated user in place of the person ------------------------------------------------------------------------


@pytest.fixture
def hosted(miniwoz, tiny_lm, monkeypatch):
    """A chat with a bot by rules, which reads what the simulated user means."""
    rules = RulePolicy(miniwoz)
    partner = partner_of(miniwoz)

    def answer(lm, dialogue, config, state=None, **how):
        user = partner.user
        meant = user.acts[-1]
        turn = Turn(USER, dialogue.turns[-2].utterance, user.agenda.state, meant.acts())
        (reply,) = rules.reply([Talk("chat", [turn], [])])
        return {"response": reply["response"], "state": user.agenda.state}

    monkeypatch.setattr(chat, "answer", answer)
    talk = Conversation(tiny_lm, miniwoz.database)
    return talk, partner


def test_a_simulated_user_leads_the_chat_to_its_end(hosted):
    talk, partner = hosted
    text = talk.meet(partner).text
    assert len(talk.answers) > 2 and text.endswith("Success, strictly, too.")
    first = [one.user for one in talk.answers]
    talk.meet(partner)  # the same user again, from the beginning
    assert [one.user for one in talk.answers] == first


def test_the_button_says_a_turn_of_the_simulated_user_and_what_it_finds_wrong(hosted):
    talk, partner = hosted
    talk.partner = partner
    above, row = talk.box().children
    button = row.children[-1]
    assert "simulated user" in button.description
    button.click()
    assert talk.answers[0].user in unescape(above.children[0].value)
    talk.partner = None
    assert len(talk.box().children[1].children) == 3  # without a partner there is none
    with pytest.raises(LabError, match="no simulated user"):
        talk.let_partner_speak()


def test_a_partners_turn_whose_answer_was_stopped_is_not_lost(hosted, monkeypatch):
    """It had spoken, nobody had answered, and the next press of the button began with its turn after that."""
    talk, partner = hosted
    talk.partner = partner
    talk.restart()
    whole = talk.say

    def stopped(text):
        said.append(text)
        raise KeyboardInterrupt

    said = []
    monkeypatch.setattr(talk, "say", stopped)
    with pytest.raises(KeyboardInterrupt):
        talk.let_partner_speak()
    monkeypatch.setattr(talk, "say", whole)
    talk.let_partner_speak()
    assert talk.answers[0].user == said[0]


def test_a_bot_that_only_says_ok_is_left(conversation, miniwoz, monkeypatch):
    monkeypatch.setattr(chat, "answer", lambda *_, **__: {"response": "ok", "state": {}})
    talk = Conversation(conversation.lm, miniwoz.database)
    assert "left" in talk.meet(partner_of(miniwoz, miniwoz["test"][3].dialogue_id)).text
    with pytest.raises(LabError, match="no goal 'nobody'"):
        partner_of(miniwoz, "nobody")


# --- written token by token -------------------------------------------------------------------------------------------


@pytest.fixture
def slow(tiny_lm, monkeypatch):
    """A conversation whose answers come in four parts; `asked` counts those that were asked for."""
    parts = [AnswerSoFar({}), AnswerSoFar(ITALIAN), AnswerSoFar(ITALIAN, ""), AnswerSoFar(ITALIAN, "[restaurant_name]")]

    def stream_answer(lm, dialogue, config, state=None, **how):
        for part in parts:
            asked.append(dialogue)
            yield part

    asked = []
    monkeypatch.setattr(chat, "stream_answer", stream_answer)
    monkeypatch.setattr(answers, "BREATH", 0)  # one part for a question
    talk = Conversation(tiny_lm, DATABASE)
    talk.asked = asked
    return talk


def ask(front, question, **given):
    """An answer as the front end gets it: through JSON."""
    return json.loads(json.dumps(front.answer({"ask": question, "id": "1", **given})))


@pytest.mark.parametrize("decoding", [DecodingConfig(), DecodingConfig("sample", seed=3), DecodingConfig("beam")])
@pytest.mark.parametrize("track", [None, lambda state, text: ITALIAN])
def test_a_streamed_reply_is_the_one_that_say_gives(tiny_lm, decoding, track, monkeypatch):
    for module in ("predict", "streamed"):
        monkeypatch.setattr(import_module(f"labkit.decoding.{module}"), "STATE_TOKENS", 8)
    decoding = replace(decoding, max_new_tokens=6, num_beams=2 if decoding.strategy == "beam" else 1)
    at_once, streamed = (Conversation(tiny_lm, DATABASE, decoding, track) for _ in range(2))
    for text in ("a cheap hotel", "book it"):
        said = at_once.say(text)
        *_, last = streamed.write(text)
        assert last == said and streamed.answers == at_once.answers


@pytest.mark.parametrize("format", ["changes", "changes-db"])
def test_a_streamed_state_is_held_to_the_grammar_as_one_that_is_written_at_once(miniwoz, format):
    """And a chat in the format `changes` was asked in the format `state`."""
    lm = tiny_models.language_model("neox")
    grammar = state_grammar(miniwoz, only_said=True)
    how = {"format": format, "grammar": grammar}
    decoding = DecodingConfig(max_new_tokens=3)
    at_once, streamed = (Conversation(lm, miniwoz.database, decoding, **how) for _ in range(2))
    for text in ("a cheap hotel in the north", "in the centre, i mean"):
        said = at_once.say(text)
        *_, last = streamed.write(text)
        assert last == said
    values = {value for one in at_once.answers for slots in one.state.values() for value in slots.values()}
    assert values <= {"cheap", "hotel", "north", "centre", "dontcare", "none"}
    first, second = at_once.answers
    turns = [Turn(USER, first.user, first.state), Turn(BOT, first.reply, first.state), Turn(USER, second.user)]
    asked = Dialogue("CHAT", (), turns)
    reply = answer(lm, asked, decoding, database=miniwoz.database, **how)
    assert (reply["state"], reply["response"]) == (second.state, second.reply)


def test_nothing_is_written_that_is_not_asked_for(slow):
    """Stop was impossible: the whole reply was written in one event."""
    front = answers.ChatAnswers(slow)
    assert ask(front, "say", text="italian") == {"at": 0} and slow.asked == []
    parts = [ask(front, "more") for _ in range(3)]
    assert len(slow.asked) == 3 and not any(part["exchange"]["finished"] for part in parts)
    assert "empty" in parts[0]["exchange"]["facts"][0] and "food=italian" in parts[1]["exchange"]["facts"][0]
    rest = [ask(front, "more")["exchange"] for _ in range(2)]
    assert [one["finished"] for one in rest] == [False, True] and rest[1]["text"] == "bella tavola"
    assert "nothing is being written" in ask(front, "more")["error"] and len(slow.answers) == 1


def test_a_stopped_reply_stays_and_one_without_a_word_is_forgotten(slow):
    front = answers.ChatAnswers(slow)
    ask(front, "say", text="italian")
    for _ in range(4):
        ask(front, "more")
    assert [one["finished"] for one in ask(front, "all")["exchanges"]] == [False], "this is what Stop leaves"
    assert ask(front, "say", text="hello")["at"] == 1 and ask(front, "more")["at"] == 1
    assert ask(front, "say", text="hello again")["at"] == 1, "nothing was said to the first hello"
    ask(front, "more")
    assert [turn.utterance for turn in slow.asked[-1].turns] == ["italian", "[restaurant_name]", "hello again", ""]
    assert slow.asked[-1].turns[1].state == ITALIAN
    assert ask(front, "restart") == {"exchanges": []} and slow.answers == []


@pytest.mark.parametrize(("text", "words"), [("", "nothing"), (" \n", "nothing"), ("x" * (LONGEST + 1), "401 char")])
def test_the_front_end_hears_what_cannot_be_answered(slow, text, words):
    front = answers.ChatAnswers(slow)
    refused = ask(front, "say", text=text)
    assert words in refused["error"] and refused["exchanges"] == [] and not slow.asked


def test_an_error_while_writing_is_heard_and_leaves_no_half_turn(slow, monkeypatch):
    def broken(*_):
        yield AnswerSoFar(ITALIAN, "well")
        raise RuntimeError("the model fell over")

    front = answers.ChatAnswers(slow)
    monkeypatch.setattr(chat, "stream_answer", broken)
    ask(front, "say", text="hello")
    assert ask(front, "more")["exchange"]["text"] == "well"
    failed = ask(front, "more")
    assert "the model fell over" in failed["error"] and failed["exchanges"] == [] and slow.answers == []
    assert "unknown question" in ask(front, "what")["error"]


def test_the_widget_answers_with_the_id_of_the_question_and_without_a_thread(slow, monkeypatch):
    live = pytest.importorskip("labkit.notebook.chat_box.live")
    sent = []
    widget = live.ChatBox(answers.ChatAnswers(slow), "here")
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append(content))
    monkeypatch.setattr(threading.Thread, "start", lambda *_: pytest.fail("a thread was started"))
    for number, question in enumerate([{"ask": "say", "text": "italian"}, *[{"ask": "more"}] * 4]):
        widget.hear(widget, {**question, "id": f"view-{number}"}, [])
    assert [one["id"] for one in sent] == [f"view-{number}" for number in range(5)]
    assert sent[4]["exchange"]["text"] == "bella tavola"


def test_the_twin_in_the_notebook_has_the_conversation(slow, monkeypatch):
    """A notebook that is opened again showed an empty chat: what was said came after the output was written."""
    display = import_module("labkit.notebook.chat_box.display")
    shown, twins = [], []

    class Handle:
        update = staticmethod(lambda data, raw: twins.append(data["text/html"]))

    def displayed(data, raw=True, display_id=None):
        shown.append(data)
        return Handle() if display_id else None

    monkeypatch.setattr("IPython.display.display", displayed)
    created = []
    monkeypatch.setattr(display, "ChatAnswers", lambda talk: created.append(answers.ChatAnswers(talk)) or created[0])
    slow._ipython_display_()
    view, twin = shown
    assert "application/vnd.jupyter.widget-view+json" in view and view["text/html"] == ""
    assert "Nothing was said" in twin["text/html"] and "data-twin-of" in twin["text/html"]
    ask(created[0], "say", text=EVIL)
    for _ in range(5):
        ask(created[0], "more")
    assert len(twins) == 1 and "bella tavola" in twins[0] and "<script>alert" not in twins[0]


def test_without_anywidget_core_widgets_are_displayed(slow, monkeypatch):
    monkeypatch.setenv("LAB_WIDGETS", "core")
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    slow._ipython_display_()
    assert len(shown) == 2 and "Nothing was said" in shown[1]["text/html"]


def test_the_modules_of_the_chat_are_one_file():
    """A widget's module has no neighbours to import from."""
    text = files.module()
    assert "import {" not in text and text.count("export default") == 1 and "class Asking" in text
