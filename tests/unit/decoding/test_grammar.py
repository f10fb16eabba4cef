"""A grammar as a filter: every state that is written is one of the corpus, whatever model, tokenizer and batch."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_models
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from labkit.corpora.types import BOT, USER, Corpus, Dialogue, Turn
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.decoding.grammar import GRAMMARS, grammar_called, state_grammar
from labkit.decoding.predict import predict
from labkit.decoding.rows import Written
from labkit.decoding.vocabulary import Vocabulary, allowed_tokens
from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.prompts.codec import TextCodec
from labkit.prompts.state_values import Heard
from labkit.prompts.text import parse_state, state_changes, state_text

SCHEMA = [
    {
        "service_name": "hotel",
        "slots": [
            {"name": "hotel-area", "is_categorical": True, "possible_values": ["north", "south"]},
            {"name": "hotel-name", "is_categorical": False, "possible_values": []},
            {"name": "hotel-phone", "is_categorical": False},
        ],
    },
    {"service_name": "train", "slots": [{"name": "train-leaveAt"}, {"name": "train-day", "possible_values": []}]},
    {"service_name": "police", "slots": [{"name": "police-phone"}]},
]
CORPUS = Corpus("small", {}, "test", schema=SCHEMA, database={"hotel": [{"name": "Acorn House", "area": "north"}]})
SAID = Heard(("i want The Gilded Swan, please.", "a train after 17:15"), {})


@pytest.mark.slow
def test_the_annotated_states_are_states_of_the_grammar(miniwoz):
    """A grammar that forbids the truth makes a good model worse; one that allows everything is none."""
    grammar = state_grammar(miniwoz)
    narrow = state_grammar(miniwoz, only_said=True)
    forbidden = 0
    turns = [(one, turn) for one in miniwoz["dev"][:40] for turn in range(len(one.turns) // 2)]
    for one, turn in turns:
        heard = Heard.of(one, turn)
        state = one.turns[2 * turn].state
        line, change = f" {state_text(state)}\n", f" {state_text(state_changes(heard.before, state))}\n"
        assert line in grammar.language(heard) and change in grammar.language(heard, changes=True)
        assert line[:-1] not in grammar.language(heard) and line + " " not in grammar.language(heard)
        forbidden += change not in narrow.language(heard, changes=True)
    print(f"only what was said: {forbidden} of {len(turns)} true changes cannot be written")
    assert forbidden <= 0.05 * len(turns)


@pytest.mark.parametrize(
    "line",
    [
        " \n",
        " hotel area=north\n",
        " hotel area=dontcare; name=acorn house\n",
        " hotel name=the gilded swan | train leaveat=17:15\n",
        " hotel name=gilded\n",
        " train day=train; leaveat=dontcare\n",
    ],
)
def test_what_the_schema_the_database_and_the_dialogue_know_is_a_state(line):
    assert line in state_grammar(CORPUS).language(SAID)
    state = parse_state(line)
    assert f" {state_text(state)}\n" == line, "what is written is what is read"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        " hotel\n",
        " hotel area=\n",
        " hotel area=west\n",
        " hotel area=the gilded swan\n",  # said, but the schema lists all areas
        " hotel name=bella tavola\n",
        " hotel name=gilded the swan\n",
        " hotel phone=dontcare\n",
        " police phone=dontcare\n",
        " hotel name=gilded; area=north\n",
        " hotel area=north; area=south\n",
        " train day=dontcare | hotel area=north\n",
        " hotel area=north;\n",
        " hotel area=north |\n",
        " hotel area=north\n\n",
    ],
)
def test_what_nobody_knows_and_what_would_not_be_read_back_is_no_state(line):
    assert line not in state_grammar(CORPUS).language(SAID)


@pytest.mark.parametrize(
    ("texts", "before", "allowed", "forbidden"),
    [
        (["the acorn house"], {}, ["hotel name=acorn house"], ["hotel name=the acorn house", "train leaveat=9:00"]),
        (["acorn house", "at 9:05"], {}, ["train leaveat=9:05", "hotel name=acorn house"], ["hotel name=at"]),
        (
            ["in the north"],
            {},
            ["hotel area=north"],
            ["hotel area=south", "hotel area=dontcare", "hotel name=dontcare"],
        ),
        (["any area"], {}, ["hotel area=south", "hotel area=dontcare"], ["hotel area=none"]),
        (["9:05", "hm"], {"train": {"leaveat": "8:00"}}, ["train leaveat=none"], ["train leaveat=9:05"]),
        (["9:05"], {"train": {"leaveat": "8:00"}}, ["train leaveat=9:05"], ["train leaveat=none"]),
    ],
)
def test_where_only_what_was_said_may_be_written_a_small_model_has_less_to_confuse(texts, before, allowed, forbidden):
    heard = Heard(tuple(texts), before)
    language = state_grammar(CORPUS, only_said=True).language(heard, changes=True)
    assert all(f" {line}\n" in language for line in allowed)
    assert not [line for line in forbidden if f" {line}\n" in language]


def test_a_slot_is_taken_back_only_where_it_has_a_value():
    grammar = state_grammar(CORPUS)
    held = Heard(("hello",), {"hotel": {"area": "north"}})
    assert " hotel area=none\n" in grammar.language(held, changes=True)
    assert " hotel area=none\n" not in grammar.language(held)
    assert " hotel name=none\n" not in grammar.language(held, changes=True)


def test_a_corpus_without_a_schema_is_one_line():
    with pytest.raises(LabError, match="no schema"):
        state_grammar(replace(CORPUS, schema=[]))


def sentencepiece_like() -> LanguageModel:
    """A Llama whose tokenizer puts a space before every text, and whose decoder drops it again."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    merges = [("a", "r"), ("e", "a"), ("ar", "ea"), ("▁", "area"), ("n", "o"), ("=", "no")]
    vocabulary = {token: number for number, token in enumerate([*tokens, *(a + b for a, b in merges)])}
    bpe = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    bpe.decoder = decoders.Sequence(parts)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    model, _ = tiny_models.build("llama", vocab_size=len(tokenizer))
    return LanguageModel("tiny", model, tokenizer, TextCodec(tokenizer), 32, "float32", "cpu", True)


@pytest.fixture(scope="module", params=["neox", "llama"])
def lm(request):
    if request.param == "llama":
        return sentencepiece_like()
    return tiny_models.language_model("neox")


def test_the_tokens_allowed_are_those_whose_text_goes_on(lm):
    """Compared with the definition, token by token: a token may end anywhere, in a value or two slots further."""
    grammar = state_grammar(CORPUS)
    tokens = Vocabulary(lm.codec)
    language = grammar.language(SAID, lm.codec)
    lead = language.lead
    for beginning in ("", lead, f"{lead}hotel a", f"{lead}hotel area=north", f"{lead}hotel name=the g"):
        place = language.place_after(beginning)
        expected = [
            token
            for token, text in enumerate(tokens.texts)
            if text and "\N{REPLACEMENT CHARACTER}" not in text and language.place_after(beginning + text) is not None
        ]
        assert allowed_tokens(language, place, tokens.trie) == expected != []


def test_a_tokenizer_that_lacks_a_letter_is_one_line():
    """It marks its bytes as special tokens, so that no equals sign can be read back."""
    lm = tiny_models.language_model("llama")
    with pytest.raises(LabError, match=r"no grammar with this tokenizer: .*="):
        state_grammar(CORPUS).filter(lm.codec, [SAID])


def asked_for(n: int) -> tuple[list[Dialogue], list[Heard]]:
    """Dialogues in each of which another name was said."""
    said = [f"i want a room in the house {number}{number}" for number in range(n)]
    dialogues = [Dialogue(f"D{i}", (), [Turn(USER, one), Turn(BOT, "ok")]) for i, one in enumerate(said)]
    return dialogues, [Heard.of(one, 0) for one in dialogues]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_each_prompt_of_a_batch_has_the_values_of_its_own_dialogue(lm, strategy):
    """An untuned model writes anything; with the grammar it writes states, the same in every batch."""
    grammar = state_grammar(CORPUS, only_said=False)
    dialogues, said = asked_for(6)
    prompts = [lm.codec.encode(f"user> {heard.texts[0]}\nstate>") for heard in said]
    settings = {"temperature": 1.5} if strategy == "sample" else {}
    config = DecodingConfig(strategy, max_new_tokens=100, **settings)
    written = generate(lm, prompts, config, filters=[grammar.filter(lm.codec, said)])
    lines = [f" {lm.codec.decode(ids)}\n" for ids in written]
    for heard, line, ids in zip(said, lines, written, strict=True):
        assert line in grammar.language(heard) or len(ids) == 100
    for number in (0, 5):
        only_filter = grammar.filter(lm.codec, said[number : number + 1])
        assert generate(lm, prompts[number : number + 1], config, filters=[only_filter]) == [written[number]]
    states = predict(lm, dialogues, config, format="state", grammar=grammar)
    for one, heard in zip(dialogues, said, strict=True):
        (reply,) = states[one.key]
        assert f" {state_text(reply['state'])}\n" in grammar.language(heard)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["state", "changes-db"])
def test_own_states_of_a_whole_dialogue_are_valid_at_every_turn(miniwoz, lm, format):
    grammar = state_grammar(miniwoz)
    some = [one for one in miniwoz["dev"] if len(one.turns) <= 6][:2]
    how = {"format": format, "grammar": grammar, "database": miniwoz.database}
    predicted = predict(lm, some, DecodingConfig("sample", max_new_tokens=2), **how)
    for one in some:
        for turn, reply in enumerate(predicted[one.key]):
            assert f" {state_text(reply['state'])}\n" in grammar.language(Heard.of(one, turn))
    alone = DecodingConfig("sample", max_new_tokens=2, batch_size=1)
    assert predict(lm, some[::-1], alone, **how) == predicted


def test_what_one_dialogue_allows_is_not_remembered_for_another(lm):
    """Both say the north, and only one of them a name: a semicolon may come after the area there."""
    grammar = state_grammar(CORPUS, only_said=True)
    texts = Vocabulary(lm.codec).texts
    area = lm.codec.encode(" hotel area=north")
    heard = [Heard((said,), {}) for said in ("in the north", "acorn house in the north", "in the north")]
    apply = grammar.filter(lm.codec, heard, changes=True)
    allowed = []
    for index in range(3):
        scores = apply(np.zeros(len(texts), np.float32), Written(index, (), area))
        allowed.append({texts[token] for token in np.flatnonzero(np.isfinite(scores))})
    assert ";" in allowed[1] and ";" not in allowed[0] | allowed[2]
    assert all("\n" in texts_of_row for texts_of_row in allowed)


HALLS = {"attraction": [{"name": "Kimchi Hall"}], "restaurant": [{"name": "Kimchi Club", "food": "danish"}]}
TRAVEL = [
    {
        "service_name": "attraction",
        "slots": [{"name": "attraction-name"}, {"name": "attraction-type", "possible_values": ["museum"]}],
    },
    {
        "service_name": "hotel",
        "slots": [
            {"name": "hotel-name"},
            {"name": "hotel-bookpeople", "possible_values": ["1", "2", "7"]},
            {"name": "hotel-bookstay", "possible_values": ["1", "2", "7"]},
            {"name": "hotel-internet", "is_categorical": True, "possible_values": ["yes", "no"]},
        ],
    },
    {
        "service_name": "restaurant",
        "slots": [
            {"name": "restaurant-name"},
            {"name": "restaurant-food"},
            {"name": "restaurant-pricerange", "is_categorical": True, "possible_values": ["cheap", "moderate"]},
        ],
    },
    {
        "service_name": "train",
        "slots": [
            {"name": "train-departure", "is_categorical": True, "possible_values": ["oxmoor", "lindholt"]},
            {"name": "train-destination", "is_categorical": True, "possible_values": ["oxmoor", "lindholt"]},
            {"name": "train-arriveBy"},
            {"name": "train-leaveAt"},
        ],
    },
    {"service_name": "taxi", "slots": [{"name": "taxi-departure"}, {"name": "taxi-destination"}]},
]
TOWN = Corpus("town", {}, "test", schema=TRAVEL, database=HALLS)


@pytest.mark.parametrize(
    ("text", "before", "allowed", "forbidden"),
    [
        ("book Kimchi Club", {}, ["restaurant name=kimchi club"], ["", "hotel internet=yes", "attraction type=museum"]),
        ("a taxi to Kimchi Club", {}, ["taxi destination=kimchi club"], ["taxi departure=kimchi club"]),
        (
            "Kimchi Club",
            {"taxi": {"destination": "kimchi hall"}},
            ["taxi departure=kimchi club"],
            ["attraction name=kimchi hall"],
        ),
        (
            "trains from Oxmoor to Lindholt",
            {},
            ["train departure=oxmoor; destination=lindholt"],
            ["train departure=oxmoor; destination=oxmoor", "train departure=lindholt; destination=oxmoor"],
        ),
        ("a danish one", {}, ["restaurant food=danish"], ["attraction type=museum | restaurant food=danish"]),
        (
            "moderate",
            {"restaurant": {"food": "danish"}},
            ["restaurant pricerange=moderate"],
            ["restaurant food=dontcare; pricerange=moderate", "restaurant food=none; pricerange=moderate"],
        ),
        ("leave by 9:05", {}, ["train leaveat=9:05", "train arriveby=9:05"], ["train arriveby=9:05; leaveat=9:05"]),
        (
            "1 person, 7 nights",
            {},
            ["hotel bookpeople=1; bookstay=7"],
            ["hotel bookpeople=1; bookstay=1", "hotel bookpeople=1"],
        ),
        ("2 people, 2 nights", {}, ["hotel bookpeople=2; bookstay=2", "hotel bookpeople=2"], ["hotel bookpeople=1"]),
        ("yes, the hotel, thanks", {}, ["", "hotel internet=yes"], ["train leaveat=9:05"]),
        ("danish, please", {"restaurant": {"food": "danish"}}, [""], ["restaurant name=kimchi club"]),
        ("kimchi club or kimchi hall", {}, ["attraction name=kimchi hall | restaurant name=kimchi club"], [""]),
        ("any price", {}, ["restaurant pricerange=dontcare", ""], []),
    ],
)
def test_what_was_said_in_a_turn_is_written_once_and_where_it_belongs(text, before, allowed, forbidden):
    """ "Kimchi Club" became a hotel or was left out, and one town was both ends of a journey."""
    language = state_grammar(TOWN, all_said=True).language(Heard((text,), before), changes=True)
    assert [line for line in allowed if f" {line}\n" not in language] == []
    assert [line for line in forbidden if f" {line}\n" in language] == []


MUCH_WAS_SAID = [
    "oxmoor, lindholt, 9:05, 10:10, 11:11, danish, moderate, cheap, museum",
    "to oxmoor to lindholt to oxmoor",
    "kimchi club kimchi hall kimchi club",
    "7 7 2 2 1 1",
    "",
]


@pytest.mark.slow
@pytest.mark.parametrize("before", [{}, {"train": {"departure": "oxmoor", "leaveat": "9:05"}, "hotel": {}}])
def test_there_is_always_a_way_on_however_much_was_said(lm, before):
    """More values than slots for them: a line without a way on would stop a whole batch. Each text is in it twice."""
    grammar = state_grammar(TOWN, all_said=True)
    texts = MUCH_WAS_SAID * 2
    heard = [Heard((text,), before) for text in texts]
    prompts = [lm.codec.encode(f"user> {text}\nstate>") for text in texts]
    config = DecodingConfig("sample", temperature=3.0, max_new_tokens=150)
    apply = grammar.filter(lm.codec, heard, changes=True)
    written = generate(lm, prompts, config, filters=[apply])
    for text, one, ids in zip(texts, heard, written, strict=True):
        line = f" {lm.codec.decode(ids)}\n"
        assert len(ids) == 150 or line in grammar.language(one, changes=True), text
    assert any(len(ids) < 150 for ids in written)


@pytest.mark.slow
def test_true_changes_can_nearly_all_be_written_where_all_that_was_said_has_to_be(miniwoz):
    """A rule that forbids the truth is no help; those of whole states are as before."""
    said, all_said = state_grammar(miniwoz, only_said=True), state_grammar(miniwoz, all_said=True)
    turns = [(one, turn) for one in miniwoz["dev"][:40] for turn in range(len(one.turns) // 2)]
    forbidden = {"said": 0, "all-said": 0}
    for one, turn in turns:
        heard = Heard.of(one, turn)
        state = one.turns[2 * turn].state
        change = f" {state_text(state_changes(heard.before, state))}\n"
        for grammar in (said, all_said):
            forbidden[grammar.name] += change not in grammar.language(heard, changes=True)
        whole = f" {state_text(state)}\n"
        assert (whole in said.language(heard)) == (whole in all_said.language(heard))
    print(f"of {len(turns)} true changes cannot be written: {forbidden}")
    assert forbidden["all-said"] <= 0.03 * len(turns)


def test_a_grammar_has_a_name_and_another_name_is_one_line(miniwoz):
    for name in GRAMMARS[1:]:
        assert grammar_called(name, miniwoz).name == name
    assert grammar_called("none", miniwoz) is None
    with pytest.raises(LabError, match="choose none, schema, said, all-said"):
        grammar_called("strict", miniwoz)
