"""The database as a tool: whatever a model writes, the call is JSON that can be looked up."""

import json
from dataclasses import replace

import pytest
from tiny_models import language_model

import labkit
from labkit.corpora.search import VenueDatabase
from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.decoding.tools import INSTRUCTION, signatures
from labkit.errors import LabError
from labkit.prompts.call_language import Call, CallLanguage
from labkit.prompts.state_values import Heard, SlotValues

SAMPLED = labkit.DecodingConfig(strategy="sample", temperature=1.5, max_new_tokens=4)
SLOTS = {
    "hotel": {"area": SlotValues(frozenset({"north", "northeast"}), False), "name": SlotValues(frozenset(), True)},
    "train": {"day": SlotValues(frozenset(), False)},
}
HEARD = Heard(('the "old" inn , north',), {})
TOOL_TEMPLATE = (
    "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "
)


def language(**how):
    return CallLanguage(SLOTS, HEARD, **how)


def dialogue(text="i want a cheap hotel in the north"):
    said = [Turn(USER, "hello"), Turn(BOT, "how can i help ?"), Turn(USER, text), Turn(BOT, "not to be read")]
    return Dialogue("talk", (), said)


# --- the language -----------------------------------------------------------------------------------------------------


def test_a_value_that_begins_another_value_can_be_written_and_so_can_the_longer_one():
    for area in ("north", "northeast"):
        assert str(Call("hotel", {"area": area})) + "\n" in language()


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "find_hotel", "arguments": {"area": "south"}}\n',  # no such value
        '{"name": "find_hotel", "arguments": {"name": "grand"}}\n',  # nobody said it
        '{"name": "find_hotel", "arguments": {"name": "inn", "area": "north"}}\n',  # twice the same in another order
        '{"name": "find_hotel", "arguments": {"area": "north", "area": "north"}}\n',
        '{"name": "find_train", "arguments": {"day": ""}}\n',  # a slot without a value that could be written
        '{"name": "find_taxi", "arguments": {}}\n',
        '{"name": "find_hotel", "arguments": {}}',  # not ended
    ],
)
def test_what_is_no_call_cannot_be_written(text):
    assert text not in language()


def test_what_was_said_is_a_value_also_with_a_quotation_mark_in_it():
    call = Call("hotel", {"name": 'the "old" inn'})
    spoken = Heard(('the "old" inn',), {})
    names = {tuple(json.loads(f'["{value}"]')) for value in CallLanguage(SLOTS, spoken)._said}
    for (name,) in names:
        written = str(Call("hotel", {"name": name}))
        assert written + "\n" in CallLanguage(SLOTS, spoken) and Call.read(written).arguments == {"name": name}
    assert Call.read(str(call)) == call


@pytest.mark.parametrize("length", range(0, 78, 3))
def test_a_call_that_is_cut_off_anywhere_is_still_one(length):
    whole = str(Call("hotel", {"area": "northeast", "name": "inn"})) + "\n"
    ended = language().whole(whole[:length])
    assert ended in language()
    kept = Call.read(ended).arguments
    assert kept.items() <= {"area": "northeast", "name": "inn"}.items()
    assert language().whole(whole) == whole


def test_letters_that_a_tokenizer_lacks_are_in_no_value():
    letters = frozenset('{}[]":, _\nabcdefghijklmnopqrsuvwxyz')  # no t
    only = CallLanguage({"hotel": {"area": SLOTS["hotel"]["area"]}}, HEARD, letters=letters)
    assert '{"name": "find_hotel", "arguments": {"area": "north"}}\n' not in only
    assert only.whole("").endswith("{}}\n")


@pytest.mark.parametrize("text", ["", "[]", '{"name": "find_hotel"}', '{"name": "x", "arguments": {}}', "{" * 5000])
def test_what_is_no_call_is_read_as_none(text):
    with pytest.raises(LabError, match="no function call"):
        Call.read(text)


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grammar(miniwoz):
    return labkit.tool_grammar(miniwoz)


def test_every_call_of_a_model_that_knows_nothing_is_valid(miniwoz, grammar):
    """Symptom: a call that no parser reads, or with a slot that the database has not."""
    lm = language_model("neox")
    lm.model.config.max_position_embeddings = 2048  # its rotary positions go on
    venues = VenueDatabase(miniwoz.database)
    for seed in range(2):
        used = labkit.use_tool(lm, dialogue(), grammar, venues, replace(SAMPLED, seed=seed))
        told = json.loads(used.written)
        domain = told["name"].removeprefix("find_")
        assert set(told["arguments"]) <= set(grammar.slots[domain])
        assert (
            used.found == len(venues.query(domain, told["arguments"])) and used.result == f'{{"found": {used.found}}}'
        )
        assert used.written in grammar.language(Heard.of(dialogue(), 1), lm.codec, lead=" ")


def test_with_only_said_nothing_is_asked_for_that_nobody_could_mean(miniwoz):
    narrow = labkit.tool_grammar(miniwoz, only_said=True)
    language = narrow.language(Heard.of(dialogue(), 1))
    assert str(Call("hotel", {"area": "north"})) + "\n" in language
    assert str(Call("train", {"destination": "oxmoor"})) + "\n" not in language


def asked_of(monkeypatch, lm, grammar, corpus):
    """The prompts that a model is asked with, as text."""
    from importlib import import_module

    tools = import_module("labkit.decoding.tools")
    asked = []

    def watched(lm, prompts, *how, **more):
        asked.append(lm.tokenizer.decode(prompts[0]))
        return generate(lm, prompts, *how, **more)

    generate = tools.generate
    monkeypatch.setattr(tools, "generate", watched)
    used = labkit.use_tool(lm, dialogue(), grammar, corpus.database, SAMPLED)
    return asked, used


@pytest.mark.slow
def test_a_template_that_takes_tools_gets_their_schemas_and_the_result_as_a_tool(monkeypatch, miniwoz, grammar):
    lm = language_model("neox")
    lm.model.config.max_position_embeddings = 4096
    lm.tokenizer.chat_template = TOOL_TEMPLATE
    (before, after), used = asked_of(monkeypatch, lm, grammar, miniwoz)
    schemas = json.loads(before.partition("TOOLS ")[2].partition("\n")[0])
    assert schemas == grammar.tools and {one["type"] for one in schemas} == {"function"}
    assert before.endswith("[user] i want a cheap hotel in the north\n[assistant] ") and "not to be read" not in before
    assert after.endswith(f"[assistant] {used.call}\n[tool] {used.result}\n[assistant] ")


@pytest.mark.slow
def test_another_template_is_told_the_functions_by_the_system(monkeypatch, miniwoz, grammar):
    lm = language_model("neox")
    lm.model.config.max_position_embeddings = 4096
    lm.tokenizer.chat_template = TOOL_TEMPLATE.partition("{% endif %}")[2]
    (before, after), used = asked_of(monkeypatch, lm, grammar, miniwoz)
    assert before.startswith(f"[system] {INSTRUCTION} {signatures(grammar.slots)}\n[user] hello\n")
    assert after.endswith(f"[user] {used.result}\n[assistant] ")


def test_a_tokenizer_that_cannot_write_a_brace_is_named(miniwoz, grammar):
    with pytest.raises(LabError, match=r"no grammar with this tokenizer: .*\{"):
        labkit.use_tool(language_model("llama"), dialogue(), grammar, miniwoz.database)


def test_a_corpus_without_a_schema_has_no_tools(miniwoz):
    with pytest.raises(LabError, match="no schema"):
        labkit.tool_grammar(replace(miniwoz, schema=[]))
    with pytest.raises(LabError, match="nobody has said anything"):
        labkit.use_tool(language_model("neox"), Dialogue("empty", (), []), labkit.tool_grammar(miniwoz), {})
