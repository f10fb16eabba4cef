"""The corpora reader: raw MultiWOZ 2.2 JSON from a folder, from memory and from a (loopback) code host."""

import copy
import gc
import gzip
import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import mutations
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.corpora import download, load_corpus, multiwoz
from labkit.corpora.multiwoz import parse_dialogue
from labkit.corpora.types import BOT, USER, Span, Turn, dialogue_key
from labkit.errors import LabError
from labkit.failures import hidden
from labkit.lab import choose_corpus
from labkit.machine import retry

USER_TEXT, BOT_TEXT = "Any italian place, leaving at 17:15?", "Da Vinci in the west."
RAW = {
    "dialogue_id": "SNG01.json",
    "services": ["restaurant"],
    "turns": [
        {
            "turn_id": "0",
            "speaker": "USER",
            "utterance": USER_TEXT,
            "frames": [
                {
                    "service": "restaurant",
                    "state": {
                        "slot_values": {"restaurant-food": ["italian", "italy"], "restaurant-pricerange": ["dontcare"]}
                    },
                    "slots": [{"slot": "restaurant-food", "value": "italian", "start": 4, "exclusive_end": 11}],
                },
                {
                    "service": "train",
                    "state": {"slot_values": {"train-leaveAt": ["17:15"], "train-day": []}},
                    # swapped, as the Hub's script had them; and a value copied from another turn, without a span
                    "slots": [
                        {"slot": "train-leaveat", "value": "17:15", "start": 35, "exclusive_end": 30},
                        {"slot": "train-day", "value": "friday", "copy_from": "restaurant-bookday"},
                    ],
                },
            ],
        },
        {"turn_id": "1", "speaker": "SYSTEM", "utterance": BOT_TEXT, "frames": []},
    ],
}
ACTS = {
    "1": {
        "dialog_act": {"Restaurant-Inform": [["name", "da vinci"], ["area", "west"]]},
        "span_info": [
            ["Restaurant-Inform", "area", "west", 20, 16],
            ["Restaurant-Inform", "area", "the west", 12, 20],
            ["Restaurant-Inform", "name", "da vinci", 0, 8],
            ["Restaurant-Inform", "food", "dontcare", 0, 0],
        ],
    }
}


def raw(dialogue_id: str = "SNG01.json") -> dict:
    return copy.deepcopy(RAW) | {"dialogue_id": dialogue_id}


def write(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        json.dump(value, file)


def files() -> dict:
    """A small corpus in the layout of the original repository."""
    return {
        "train/dialogues_001.json": [raw("A1.json")],
        "train/dialogues_002.json": [raw("A2.json"), raw("A3.json")],
        "test/dialogues_001.json": [raw("SNG01.json")],
        "dialog_acts.json": {"SNG01.json": ACTS},
        "goals.json": {"SNG01.json": {"restaurant": {"informable": {}, "requestable": ["PHONE"], "booking": []}}},
        "booked_domains.json": {"sng01": [[]]},
        "db/restaurant_db.json": [{"name": "da vinci"}],
        "schema.json": [{"service_name": "restaurant"}],
    }


@pytest.fixture
def folder(tmp_path):
    for place, value in files().items():
        write(tmp_path / "corpus" / place, value)
    return tmp_path / "corpus"


# --- one dialogue -----------------------------------------------------------------------------------------------------


def test_state_is_the_first_value_and_bot_turns_repeat_it():
    user, bot = parse_dialogue(RAW, ACTS).turns
    assert (user.speaker, bot.speaker) == (USER, BOT)
    assert user.state == {"restaurant": {"food": "italian", "pricerange": "dontcare"}, "train": {"leaveat": "17:15"}}
    assert bot.state == user.state
    assert bot.acts == {"Restaurant-Inform": [("name", "da vinci"), ("area", "west")]} and user.acts == {}


def test_spans_are_sorted_unswapped_and_do_not_overlap():
    """The Hub's script swapped start and end; overlapping spans would delexicalise a piece of text twice."""
    user, bot = parse_dialogue(RAW, ACTS).turns
    assert bot.spans == (
        Span("Restaurant-Inform", "name", "da vinci", 0, 8),
        Span("Restaurant-Inform", "area", "the west", 12, 20),
    )
    assert user.spans == ()  # dialog_acts has no entry for this turn, so it has no acts


def test_without_dialog_acts_the_spans_are_the_frames():
    user, bot = parse_dialogue(RAW).turns
    assert [(s.domain, s.slot, USER_TEXT[s.start : s.end]) for s in user.spans] == [
        ("restaurant", "food", "italian"),
        ("train", "leaveat", "17:15"),
    ]
    assert bot.spans == () and user.acts == {}


def test_dialogue_may_end_on_a_user_turn():
    odd = raw()
    odd["turns"].append(odd["turns"][0] | {"turn_id": "2"})
    assert len(parse_dialogue(odd).bot_turns) == 1


def _without(*path):
    def change(dialogue, acts):
        *way, last = path
        for key in way:
            dialogue = dialogue[key]
        del dialogue[last]

    return change


def _with(value, *path):
    def change(dialogue, acts):
        *way, last = path
        for key in way:
            dialogue = dialogue[key]
        dialogue[last] = value

    return change


def _acts(value, field):
    return lambda dialogue, acts: acts["1"].update({field: value})


WRONG = {
    "no dialogue_id": (_without("dialogue_id"), ["dialogue number 0", "'dialogue_id' is missing"]),
    "no utterance": (_without("turns", 1, "utterance"), ["turn 1", "'utterance' is missing"]),
    "no turn_id": (_without("turns", 0, "turn_id"), ["turn 0", "'turn_id' is missing"]),
    "no frames": (_without("turns", 0, "frames"), ["turn 0", "'frames' is missing"]),
    "no speaker": (_without("turns", 1, "speaker"), ["turn 1", "'speaker' is missing"]),
    "no services": (_without("services"), ["'services' is missing"]),
    "no turns": (_without("turns"), ["'turns' is missing"]),
    "no slot_values": (_without("turns", 0, "frames", 0, "state", "slot_values"), ["turn 0", "'slot_values' is"]),
    "speaker": (_with("WIZARD", "turns", 1, "speaker"), ["turn 1", "'speaker' is 'WIZARD'"]),
    "utterance": (_with(7, "turns", 1, "utterance"), ["turn 1", "'utterance' is of type int, not str"]),
    "turn": (_with("hi", "turns", 0), ["turn 0", "type str, not dict"]),
    "turns": (_with({}, "turns"), ["'turns' is of type dict, not list"]),
    "frame": (_with("x", "turns", 0, "frames", 0), ["turn 0", "a frame is of type str"]),
    "state value": (
        _with("italian", "turns", 0, "frames", 0, "state", "slot_values", "restaurant-food"),
        ["turn 0", "'restaurant-food' in the field 'slot_values' is of type str"],
    ),
    "span outside": (_acts([["A-B", "name", "x", 3, 99]], "span_info"), ["turn 1", "'name' is 3–99", "21 characters"]),
    "span before": (_acts([["A-B", "name", "x", -1, 2]], "span_info"), ["turn 1", "'name' is -1–2"]),
    "span short": (_acts([["A-B", "name", 3, 4]], "span_info"), ["turn 1", "'span_info'"]),
    "span text": (_acts([["A-B", "name", "x", "3", "4"]], "span_info"), ["turn 1", "'span_info'"]),
    "span list": (_acts(None, "span_info"), ["turn 1", "'span_info' is of type NoneType"]),
    "act pair": (_acts({"A-B": ["name"]}, "dialog_act"), ["turn 1", "'dialog_act' holds 'name'"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named_with_its_file_dialogue_and_turn(folder, case):
    change, expected = WRONG[case]
    dialogue, acts = raw(), copy.deepcopy(ACTS)
    change(dialogue, acts)
    write(folder / "test/dialogues_001.json", [dialogue])
    write(folder / "dialog_acts.json", {"SNG01.json": acts})
    with pytest.raises(LabError) as caught:
        load_corpus(folder, splits=["test"])
    for words in ["dialogues_001.json", *expected, "→", *["dialogue SNG01.json"] * (case != "no dialogue_id")]:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_span_of_the_frames_outside_the_utterance_is_an_error():
    wrong = raw()
    wrong["turns"][0]["frames"][0]["slots"][0]["exclusive_end"] = 400
    with pytest.raises(LabError, match=r"SNG01\.json, turn 0.*'food' is 4–400"):
        parse_dialogue(wrong)


# --- folders ----------------------------------------------------------------------------------------------------------


def test_layout_of_the_original_repository(folder):
    corpus = load_corpus(str(folder))
    assert list(corpus) == ["train", "test"] and not corpus.stand_in
    assert [dialogue.key for dialogue in corpus["train"]] == ["a1", "a2", "a3"]
    assert corpus["test"][0].turns[1].acts
    assert corpus.goals["sng01"]["restaurant"]["requestable"] == ["PHONE"]  # by Dialogue.key, however it was spelt
    assert corpus.booked == {"sng01": [[]]} and corpus.database == {"restaurant": [{"name": "da vinci"}]}
    assert corpus.schema and corpus.folder == folder and corpus.name == "corpus"
    assert str(folder.parent) not in corpus.source  # goes on the results board: no path of this machine


def test_one_gzipped_file_a_split_without_goals(tmp_path):
    write(tmp_path / "dev.json.gz", [raw()])
    write(tmp_path / "dialog_acts.json.gz", {"SNG01.json": ACTS})
    corpus = load_corpus(tmp_path)
    assert list(corpus) == ["dev"] and len(corpus["validation"][0].turns[1].spans) == 2
    assert corpus.goals == corpus.booked == corpus.database == {}


def test_goals_without_a_database_cannot_be_scored(folder):
    (folder / "db/restaurant_db.json").unlink()
    assert load_corpus(folder).goals == {}


def test_a_split_is_read_only_when_it_is_used(folder):
    """Reading train takes the longest; nobody who wants the test split should wait for it, or trip over its errors."""
    (folder / "train/dialogues_002.json").write_text("[{", encoding="utf-8")
    assert len(load_corpus(folder)["test"]) == 1
    assert list(load_corpus(folder, splits=["test"])) == ["test"]
    assert "train" in load_corpus(folder).splits
    with pytest.raises(LabError, match=r"dialogues_002\.json"):
        load_corpus(folder)["train"]


def test_split_that_is_not_there(folder):
    with pytest.raises(LabError, match=r"no split 'dev'.*train, test"):
        load_corpus(folder, splits=["validation"])


@pytest.mark.parametrize("twice", ["SNG01.json", "sng01"])
def test_duplicate_dialogue_ids_are_an_error_every_time(folder, twice):
    """Goals and predictions are kept by id: a second dialogue of the same id would silently replace the first."""
    write(folder / "train/dialogues_002.json", [raw(twice)])
    corpus = load_corpus(folder)
    assert corpus["test"] is corpus["test"]
    for _ in range(2):
        with pytest.raises(LabError, match=rf"{twice}.*the same id is also in .*test"):
            corpus["train"]
    write(folder / "train/dialogues_002.json", [raw("A2.json")])
    assert len(corpus["train"]) == 2  # mended while the notebook is open


@pytest.mark.parametrize("first", ["train", "test"])
def test_which_of_two_splits_is_refused_does_not_depend_on_which_is_read_first(folder, first):
    write(folder / "train/dialogues_002.json", [raw("SNG01.json")])
    corpus = load_corpus(folder)
    for split in (first, "test", "train", "test"):
        if split == "test":
            assert len(corpus[split]) == 1
        else:
            with pytest.raises(LabError, match=r"train.*SNG01\.json.*the same id is also in .*test"):
                corpus[split]


def test_an_id_keeps_its_dots(folder):
    """Trap: all from the first dot on was cut, so "conv.2024.001" and "conv.2024.002" were one dialogue."""
    write(folder / "test/dialogues_001.json", [raw("conv.2024.001"), raw("conv.2024.002"), raw("Conv.2024.003.json")])
    keys = [dialogue.key for dialogue in load_corpus(folder)["test"]]
    assert keys == ["conv.2024.001", "conv.2024.002", "conv.2024.003"]
    assert [dialogue_key(key) for key in [*keys, "a.json.json"]] == [*keys, "a"]  # a key's key is the key


@pytest.mark.parametrize("file", ["goals.json", "booked_domains.json"])
def test_two_ids_of_one_key_are_an_error_in_every_file(folder, file):
    """Trap: the second goal silently replaces the first."""
    (value,) = files()[file].values()
    write(folder / file, {"SNG01.json": value, "sng01": value})
    with pytest.raises(LabError, match=rf"{file}.*'sng01' is there twice"):
        load_corpus(folder)


def test_garbage_collection_stays_off_for_who_had_it_off():
    gc.disable()
    try:
        with multiwoz.gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
    with multiwoz.gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


GOAL = {"informable": {"food": "thai"}, "requestable": ["PHONE"], "booking": []}
WRONG_TABLES = {
    "goal is null": ("goals.json", {"A": None}, "dialogue a: the goal is of type NoneType"),
    "goal of a domain": ("goals.json", {"A": {"hotel": []}}, "dialogue a, domain hotel: .*type list"),
    "no informable": ("goals.json", {"A": {"hotel": {}}}, "domain hotel: the field 'informable' is missing"),
    "informable value": (
        "goals.json",
        {"A": {"x": GOAL | {"informable": {"area": 7}}}},
        "domain x: 'area' in .*type int",
    ),
    "requestable": ("goals.json", {"A": {"x": GOAL | {"requestable": [None]}}}, "'requestable' is of type NoneType"),
    "booking": ("goals.json", {"A": {"x": GOAL | {"booking": 3}}}, "'booking' is of type int"),
    "booked": ("booked_domains.json", {"A": [["hotel"], None]}, "dialogue a, bot turn 1: what was booked is of type"),
    "booked domain": ("booked_domains.json", {"A": [[7]]}, "dialogue a, bot turn 0: .*type int"),
    "too few booked": (
        "booked_domains.json",
        {"SNG01.json": []},
        r"SNG01\.json: booked_domains has 0 entries for its 1",
    ),
    "schema": ("schema.json", [None], "service 0: .*type NoneType"),
    "slot of the schema": (
        "schema.json",
        [{"service_name": "x", "slots": [{}]}],
        "service 0, slot 0: .*'name' is missing",
    ),
    "database": ("db/hotel_db.json", {}, r"hotel_db\.json: the content is of type dict"),
    "row": ("db/hotel_db.json", [{}, "x"], "row 1: the row is of type str"),
    "cell": ("db/hotel_db.json", [{"name": None}], "row 0: the column 'name' is of type NoneType"),
    "train's price": ("db/train_db.json", [{"price": [1]}], "row 0: the column 'price' is of type list"),
    "acts": (
        "dialog_acts.json",
        {"SNG01.json": None},
        r"dialogue SNG01\.json: its dialog_acts entry is of type NoneType",
    ),
    "acts of a turn": ("dialog_acts.json", {"SNG01.json": {"0": []}}, "turn 0: its dialog_acts entry is of type list"),
    "act": (
        "dialog_acts.json",
        {"SNG01.json": {"0": {"dialog_act": {"A-B": {}}}}},
        "turn 0, in .*'dialog_act' holds {}",
    ),
}


@pytest.mark.parametrize("case", WRONG_TABLES)
def test_what_scoring_needs_is_checked_where_it_is_read(folder, case):
    """Trap: a goal or a row of another shape loads, and ends in a traceback in the middle of an evaluation."""
    file, content, says = WRONG_TABLES[case]
    write(folder / file, content)
    with pytest.raises(LabError, match=rf"{says}.*→ mend the corpus file") as refusal:
        load_corpus(folder)["test"]
    assert "\n" not in str(refusal.value)


HALF = "\ud83d"


def _turn_acts(content):
    return content["SNG01.json"]["1"]


WITH_HALF = {
    "utterance": (
        "test/dialogues_001.json",
        lambda content: content[0]["turns"][0].update(utterance=f"hi {HALF}"),
        ["turn 0", "'utterance'", "at character 3"],
    ),
    "id": ("test/dialogues_001.json", lambda content: content[0].update(dialogue_id=HALF), ["'dialogue_id'"]),
    "service": ("test/dialogues_001.json", lambda content: content[0].update(services=[HALF]), ["'services'"]),
    "act": (
        "dialog_acts.json",
        lambda content: _turn_acts(content)["dialog_act"].update({HALF: []}),
        ["turn 1", "'dialog_act'"],
    ),
    "span": (
        "dialog_acts.json",
        lambda content: _turn_acts(content)["span_info"].append(["A-B", "name", HALF, 0, 1]),
        ["turn 1", "'span_info'"],
    ),
    "goal": (
        "goals.json",
        lambda content: content["SNG01.json"]["restaurant"]["informable"].update(food=HALF),
        ["dialogue sng01, domain restaurant", "'informable'"],
    ),
    "domain": ("goals.json", lambda content: content["SNG01.json"].update({HALF: GOAL}), ["dialogue sng01"]),
    "booked": ("booked_domains.json", lambda content: content.update(sng01=[[HALF]]), ["sng01, bot turn 0"]),
    "schema": ("schema.json", lambda content: content[0].update(description=HALF), ["service 0"]),
    "database": (
        "db/restaurant_db.json",
        lambda content: content[0].update(location=[HALF]),
        ["row 0", "'location'"],
    ),
}


@pytest.mark.parametrize("case", WITH_HALF)
def test_half_an_emoji_is_named_where_it_stands(folder, case):
    """A lone surrogate is valid as an escape in JSON and usual in scraped chats; no tokenizer and no file takes it."""
    file, change, where = WITH_HALF[case]
    content = copy.deepcopy(files()[file])
    change(content)
    write(folder / file, content)
    with pytest.raises(LabError, match=r"half an emoji \(the lone surrogate .ud83d\)") as refusal:
        load_corpus(folder)["test"]
    for words in (Path(file).stem, *where):
        assert words in str(refusal.value)
    assert str(refusal.value).isprintable()


def test_a_whole_emoji_is_a_character(folder):
    content = copy.deepcopy(files()["test/dialogues_001.json"])
    content[0]["turns"][1]["utterance"] += " \U0001f600"
    write(folder / "test/dialogues_001.json", content)
    assert load_corpus(folder)["test"][0].turns[1].utterance.endswith("\U0001f600")


def test_numbers_as_values_are_read_as_text_and_true_is_no_number():
    dialogue = raw()
    dialogue["turns"][0]["frames"][0]["state"]["slot_values"]["restaurant-stars"] = [4]
    assert parse_dialogue(dialogue).turns[0].state["restaurant"]["stars"] == "4"
    dialogue["turns"][0]["frames"][0]["state"]["slot_values"]["restaurant-stars"] = [{"a": 1}]
    with pytest.raises(LabError, match=r"'restaurant-stars' in the field 'slot_values' is of type dict"):
        parse_dialogue(dialogue)
    dialogue = raw()
    dialogue["turns"][0]["frames"][0]["slots"][0]["start"] = True
    with pytest.raises(LabError, match="'start' is of type bool, not int"):
        parse_dialogue(dialogue)


@pytest.mark.parametrize("speaker", ["SYSTEM", "", "<b>user</b>", None])
def test_a_turn_of_an_unknown_speaker_is_refused(speaker):
    with pytest.raises(LabError, match=r"the speaker is .*→ write 'user' or 'bot'"):
        Turn(speaker, "hi")


@given(st.sampled_from(mutations.mutations(mutations.corpus_files())))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_corpus_ends_in_a_result_or_one_clear_line(tmp_path, mutation):
    """Any field of any file: gone, null, of another type, nested, huge. All 7,403: python tests/support/mutations.py"""
    outcome, text = mutations.outcome(mutation, mutations.corpus_files(), tmp_path)
    assert outcome in ("a result", "one clear line"), (str(mutation), text)


def test_a_folder_of_other_json_files_is_no_corpus(tmp_path, monkeypatch):
    """Trap: LAB_CORPUS with any JSON file in it was READY, and failed at the first cell that used it."""
    write(tmp_path / "settings.json", {"a": 1})
    monkeypatch.setenv("LAB_CORPUS", str(tmp_path))
    _, reason, problems = choose_corpus()
    assert problems and "no dialogues in it" in reason
    with pytest.raises(LabError, match="no dialogues in the folder"):
        load_corpus(tmp_path)
    write(tmp_path / "test.json", [])
    assert not choose_corpus()[2]


def test_a_corpus_in_the_home_folder_and_a_name_that_is_no_path(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_corpus("~/corpus")["test"]
    for name in ("x" * 5000, "a\0b", "~nobody-of-this-name/x"):
        with pytest.raises(LabError, match="unknown corpus") as refusal:
            load_corpus(name)
        assert len(str(refusal.value)) < 300


def test_passwords_in_addresses_are_hidden():
    shown = {
        "https://me:sec@ret@host/a": "https://(hidden)@host/a",
        "(http://token@host:80/x?y=1)": "(http://(hidden)@host:80/x?y=1)",
        "http://me:pa/ss@host": "http://(hidden)@host",
        "git+https://host/some/where@c0ffee": "git+https://host/some/where@c0ffee",
        "https://host:8080/a b@c": "https://host:8080/a b@c",
        "some/where@c0ffee, me@host.org": "some/where@c0ffee, me@host.org",
    }
    assert {text: hidden(text) for text in shown} == shown


def test_folder_without_dialogues_and_unknown_names(tmp_path):
    with pytest.raises(LabError, match=r"no dialogues in the folder .*looked for .*test.*\.json"):
        load_corpus(tmp_path)
    with pytest.raises(LabError, match=r"unknown corpus 'multiwoz21'.*miniwoz, multiwoz22, or an existing folder"):
        load_corpus("multiwoz21")


def test_a_file_of_another_kind(folder):
    write(folder / "test/dialogues_001.json", {"SNG01.json": raw()})
    with pytest.raises(LabError, match=r"dialogues_001\.json: the content is of type dict, not list"):
        load_corpus(folder)["test"]
    write(folder / "goals.json", [])
    with pytest.raises(LabError, match=r"goals\.json: the content is of type list"):
        load_corpus(folder)


def test_miniwoz_goes_through_the_same_reader():
    corpus = load_corpus("miniwoz", seed=7, sizes={"train": 3, "dev": 2, "test": 2}, splits=["train", "test"])
    assert corpus.stand_in and corpus.source == "generated, seed 7" and corpus.name == "miniwoz"
    assert {split: len(corpus[split]) for split in corpus} == {"train": 3, "test": 2}
    assert all(dialogue.key in corpus.goals for dialogue in corpus["test"]) and corpus.database


def test_real_dialogues(multiwoz_dir):
    corpus = load_corpus(multiwoz_dir)
    assert (len(corpus["test"]), len(corpus["dev"])) == (1000, 999)
    assert sum(len(dialogue.bot_turns) for dialogue in corpus["test"]) == 7372
    assert len(corpus.goals) == 1999 and set(corpus.database) >= {"restaurant", "hotel", "attraction", "train", "taxi"}
    for dialogue in corpus["test"]:
        assert len(corpus.booked[dialogue.key]) == len(dialogue.bot_turns)
        for turn in dialogue.turns:
            assert all(span.end <= len(turn.utterance) for span in turn.spans)


# --- download ---------------------------------------------------------------------------------------------------------


class Host:
    """A loopback code host. `faults[path]` are what goes wrong in the next answers for that path, one each."""

    def __init__(self, contents: dict[str, bytes]):
        self.contents, self.faults, self.asked = contents, {}, []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                host.answer(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("/c0ffee/")[1]
        body, asked = self.contents[path], request.headers.get("Range")
        fault = self.faults.get(path, []).pop(0) if self.faults.get(path) else None
        self.asked.append((path, asked))
        if isinstance(fault, int):
            return request.send_error(fault)
        if fault == "silent":
            return time.sleep(0.3)
        if fault == "circle":
            request.send_response(302)
            request.send_header("Location", request.path)
            return request.end_headers()
        body = b"<html>please log in</html>" if fault == "portal" else body
        body = b"x" + body[1:] if fault == "corrupt" else body
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:10] if fault == "cut" else body)
        request.close_connection = True


@pytest.fixture
def host(monkeypatch):
    contents = {f"data/{place}": json.dumps(value).encode() for place, value in files().items()}
    blobs = {path: hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest() for path, body in contents.items()}
    served = Host(contents)
    served.pins = {
        path.removeprefix("data/"): {"repository": "some/where", "commit": "c0ffee", "path": path, "blob": blob}
        for path, blob in blobs.items()
    }
    monkeypatch.setattr("labkit.corpora.pins.pins", lambda: served.pins)
    monkeypatch.setattr(download, "pins", lambda: served.pins)
    monkeypatch.setattr(retry, "BACKOFF", 0.001)
    monkeypatch.setenv("LAB_MULTIWOZ_URL", served.url)
    yield served
    served.server.shutdown()
    served.server.server_close()


TRAIN = "data/train/dialogues_002.json"


def test_download_whole_then_cached(host, tmp_path):
    assert download.cached_multiwoz22(tmp_path) is None
    corpus = load_corpus("multiwoz22", cache=tmp_path)
    assert {split: len(corpus[split]) for split in corpus} == {"train": 3, "test": 1}
    assert corpus.source == "some/where@c0ffee" and not corpus.stand_in and corpus.name == "multiwoz22"
    assert (tmp_path / "multiwoz22/COMPLETE").is_file() and not list(tmp_path.rglob("*.part"))
    count = len(host.asked)
    assert count == len(files())
    assert download.cached_multiwoz22(tmp_path) == tmp_path / "multiwoz22"
    assert load_corpus("multiwoz22", cache=tmp_path)["test"] and len(host.asked) == count


def test_other_pins_or_a_lost_file_are_not_taken_for_complete(host, tmp_path):
    folder = download.fetch_multiwoz22(tmp_path)
    (folder / "goals.json").unlink()
    assert download.cached_multiwoz22(tmp_path) is None
    host.asked.clear()
    download.fetch_multiwoz22(tmp_path)
    assert host.asked == [("data/goals.json", None)]  # what is there and right is not fetched again
    for pin in host.pins.values():
        pin["commit"] = "c0ffee0"
    (folder / "COMPLETE").write_text("some/where@0ld")
    assert download.cached_multiwoz22(tmp_path) is None


def test_corrupted_file_is_an_error_and_not_kept(host, tmp_path):
    host.faults[TRAIN] = ["corrupt"]
    with pytest.raises(LabError, match=r"dialogues_002\.json.*not what was pinned.*→"):
        download.fetch_multiwoz22(tmp_path)
    folder = tmp_path / "multiwoz22"
    assert not list(folder.rglob("*002*")) and not (folder / "COMPLETE").exists()
    assert download.fetch_multiwoz22(tmp_path) == folder  # and the next try mends it


def test_cut_connection_is_tried_again_from_the_beginning(host, tmp_path):
    """The files are small: no half of one is kept, so none can be stale, too long, or a link to somewhere else."""
    host.faults[TRAIN] = ["cut", 503]
    download.fetch_multiwoz22(tmp_path)
    assert [asked for path, asked in host.asked if path == TRAIN] == [None, None, None]


def test_a_run_that_was_cut_keeps_the_files_that_came(host, tmp_path):
    host.faults[TRAIN] = ["cut", *[503] * 9]
    with pytest.raises(LabError, match="503"):
        download.fetch_multiwoz22(tmp_path)
    came = {path for path, _ in host.asked} - {TRAIN}
    assert not list((tmp_path / "multiwoz22/train").glob("*002*"))
    host.asked.clear()
    host.faults.clear()
    download.fetch_multiwoz22(tmp_path)
    assert host.asked[0] == (TRAIN, None) and not came & {path for path, _ in host.asked}


def test_links_and_leftovers_in_the_cache_are_not_written_through(host, tmp_path):
    """A *.part of an earlier version, or the file itself, may be a link to something that is dear to somebody."""
    dear = tmp_path / "dear.txt"
    dear.write_text("mine")
    train = tmp_path / "multiwoz22/train"
    train.mkdir(parents=True)
    (train / "dialogues_002.json.part").symlink_to(dear)
    (train / "dialogues_002.json").symlink_to(dear)
    folder = download.fetch_multiwoz22(tmp_path)
    assert dear.read_text() == "mine" and load_corpus(folder)["train"]


@pytest.mark.parametrize("size", [None, 20])
def test_a_download_larger_than_pinned_is_refused(host, tmp_path, monkeypatch, size):
    """A host that sends without end must fill neither the memory nor the disk."""
    if size is None:
        monkeypatch.setattr(download, "LARGEST", 20)
    else:
        host.pins["schema.json"]["size"] = size
    with pytest.raises(LabError, match=r"larger than the 20 bytes.*→"):
        download.fetch_multiwoz22(tmp_path)
    assert not (tmp_path / "multiwoz22/COMPLETE").exists()


def test_busy_server_is_tried_again_and_a_missing_file_is_not(host, tmp_path):
    host.faults[TRAIN] = [500, 429]
    download.fetch_multiwoz22(tmp_path)
    assert [path for path, _ in host.asked].count(TRAIN) == 3
    host.asked.clear()
    host.faults["data/schema.json"] = [404]
    (tmp_path / "multiwoz22/schema.json").unlink()
    with pytest.raises(LabError, match=r"schema\.json: the server answers 404"):
        download.fetch_multiwoz22(tmp_path)
    assert len(host.asked) == 1


def test_no_network_says_what_to_do(host, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_MULTIWOZ_URL", "http://127.0.0.1:9")  # the discard port: closed
    with pytest.raises(LabError, match=r"no connection.*→.*LAB_CORPUS.*miniwoz.*folder"):
        load_corpus("multiwoz22", cache=tmp_path)
    assert not (tmp_path / "multiwoz22/COMPLETE").exists()


@pytest.mark.parametrize(
    "url, found",
    [
        ("http://[::1", "no address"),
        ("http://127.0.0.1:port", "no address"),
        ("http://127.0.0.1:99999", "no address"),
        ("ftp://127.0.0.1", "no address"),
        ("127.0.0.1", "no address"),
        ("http://", "no address"),
        ("http://me:sec/ret@127.0.0.1", "no address"),
    ],
)
def test_a_malformed_mirror_address_is_one_line_and_repeats_no_password(host, tmp_path, monkeypatch, url, found):
    monkeypatch.setenv("LAB_MULTIWOZ_URL", url)
    with pytest.raises(LabError, match=rf"LAB_MULTIWOZ_URL=.*{found}.*→") as refusal:
        load_corpus("multiwoz22", cache=tmp_path)
    assert "ret@" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_an_endless_mirror_address_is_not_repeated_whole(host, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_MULTIWOZ_URL", f"http://127.0.0.1:9/{'x' * 5000}")
    with pytest.raises(LabError, match=r"cannot download .*no connection.*→") as refusal:
        load_corpus("multiwoz22", cache=tmp_path)
    assert len(str(refusal.value)) < 1000


def test_a_password_in_the_mirror_address_is_in_no_message(host, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_MULTIWOZ_URL", host.url.replace("://", "://me:sec@ret@"))
    host.faults["data/train/dialogues_001.json"] = [401]
    with pytest.raises(LabError, match="answers 401") as refusal:
        load_corpus("multiwoz22", cache=tmp_path)
    assert "sec" not in str(refusal.value) and "127.0.0.1" in str(refusal.value)
    assert load_corpus("multiwoz22", cache=tmp_path)["test"]  # it is still what the host is asked with


@pytest.mark.parametrize("fault, says", [("portal", "a web page came instead"), ("circle", "redirected without end")])
def test_a_log_in_page_is_named_and_not_asked_again(host, tmp_path, fault, says):
    """A hotel's or a campus' network answers every address with its own page, or sends it in a circle."""
    host.faults[TRAIN] = [fault] * 50
    with pytest.raises(LabError, match=rf"dialogues_002\.json: .*{says}.*log in.*→"):
        download.fetch_multiwoz22(tmp_path)
    assert [path for path, _ in host.asked].count(TRAIN) == (1 if fault == "portal" else 21)


@pytest.mark.parametrize(
    "scheme, says", [("socks5", "socksio"), ("socks", "Unknown scheme"), ("http", "no connection")]
)
def test_a_proxy_that_cannot_be_used_is_one_line(host, tmp_path, monkeypatch, scheme, says):
    """ALL_PROXY=socks5://… is what users of ssh -D have; without its package httpx raises ImportError."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    for name in ("HTTP_PROXY", "http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:secret@127.0.0.1:9")
    with pytest.raises(LabError, match=rf"{says}.*→") as refusal:
        load_corpus("multiwoz22", cache=tmp_path)
    assert "secret" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_silent_host_is_named_as_silent(host, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    host.faults[TRAIN] = ["silent"] * 9
    with pytest.raises(LabError, match=r"timed out: nothing came for 0\.05 s"):
        download.fetch_multiwoz22(tmp_path)


def test_retry_after_that_is_no_number_is_no_wait():
    for asked, seconds in (
        ("7", 7.0),
        ("²", 0.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("-1", 0.0),
        ("9" * 400, 60.0),
    ):
        headers = [(b"Retry-After", asked.encode("latin-1"))]
        response = httpx.Response(429, headers=headers)
        assert retry.asked_wait(response.headers.get("Retry-After")) == seconds


PIN = {"repository": "a/b", "commit": "c", "path": "d", "blob": "e"}
WRONG_PINS = {
    "list": [],
    "nothing": {},
    "text": "pins",
    "null": None,
    "pin is text": {"test.json": "blob"},
    "pin is null": {"test.json": None},
    "no blob": {"test.json": dict.fromkeys(("repository", "commit", "path"), "x")},
    "blob is a number": {"test.json": PIN | {"blob": 7}},
    "size is text": {"test.json": PIN | {"size": "7"}},
    **{
        place: {place: PIN}
        for place in ("../x", "a/../../x", "/x", "C:\\x", "C:x", "..\\x", "", ".", "a//b", "a/", "a\0b")
    },
}


@pytest.mark.parametrize("case", WRONG_PINS)
def test_pins_of_a_wrong_shape_or_out_of_the_folder_are_refused(tmp_path, monkeypatch, case):
    """A mirror's pins wrote outside the cache: `../../.bashrc` was replaced."""
    write(tmp_path / "pins.json", WRONG_PINS[case])
    monkeypatch.setenv("LAB_MULTIWOZ_PINS", str(tmp_path / "pins.json"))
    with pytest.raises(LabError, match=r"LAB_MULTIWOZ_PINS, file .*pins\.json.*→ write"):
        download.fetch_multiwoz22(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == [tmp_path / "pins.json"]


def test_folder_that_cannot_be_written(host, tmp_path):
    (tmp_path / "multiwoz22").write_text("a file where the folder should be")
    with pytest.raises(LabError, match=r"cannot write .*LAB_CACHE"):
        download.fetch_multiwoz22(tmp_path)


def test_pins_make_a_whole_corpus_folder():
    """Every place that the reader looks at is pinned; the database is mwzeval's, the one that scores refer to."""
    pins = download.pins()
    assert [sum(place.startswith(split) for place in pins) for split in multiwoz.SPLITS] == [17, 2, 2]
    assert {"dialog_acts.json", "schema.json", "goals.json", "booked_domains.json", "LICENSE"} <= set(pins)
    assert pins["db/attraction_db.json"]["repository"] == "Tomiinek/MultiWOZ_Evaluation"
    assert not [place for place in pins if place.startswith(("mwzeval", "data", "references"))]


def test_real_files_have_the_pinned_blob_ids(multiwoz_dir):
    for place in ("schema.json", *(f"db/{path.name}" for path in (multiwoz_dir / "db").iterdir())):
        assert download.git_blob_id(multiwoz_dir / place) == download.pins()[place]["blob"]
