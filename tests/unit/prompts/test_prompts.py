"""labkit/prompts.py: what the model is asked to go on from is what it was trained on."""

import copy
import gzip
import json
import re

import pytest

from labkit.corpora.search import VenueDatabase
from labkit.corpora.slots import CLASS_OF
from labkit.corpora.types import BOT, USER, Corpus, Dialogue, Span, Turn
from labkit.errors import LabError
from labkit.prompts.build import examples, prompt_of_turn, prompts
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import FORMATS, current_domain, exchanges, read_state, spoken, spoken_lines
from labkit.prompts.sequences import IGNORED
from labkit.prompts.text import changed_state, delexicalise, lexicalise, parse_state, state_changes, state_text

PHRASE = "i want an italian place in the centre of town for two people on friday please how about this one ?"
WORDS = PHRASE.split()
DATABASE = VenueDatabase({"restaurant": [{"food": "italian", "area": a} for a in ("centre", "centre", "north")]})
STATE = {"restaurant": {"food": "italian", "area": "centre"}, "train": {"leaveat": "17:15"}}


def make_dialogue(n_exchanges: int = 6, tail: bool = False) -> Dialogue:
    """Turns of different lengths, each with its number in it, so that no two are alike."""
    turns = []
    for n in range(n_exchanges):
        said = " ".join([f"u{n}", *WORDS[n % 4 : 4 + 3 * n % 13]])
        reply = f"r{n} try Da Vinci , {' '.join(WORDS[: 2 + 5 * n % 11])}"
        span = Span("Restaurant-Inform", "name", "da vinci", reply.index("Da"), reply.index(" ,"))
        turns += [Turn(USER, said, STATE if n else {}), Turn(BOT, reply, STATE if n else {}, spans=(span,))]
    return Dialogue("MADE01.json", ("restaurant",), turns + [Turn(USER, "bye", STATE)] * tail)


def _neox_like():
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([f"user> {PHRASE}\nbot> try it\n"], 320, special_tokens=["<|endoftext|>"])
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|endoftext|>")


def _llama_like():
    """As Llama 2's: a BOS put before a text, ▁ before its first word, bytes for what is not in the vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    bpe = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    bpe.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module", params=[_neox_like, _llama_like])
def codec(request) -> TextCodec:
    return TextCodec(request.param())


def loss_text(example, codec) -> list[str]:
    """The lines that have a loss."""
    kept = [token for token in example.labels if token != IGNORED and token not in codec.end]
    return [line.strip() for line in codec.tokenizer.decode(kept).split("\n") if line.strip()]


def test_tokenizer_prefix_and_newline(codec):
    """Llama's BOS belongs before every sequence and GPT-NeoX has none; the final newline is one token and stops."""
    assert codec.prefix == ([1] if codec.tokenizer.bos_token else [])
    newline = codec.encode("bot> a\n")[-1]
    assert codec.tokenizer.decode([newline]) == "\n"
    assert newline in codec.stop_ids and codec.end[0] in codec.stop_ids
    assert codec.decode([*codec.encode(" how about this ?\n"), *codec.encode("user> no")]) == "how about this ?"


@pytest.mark.parametrize("format", ["turns", "dialogs"])
def test_prompt_is_a_prefix_of_training(codec, format):
    """B17 of 2023: the prompt ended in a space token that never precedes a word in training."""
    whole = examples(make_dialogue(), codec, format, max_length=9999)
    assert len(whole) == 1
    asked = prompts(make_dialogue(), codec, format, max_length=9999)
    assert [prompt.turn for prompt in asked] == list(range(6))
    for prompt, turn in zip(asked, make_dialogue().bot_turns, strict=True):
        size = len(prompt.input_ids)
        assert whole[0].input_ids[:size] == prompt.input_ids
        assert codec.tokenizer.decode(prompt.input_ids).endswith("bot>")
        assert codec.decode(whole[0].input_ids[size:]) == delexicalise(turn)
        assert whole[0].labels[size] == whole[0].input_ids[size]  # the reply's first token has a loss


def test_state_prompt_goes_on_to_the_reply(codec):
    """Prompt + state + `bot>` is again a prefix of training, so that end-to-end generation needs no other text."""
    (whole,) = examples(make_dialogue(), codec, "state", max_length=9999)
    for prompt, user in zip(prompts(make_dialogue(), codec, "state", 9999), make_dialogue().turns[::2], strict=True):
        ids = prompt.input_ids + codec.encode(f" {state_text(user.state)}\n") + codec.encode("bot>")
        assert whole.input_ids[: len(ids)] == ids
        assert whole.labels[len(prompt.input_ids)] != IGNORED  # the state is learnt
        assert set(whole.labels[len(ids) - len(codec.encode("bot>")) : len(ids)]) == {IGNORED}


@pytest.mark.parametrize("format", ["changes", "changes-db"])
def test_a_prompt_of_changes_goes_on_to_the_reply(codec, format):
    """The state before and what is written make the state of the turn, and only the new slots are learnt."""
    dialogue = make_dialogue()
    dialogue.turns[6].state = dialogue.turns[7].state = {"restaurant": {"area": "north"}}
    (whole,) = examples(dialogue, codec, format, max_length=9999, database=DATABASE)
    before = {}
    texts = []
    for prompt, user in zip(
        prompts(dialogue, codec, format, 9999, database=DATABASE), dialogue.turns[::2], strict=True
    ):
        texts.append(state_text(state_changes(before, user.state)))
        ids = prompt.input_ids + codec.encode(f" {texts[-1]}\n")
        if format == "changes-db":
            number = DATABASE.count(user.state)
            ids += codec.encode(f"db> restaurant {number['restaurant']}\n" if number else "db> \n")
        ids += codec.encode("bot>")
        assert whole.input_ids[: len(ids)] == ids
        assert read_state(format, texts[-1], before) == user.state
        before = user.state
    assert texts[:4] == ["", state_text(STATE), "", "restaurant area=north; food=none | train leaveat=none"]


def test_what_a_turn_changed_makes_the_state_again():
    states = [
        {},
        {"hotel": {"area": "north"}},
        {"hotel": {"area": "north"}, "taxi": {"leaveat": "9:00"}},
        {"taxi": {"a": "b"}},
    ]
    for before in states:
        for after in states:
            changes = state_changes(before, after)
            kept = copy.deepcopy(before)
            assert changed_state(before, parse_state(state_text(changes))) == after
            assert before == kept and (changes == {}) == (before == after)


def test_database_prompt_goes_on_to_the_reply(codec):
    """The same with the look-up between state and reply: it is read, and neither written nor learnt."""
    asked = prompts(make_dialogue(), codec, "db", 9999, database=DATABASE)
    for loss in (False, True):
        (whole,) = examples(make_dialogue(), codec, "db", max_length=9999, database=DATABASE, train_on_source=loss)
        for prompt, user in zip(asked, make_dialogue().turns[::2], strict=True):
            found = " restaurant 2" if user.state else " "  # a train is no entity of this database
            looked_up = codec.encode(f"db>{found}\n")
            before = prompt.input_ids + codec.encode(f" {state_text(user.state)}\n")
            ids = before + looked_up + codec.encode("bot>")
            assert whole.input_ids[: len(ids)] == ids
            assert whole.labels[len(prompt.input_ids)] != IGNORED
            assert set(whole.labels[len(before) : len(before) + len(looked_up)]) == {IGNORED}
            assert codec.tokenizer.decode(prompt.input_ids).endswith("state>")


@pytest.mark.parametrize("database", [None, {}])
def test_a_look_up_without_a_database_is_one_line(codec, database):
    for build in (prompts, examples, prompt_of_turn):
        with pytest.raises(LabError, match=r"db format .* no database"):
            build(make_dialogue(), codec, "db", database=database)


@pytest.mark.parametrize("recipe", ["dialogues", "turns"])
def test_end_token_once_after_the_last_turn(codec, recipe):
    """A length-capped dialogue of 2023 had no end, so a model never learnt to stop."""
    for format in FORMATS:
        found = examples(make_dialogue(), codec, format, recipe, max_length=200, database=DATABASE)
        ends = [example.input_ids.count(codec.end[0]) for example in found]
        assert ends == [0] * (len(found) - 1) + [1]
        assert found[-1].input_ids[-1] == found[-1].labels[-1] == codec.end[0]


@pytest.mark.parametrize("recipe", ["dialogues", "turns"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("step", [61, pytest.param(7, marks=[pytest.mark.slow, pytest.mark.long])])
def test_each_reply_has_its_loss_once_whatever_max_length(codec, format, recipe, step):
    """B1 and B2 of 2023: history inside the target; replies cut out of it. Holds from the longest exchange upwards."""
    dialogue = make_dialogue()
    (whole,) = examples(dialogue, codec, format, max_length=9999, database=DATABASE)
    expected, longest_exchange = loss_text(whole, codec), max(map(len, _pieces(dialogue, codec, format)))
    for max_length in range(len(codec.prefix) + longest_exchange + 1, len(whole.input_ids) + 20, step):
        found = examples(dialogue, codec, format, recipe, max_length, database=DATABASE)
        assert [line for example in found for line in loss_text(example, codec)] == expected
        assert max(len(example.input_ids) for example in found) <= max_length
        assert all(len(example.input_ids) == len(example.labels) for example in found)
        assert all(example.input_ids[: len(codec.prefix)] == codec.prefix for example in found)


def _pieces(dialogue: Dialogue, codec: TextCodec, format: str) -> list[list[int]]:
    made = exchanges(dialogue, format, database=DATABASE)
    return [[i for part in exchange for i in codec.encode(part.text)] for exchange in made]


def test_exchange_longer_than_the_room_keeps_the_end_of_its_reply(codec):
    """Tiny max_length: the sequence stays within it, and what is learnt is how the reply ends."""
    for example in examples(make_dialogue(), codec, max_length=8):
        assert len(example.input_ids) <= 8
        assert codec.encode("a\n")[-1] in example.labels[-2:]


@pytest.mark.parametrize("format", FORMATS)
def test_truncation_drops_the_oldest_exchanges_never_the_last_user_turn(codec, format):
    """B2 of 2023 kept the oldest. What stays begins with `user>`, as in training, and is a tail of the history."""
    dialogue = make_dialogue()
    full = prompts(dialogue, codec, format, max_length=9999, database=DATABASE)
    seen = set()
    for max_length in range(1, len(full[-1].input_ids) + 5, 5):
        cut = prompts(dialogue, codec, format, max_length, database=DATABASE)
        for short, long, user in zip(cut, full, dialogue.turns[::2], strict=True):
            kept = short.input_ids[len(codec.prefix) :]
            text = " ".join(codec.tokenizer.decode(kept).split())
            assert long.input_ids[-len(kept) :] == kept
            assert re.match(r"(turns> \d+ )?user> u\d", text)
            assert f"user> {user.utterance} " in text
            assert len(short.input_ids) <= max_length or text.count("user>") == 1
            seen.add(text.count("user>"))
    assert seen == set(range(1, 7))  # every length of history came up


@pytest.mark.parametrize("format", FORMATS)
def test_the_prompt_of_one_turn_is_the_one_among_all(codec, format):
    for tail in (False, True):
        dialogue = make_dialogue(6, tail=tail)
        for max_length in (1, 40, 90, 9999):
            among_all = prompts(dialogue, codec, format, max_length, database=DATABASE)
            how = {"max_length": max_length, "database": DATABASE}
            alone = [prompt_of_turn(dialogue, codec, format, turn=turn, **how) for turn in range(6)]
            assert alone == among_all
    last = prompt_of_turn(make_dialogue(2, tail=True), codec, format, database=DATABASE)
    text = " ".join(codec.tokenizer.decode(last.input_ids).split())
    assert last.turn == 2 and "user> bye" in text
    with pytest.raises(LabError, match="no such user turn"):
        prompt_of_turn(make_dialogue(2), codec, format, turn=2, database=DATABASE)


@pytest.mark.parametrize("max_length", [0, -1])
def test_no_room_is_refused(codec, max_length):
    """A max_length of -1 gave one-turn prompts, silently."""
    for build in (prompts, examples, prompt_of_turn):
        with pytest.raises(LabError, match=f"max_length={max_length}"):
            build(make_dialogue(), codec, max_length=max_length)


def test_what_a_caller_does_with_ids_changes_no_later_text(codec):
    """The list was the cache's own: an append was there for everyone from then on."""
    ids = codec.encode("i want a room\n")
    kept = list(ids)
    ids.append(5)
    assert codec.encode("i want a room\n") == kept


def test_a_session_of_many_texts_does_not_fill_the_memory(codec, monkeypatch):
    monkeypatch.setattr("labkit.prompts.codec.REMEMBERED", 10)
    for number in range(50):
        assert codec.encode(f"a {number}") == codec.encode(f"a {number}")
    assert len(codec._cache) <= 10


def test_half_an_emoji_is_one_line(codec):
    """A lone surrogate is valid in JSON and usual in scraped chats; no tokenizer reads it."""
    half = "hi \ud83d there"
    dialogue = Dialogue("A", (), [Turn(USER, half), Turn(BOT, "hello")])
    for call in (lambda: codec.encode(half), lambda: prompts(dialogue, codec), lambda: examples(dialogue, codec),
                 lambda: prompts(make_dialogue(), codec, instruction=half)):  # fmt: skip
        with pytest.raises(LabError, match=r"half a character.*ud83d"):
            call()


def test_a_pad_token_without_a_row_is_not_used(codec):
    """[PAD] was added to the tokenizer and not to the model, as in many fine-tunes of Llama 2: every batch broke."""
    before, rows = codec.pad_id, codec.tokenizer.vocab_size
    assert before < rows
    padded = TextCodec(copy.deepcopy(codec.tokenizer))
    padded.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert padded.tokenizer.pad_token_id >= rows > padded.pad_id


def test_the_words_of_a_dialogue_without_and_with_their_marks():
    turns = make_dialogue(2, tail=True).turns
    words = spoken(make_dialogue(2, tail=True))
    assert words == [turns[0].utterance, delexicalise(turns[1]), turns[2].utterance, delexicalise(turns[3])]
    lines = spoken_lines(make_dialogue(2))
    assert lines[:2] == [f"user> {words[0]}", f"bot> {words[1]}"]
    texts = [segment.text for exchange in exchanges(make_dialogue(2)) for segment in exchange]
    assert "".join(texts).split("\n")[:-1] == lines


def test_instruction_is_never_truncated(codec):
    for prompt in prompts(make_dialogue(), codec, max_length=60, instruction="You are a\nhelpful clerk."):
        assert codec.tokenizer.decode(prompt.input_ids, skip_special_tokens=True).startswith("You are a helpful clerk.")


def test_dialogue_that_ends_on_a_user_turn(codec):
    """There is no reply to learn, and the header of the `dialogs` format must not promise one."""
    assert len(prompts(make_dialogue(2, tail=True), codec)) == 2
    header = exchanges(make_dialogue(2, tail=True), "dialogs")[0][0]
    assert header.text == "turns> 4\n" and not header.target
    assert examples(Dialogue("x", (), [Turn(USER, "hi")]), codec) == []


def test_turn_out_of_order_and_unknown_names_are_errors(codec):
    wrong = Dialogue("WRONG1.json", (), [Turn(USER, "hi"), Turn(USER, "hello")])
    with pytest.raises(LabError, match=r"WRONG1\.json, turn 1"):
        exchanges(wrong)
    with pytest.raises(LabError, match="turns, state, dialogs"):
        prompts(make_dialogue(), codec, "turn")
    with pytest.raises(LabError, match="dialogues, turns"):
        examples(make_dialogue(), codec, recipe="all")


def test_delexicalise_skips_dontcare_and_names_the_domain_of_a_booking():
    text = "Any area is fine,\n Da Vinci   is booked for friday."
    spans = [("Restaurant-Inform", "area", "dontcare", "Any"), ("Restaurant-Inform", "name", "da vinci", "Da Vinci")]
    spans += [("Booking-Book", "bookday", "friday", "friday")]
    marked = tuple(Span(a, s, v, text.index(t), text.index(t) + len(t)) for a, s, v, t in spans)
    said = delexicalise(Turn(BOT, text, spans=marked), "restaurant")
    assert said == "Any area is fine, [restaurant_name] is booked for [bookday]."
    assert current_domain({"hotel": {}, "train": {}}, Turn(USER, "", acts={"Train-Inform": []})) == "train"


def test_lexicalise_fills_from_the_entity_then_the_state():
    entity = {"name": "da vinci", "leaveAt": "17:15", "trainID": "TR1"}
    reply = "[restaurant_name] at [train_leaveat] on [bookday], [train_trainid], ref [restaurant_reference]"
    filled = "da vinci at 17:15 on friday, TR1, ref [restaurant_reference]"
    assert lexicalise(reply, entity, {"bookday": "friday", "name": "other"}) == filled


def test_state_text_round_trip():
    assert state_text(STATE) == "restaurant area=centre; food=italian | train leaveat=17:15"
    assert parse_state(state_text(STATE)) == STATE
    assert parse_state("") == parse_state("nonsense | = ; restaurant food=") == {}


@pytest.fixture
def real_dialogues(multiwoz: Corpus) -> list[Dialogue]:
    return multiwoz["test"]


def test_every_real_state_survives_the_round_trip(real_dialogues):
    states = [turn.state for dialogue in real_dialogues for turn in dialogue.turns]
    assert sum(map(bool, states)) > 10_000
    assert all(parse_state(state_text(state)) == state for state in states)


def test_delexicalised_replies_equal_the_references(real_dialogues, multiwoz_dir):
    """The gold replies must score BLEU 100: their placeholders' classes and words are the references'."""
    with gzip.open(multiwoz_dir / "references_test.json.gz", "rt") as file:
        references = json.load(file)
    equal, total = 0, 0
    for dialogue in real_dialogues:
        turns = zip(dialogue.turns[::2], dialogue.bot_turns, references[dialogue.key], strict=True)
        for user, bot, reference in turns:
            equal += _classes(delexicalise(bot, current_domain(bot.state, user))) == _bare(reference)
            total += 1
    assert (equal, total) == (7372, 7372)


def _classes(text: str) -> str:
    """Placeholders as their classes; "-s" goes, as in mwzeval, before spaces and punctuation do."""
    return _bare(re.sub(r"\[([\w ]+)\]", lambda found: CLASS_OF[found[1]], text).replace("-s", ""))


def _bare(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()
