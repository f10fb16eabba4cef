"""MiniWOZ: a stand-in is only as good as its annotation, and only worth a test score where copying does not pay."""

import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
from rapidfuzz import fuzz

from labkit.corpora import load_corpus
from labkit.corpora.miniwoz import generate, write
from labkit.corpora.miniwoz.database import database, query
from labkit.corpora.miniwoz.elsewhere import WORLDS, World
from labkit.corpora.miniwoz.goals import REQUESTS, SLOTS, sample_tasks, split_of
from labkit.corpora.miniwoz.grammar import Grammar
from labkit.corpora.miniwoz.pretraining import pretraining_texts
from labkit.corpora.miniwoz.wording import Say, Voice, phrases
from labkit.corpora.slots import CLASS_OF
from labkit.errors import LabError
from labkit.metrics import constant_predictions, evaluate, gold_predictions
from labkit.prompts.text import delexicalise

SIZES = {"train": 120, "dev": 10, "test": 40}
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def raw():
    return generate(sizes=SIZES)


@pytest.fixture(scope="module")
def corpus():
    return load_corpus("miniwoz", sizes=SIZES)


def turns_of(raw):
    """(dialogue id, turn, its acts entry) of every turn."""
    for dialogue in (dialogue for split in raw["splits"].values() for dialogue in split):
        for turn in dialogue["turns"]:
            yield dialogue["dialogue_id"], turn, raw["dialog_acts"][dialogue["dialogue_id"]][turn["turn_id"]]


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@pytest.mark.slow
def test_same_bytes_in_another_process_with_another_hash_seed(raw):
    """Trap: an order that comes from a set or from hash() makes every student's corpus a different one."""
    code = "import json, hashlib; from labkit.corpora.miniwoz import generate; "
    code += f"print(hashlib.sha256(json.dumps(generate(sizes={SIZES})).encode()).hexdigest())"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(raw)


def test_the_bytes_of_a_seed_stay_what_they_were(raw):
    """Trap: a draw that moves gives everybody another corpus, and no score can be compared with an earlier one."""
    raw = copy.deepcopy(raw)
    for goal in raw["goals"].values():
        for parts in goal.values():  # what is given up came later, for the simulated user; all else is as it was
            parts.pop("fail_info", None)
            parts.pop("fail_book", None)
    assert digest(raw).startswith("253e38c32082c0a3")
    assert digest(pretraining_texts(seed=5, n=300)).startswith("59020b5861c5bbac")


def test_seed_and_size():
    """Trap: asking for more dialogues changes those that were there, or the seed changes nothing."""
    few, more = generate(sizes={"test": 3}), generate(sizes={"train": 2, "test": 5})
    assert few["splits"]["test"] == more["splits"]["test"][:3]
    assert few["splits"]["test"] != generate(seed=1, sizes={"test": 3})["splits"]["test"]


def test_spans_are_exact(raw):
    """Trap: a span that is off by one delexicalises half a name, and Inform counts a name that is still there."""
    for _, turn, acts in turns_of(raw):
        end = 0
        for act, slot, value, start, stop in sorted(acts["span_info"], key=lambda span: span[3]):
            assert start >= end and turn["utterance"][start:stop] == value, (turn["utterance"], slot)
            assert act in acts["dialog_act"]
            end = stop


def test_utterances_are_clean(raw):
    """Trap: an unfilled template, a doubled space or a lost value in the text that a model learns from."""
    wrong = re.compile(r"[{}<>|\[\]_?]{2}|[{}<>|\[\]_]|  | [,.!?]|,[.!?]|\.\.|^[ ,.]|\b[Aa] [aeio]\w")
    assert [turn["utterance"] for _, turn, _ in turns_of(raw) if wrong.search(turn["utterance"])] == []
    assert all(turn["utterance"] for _, turn, _ in turns_of(raw))


def test_what_the_user_says_is_in_the_state(raw):
    """Trap: an act without its value in the state, so that state tracking is scored against the wrong gold."""
    for _, turn, acts in turns_of(raw):
        if turn["speaker"] == "USER":
            state = {slot: values for frame in turn["frames"] for slot, values in frame["state"]["slot_values"].items()}
            for act, pairs in acts["dialog_act"].items():
                domain = act.split("-")[0].lower()
                for slot, value in (pair for pair in pairs if act.endswith("-Inform") and pair[0] != "none"):
                    assert state[f"{domain}-{slot}"] == [value]


def test_schema_and_services_cover_the_states(raw):
    """Trap: a slot that the schema does not know is dropped by whatever reads the schema."""
    known = {slot["name"]: slot["possible_values"] for service in raw["schema"] for slot in service["slots"]}
    for _, turn, _ in turns_of(raw):
        for frame in (frame for frame in turn["frames"] if turn["speaker"] == "USER"):
            for slot, (value,) in frame["state"]["slot_values"].items():
                assert value == "dontcare" or not known[slot] or value in known[slot], (slot, value)


def test_no_name_is_left_after_delexicalising(corpus):
    """Trap: a name without its span stays in the reference, and no model can be right about it."""
    names = {entity["name"] for domain in SLOTS for entity in database()[domain]}
    replies = [delexicalise(turn).lower() for dialogue in corpus["test"] for turn in dialogue.bot_turns]
    assert [reply for reply in replies if any(name in reply for name in names)] == []


def test_scores_are_where_they_should_be(corpus):
    """Trap: a corpus on which a constant reply scores well, or on which the gold replies do not, can rank nothing."""
    gold, test = gold_predictions(corpus["test"]), corpus["test"]
    replies = [turn["response"] for turns in reversed(gold.values()) for turn in turns]
    shuffled = {key: [{"response": replies.pop()} for _ in turns] for key, turns in gold.items()}
    shuffled = dict(zip(shuffled, reversed(shuffled.values()), strict=True))  # by another dialogue
    shuffled = {key: (shuffled[key] * 20)[: len(gold[key])] for key in gold}
    nowhere = {domain: {"area": "nowhere", "day": "never"} for domain in database()}
    elsewhere = {"north": "south", "south": "north", "east": "west", "west": "east", "centre": "east"}

    def wrong(state):  # the right domain in the wrong part of town, or in the wrong direction
        slots = {domain: {**slots, "area": elsewhere.get(slots.get("area"), "west")} for domain, slots in state.items()}
        train = slots.get("train", {})
        return slots | {
            "train": {"departure": train.get("destination", "?"), "destination": train.get("departure", "?")}
        }

    states = {dialogue.key: [wrong(turn.state) for turn in dialogue.bot_turns] for dialogue in test}
    misled = {
        key: [{**turn, "state": state} for turn, state in zip(turns, states[key], strict=True)]
        for key, turns in gold.items()
    }
    lost = {key: [{**turn, "state": nowhere} for turn in turns] for key, turns in gold.items()}
    scores = {
        name: evaluate(predictions, corpus, "test")
        for name, predictions in {
            "gold": gold,
            "constant": constant_predictions(test),
            "another dialogue's": shuffled,
            "no entity found": lost,
            "the wrong entity": misled,
        }.items()
    }
    assert scores["gold"].inform >= 90 and scores["gold"].success >= 90 and scores["gold"].bleu > 99
    assert scores["constant"].inform < 45 and scores["constant"].success < 10
    assert scores["another dialogue's"].success < 40 < scores["gold"].success
    assert scores["no entity found"].inform < 45 and scores["the wrong entity"].inform < 45


def test_goals_can_be_met(raw):
    """Trap: a goal that no entity meets makes Inform impossible, whatever the model says."""
    spelling = {"arrive": "arriveby", "leave": "leaveat"}
    for goal in raw["goals"].values():
        for domain, wanted in goal.items():
            constraints = {spelling.get(slot, slot): value for slot, value in wanted["informable"].items()}
            assert domain == "taxi" or query(domain, constraints), (domain, wanted)
            assert set(wanted["requestable"]) <= set(REQUESTS.values())


def test_booked_domains_have_one_entry_a_reply(raw):
    """Trap: one entry too few shifts every reference number by a turn, and REFERENCE is never counted."""
    for dialogue in (dialogue for split in raw["splits"].values() for dialogue in split):
        key = dialogue["dialogue_id"].split(".")[0].lower()
        assert len(raw["booked_domains"][key]) == len(dialogue["turns"]) // 2
        wanted = {domain for domain, task in raw["goals"][key].items() if task["booking"]}
        assert set(raw["booked_domains"][key][-1]) == wanted


def test_splits_ask_for_different_things():
    """Trap: the same constraints in train and test reward copying a training dialogue."""
    for split in ("train", "dev", "test"):
        rng = Random(split)
        tasks = [task for _ in range(40) for task in sample_tasks(rng, split)]
        assert {split_of(task) for task in tasks if task.domain != "taxi" or "departure" in task.informable} == {split}


def test_phenomena(raw):
    """Trap: a corpus in which nothing ever goes wrong teaches a model to agree."""
    acts = [act for _, _, entry in turns_of(raw) for act in entry["dialog_act"]]
    for act in ("Restaurant-NoOffer", "Hotel-NoOffer", "Booking-NoBook", "Hotel-Select", "Attraction-Recommend"):
        assert acts.count(act) > 0, act
    values = [pair for _, _, entry in turns_of(raw) for pairs in entry["dialog_act"].values() for pair in pairs]
    assert sum(value == "dontcare" for _, value in values) > 10
    assert {len(goal) for goal in raw["goals"].values()} == {1, 2, 3}
    for word in ("same", "actually|sorry|hold on|wait", "instead"):
        assert any(
            re.search(word, turn["utterance"].lower()) for _, turn, _ in turns_of(raw) if turn["speaker"] == "USER"
        )


def test_every_frequent_act_has_many_phrasings():
    """Trap: with one phrasing an act, a model learns the template and BLEU measures nothing."""
    givens = {"user": {"food": "thai", "area": "north", "type": "park", "day": "monday", "name": "x", "_what": "y"}}
    givens["bot"] = {**givens["user"], "choice": "3", "ref": "AB12", "address": "z", "phone": "1", "trainid": "HR1"}
    givens["bot"] |= {"leaveat": "10:00", "arriveby": "11:00", "price": "2 pounds", "type": "kia", "bookpeople": "2"}
    rules = {
        "user": "restaurant_open hotel_open attraction_open train_open restaurant_give train_give restaurant_book "
        "hotel_book train_book ask close dontcare another accept tail",
        "bot": "restaurant_offer hotel_offer attraction_offer train_offer booked train_offerbooked restaurant_count "
        "request_area request_food offerbook reqmore bye welcome taxi_inform",
    }
    for speaker, names in rules.items():
        for name in names.split():
            said = {phrases()[speaker].expand(name, Random(n), givens[speaker])[0] for n in range(150)}
            assert len(said) >= 8, (name, said)


def test_names_are_told_apart():
    """Trap: mwzeval matches names fuzzily (90 of 100), so two similar names are one venue to it."""
    for domain in SLOTS:
        names = sorted(entity["name"] for entity in database()[domain])
        near = [(a, b) for a in names for b in names if a < b and fuzz.partial_ratio(a, b) >= 90]
        assert near == []
    assert [len(database()[domain]) for domain in (*SLOTS, "train")] == [61, 30, 48, 1008]


def test_database_has_multiwoz_fields(multiwoz_dir):
    """Trap: a field that is spelt otherwise ("arriveby" for "arriveBy") is silently ignored by the same query code."""
    for domain in (*SLOTS, "train"):
        real = json.loads((multiwoz_dir / "db" / f"{domain}_db.json").read_text())
        missing = set(database()[domain][0]) - {field for entity in real for field in entity}
        assert missing == set(), (domain, missing)


@pytest.mark.slow
def test_written_folder_reads_back_the_same(tmp_path, corpus):
    """Trap: the folder that students open and the corpus in memory drift apart."""
    folder = load_corpus(write(tmp_path / "mini", sizes=SIZES))
    assert folder["test"] == corpus["test"] and folder.goals == corpus.goals and folder.booked == corpus.booked


def test_pretraining_knows_neither_domains_nor_placeholders():
    """Trap: a base model that has seen the task scores zero-shot, and fine-tuning seems to add nothing."""
    texts = pretraining_texts(seed=3, n=400)
    assert texts[:5] == pretraining_texts(seed=3, n=5) and len(set(texts)) > 390
    dialogues = [text for text in texts if text.startswith("user>")]
    lab = r"\b(restaurants?|hotels?|guesthouses?|attractions?|trains?|taxis?|museums?)\b|[\[\]{}|]"
    assert len(dialogues) > 200 and [text for text in dialogues if re.search(lab, text.lower())] == []
    assert [text for text in texts if re.search("[{}<«»|]", text.replace("<|endoftext|>", ""))] == []
    assert {name for text in texts for name in re.findall(r"\[([\w ]+)\]", text)} & set(CLASS_OF) == set()
    for lines in (text.splitlines() for text in dialogues):
        assert [line.split(" ")[0] for line in lines] == ["user>", "bot>"] * (len(lines) // 2)


def test_other_worlds_have_nothing_of_the_city_and_hang_together():
    """Trap: a venue or a word of MiniWOZ slips through the translation; a name changes between two turns."""
    names = {entity["name"] for domain in ("restaurant", "hotel", "attraction") for entity in database()[domain]}
    known = "|".join(
        [*map(re.escape, names), "halderby", "restaurants?", "hotels?", "guest ?houses?", "trains?", "taxis?"]
    )
    offered = 0

    def made_up(numbers, rule):
        return f"Zorb{next(numbers)}"

    for seed in range(120):
        text, again = (World(Random(seed), partial(made_up, count())).dialogue() for _ in range(2))
        assert not (found := re.search(rf"\b({known})\b", text.lower())), (seed, found)
        assert text == again
        offered += any(text.lower().count(name) > 1 for name in re.findall(r"zorb\d+", text.lower()))
    assert offered > 60
    assert {"restaurant", "hotel", "attraction", "train", "taxi"} == set(WORLDS["services"])


def test_grammar():
    """Trap: a value that moves when the text around it is tidied."""
    rules = {
        "ask": ["(hello |)i want a [area|place in the {area}] [!area|place] [area|,] (x {b}|{food}) (.|.)"],
        "bad": ["(open"],
    }
    text, spans = Grammar(rules).expand("ask", Random(1), {"food": "italian", "area": "east"})
    assert text in ("i want a place in the east, italian.", "hello i want a place in the east, italian.")
    assert [text[span.start : span.end] for span in spans] == ["east", "italian"]
    assert Grammar({"a": ["a {food} place"]}).expand("a", Random(1), {"food": "italian"})[0] == "an italian place"
    for rule, message in (("bad", "unclosed bracket"), ("none", "no phrases")):
        with pytest.raises(LabError, match=message):
            Grammar(rules).expand(rule, Random(1))


def test_a_corpus_prints_as_one_line(corpus):
    """Trap: a cell that ends in `corpus` prints nine megabytes and freezes the browser."""
    assert "stand-in" in repr(corpus) and f"test {len(corpus['test'])}" in repr(corpus) and len(repr(corpus)) < 100


def test_an_unknown_split_is_one_line():
    """Trap: constraints are divided among the splits, and the search for those of another split never ended."""
    with pytest.raises(LabError, match="no such split: validation"):
        generate(sizes={"validation": 1})


@pytest.mark.parametrize("size", [-1, 1.5, "3", True, None])
def test_a_size_that_cannot_be_is_one_line(size):
    with pytest.raises(LabError, match=r"cannot have so many dialogues: .* for 'test' → give a whole number"):
        generate(sizes={"test": size})


def test_two_conversations_that_take_turns_do_not_mix():
    """Trap: speakers shared one grammar, so a new conversation made the others forget what they had called things."""
    rule = "x"
    first, second = (Voice("user", Random(seed), lower=0) for seed in (1, 2))
    for voice in (first, second):
        voice.grammar.rules = {"x": ["{word}"], "word": [f"word{number}" for number in range(99)]}
    said = {voice.turn([Say("", rule)]).text: voice for voice in (first, second)}
    Voice("user", Random(3), lower=0)
    assert len(said) == 2
    for text, voice in said.items():
        assert voice.turn([Say("", rule)]).text == text
