"""People and models that say which reply is better: nothing tells them who wrote it, and nothing is counted twice."""

import json
import re

import pytest

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.errors import LabError
from labkit.interaction.blind import (
    answers_of,
    blind_test,
    changed_verdicts,
    correlation,
    read_answers,
    score_differences,
    verdicts,
    write_answers,
)
from labkit.interaction.judge import judge
from labkit.metrics.agreement import cohens_kappa, rank_correlation
from labkit.models.likelihood import log_probability_of
from labkit.notebook.blind_form import form_html, widget, write_page


def dialogue(name, n=6):
    turns = []
    for number in range(n):
        turns += [Turn(USER, f"question {number} of {name}"), Turn(BOT, f"gold {number}")]
    return Dialogue(name, (), turns)


DIALOGUES = [dialogue(f"d{i}") for i in range(5)]
A = {one.key: [{"response": f"reply {turn}"} for turn in range(6)] for one in DIALOGUES}
B = {one.key: [{"response": f"reply {turn}" + " , friend" * (turn % 3)} for turn in range(6)] for one in DIALOGUES}
TEST = blind_test(DIALOGUES, A, B, names=("secretgreedy", "secretbeams"), n=12)


def always(test, system):
    """The choices of somebody who finds one system better wherever it stands."""
    return {pair.id: "first" if (system == "b") == pair.b_is_first else "second" for pair in test.pairs}


# --- the test ---------------------------------------------------------------------------------------------------------


def test_each_system_stands_first_in_half_of_the_pairs():
    assert sum(pair.b_is_first for pair in TEST.pairs) == 6
    assert blind_test(DIALOGUES, A, B, n=12).pairs == TEST.pairs
    assert blind_test(DIALOGUES, A, B, n=12, seed=1).pairs != TEST.pairs


def test_equal_replies_are_no_pair_and_all_equal_ones_no_test():
    assert all(pair.a != pair.b for pair in TEST.pairs)
    assert len(blind_test(DIALOGUES, A, B, n=1000).pairs) == 5 * 4
    with pytest.raises(LabError, match="nothing to compare"):
        blind_test(DIALOGUES, A, A)


def test_a_pair_shows_the_turns_before_it_and_no_turn_after():
    for pair in TEST.pairs:
        turn = int(pair.id.split("/")[1])
        assert pair.history[-1].startswith(f"user> question {turn} ") and len(pair.history) == min(5, 2 * turn + 1)
        assert pair.reference == f"gold {turn}"


def test_who_finds_one_system_better_says_so_in_either_order(tmp_path):
    for number, test in enumerate((TEST, TEST.swap())):
        write_answers(test, always(test, "b"), tmp_path / f"{number}.json", annotator="me")
        for reader in (TEST, TEST.swap()):
            found = read_answers(reader, tmp_path / f"{number}.json")
            assert set(found.verdicts.values()) == {"b"} and found.first.passed == 6
    one, other = (read_answers(TEST, tmp_path / f"{number}.json") for number in (0, 1))
    assert changed_verdicts(one, other).passed == 0


def test_who_always_takes_the_first_reply_changes_every_verdict():
    first = dict.fromkeys(always(TEST, "a"), "first")
    one, other = answers_of(TEST, first, "me"), answers_of(TEST.swap(), first, "me")
    assert changed_verdicts(one, other).passed == 12 and one.first.percent == 100
    assert verdicts(TEST, one, other).agreement.kappa == pytest.approx(-1)


def test_nothing_that_an_annotator_sees_names_the_systems(tmp_path):
    page = write_page(TEST, tmp_path / "page.html").read_text(encoding="utf-8")
    kept = write_answers(TEST, always(TEST, "a"), tmp_path / "a.json", annotator="me").read_text(encoding="utf-8")
    for text in (page, form_html(TEST), kept):
        assert "secret" not in text and "b_is_first" not in text
    assert "gold 1" not in form_html(blind_test(DIALOGUES[:1], {"d0": A["d0"][:2]}, {"d0": B["d0"][:2]}))


def test_answers_of_another_test_or_person_are_refused(tmp_path):
    file = write_answers(TEST, {}, tmp_path / "a.json", annotator="me")
    write_answers(TEST, always(TEST, "a"), file, annotator="me")  # going on
    for test, who in ((TEST, "you"), (TEST.swap(), "me"), (blind_test(DIALOGUES, A, B, seed=3), "me")):
        with pytest.raises(LabError, match="holds other answers"):
            write_answers(test, {}, file, annotator=who)
    with pytest.raises(LabError, match="answers another test"):
        read_answers(blind_test(DIALOGUES, A, B, seed=3), file)
    with pytest.raises(LabError, match="no such answer"):
        answers_of(TEST, {TEST.pairs[0].id: "third"}, "me")
    for wrong in ("[]", "{}", '{"test": 1, "swapped": true, "annotator": "x", "choices": {}}'):
        file.write_text(wrong)
        with pytest.raises(LabError, match="holds no answers"):
            read_answers(TEST, file)


# --- the form ---------------------------------------------------------------------------------------------------------


def test_every_choice_in_the_form_is_saved_at_once_and_shown_again(tmp_path):
    import ipywidgets

    def buttons(box):
        return [one for one in box.children if isinstance(one, ipywidgets.RadioButtons)]

    file = tmp_path / "me.json"
    chosen = buttons(widget(TEST, file, "me"))
    assert [one.value for one in chosen] == [None] * 12
    chosen[3].value = "second"
    assert read_answers(TEST, file).choices == {TEST.pairs[3].id: "second"}
    assert [one.value for one in buttons(widget(TEST, file, "me"))][3] == "second"
    with pytest.raises(LabError, match="holds other answers"):
        widget(TEST.swap(), file, "me")


def test_the_page_without_a_kernel_hands_over_what_can_be_read(tmp_path):
    """What its script puts into the file is the record in it, with the choices by the name of each field."""
    html = form_html(TEST.swap())
    told = json.loads(re.search(r"const told = (\{.*\});", html)[1])
    fields = re.findall(r'<fieldset data-pair="([^"]+)">', html)
    assert fields == [pair.id for pair in TEST.pairs]
    assert set(re.findall(r'type="radio" name="[^"]+" value="(\w+)"', html)) == {"first", "second", "same"}
    file = tmp_path / "sent.json"
    file.write_text(json.dumps({**told, "annotator": "you", "choices": dict.fromkeys(fields, "first")}))
    assert read_answers(TEST, file) == answers_of(TEST.swap(), dict.fromkeys(fields, "first"), "you")


def test_a_reply_cannot_leave_its_place_on_the_page():
    evil = {"d0": [{"response": "</script><script>alert(1)</script>"}]}
    html = form_html(blind_test(DIALOGUES[:1], evil, B))
    assert "<script>alert" not in html


# --- agreement --------------------------------------------------------------------------------------------------------


def test_kappa_is_cohens():
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = cohens_kappa(first, second)
    assert (found.observed, found.expected) == (0.7, 0.5) and found.kappa == pytest.approx(0.4)
    assert found.interval[0] < 0.4 < found.interval[1]


def test_kappa_of_two_who_agree_by_chance_alone_is_zero_and_of_one_label_none():
    assert cohens_kappa(["a", "a", "b", "b"], ["a", "b", "a", "b"]).kappa == 0
    only = cohens_kappa(["a"] * 5, ["a"] * 5)
    assert only.kappa is None and only.interval is None and "–" in str(only)
    assert cohens_kappa(["a"] * 5, ["b"] * 5).kappa == 0
    for first, second in (([], []), (["a"], ["a", "b"])):
        with pytest.raises(LabError):
            cohens_kappa(first, second)


def test_verdicts_and_scores_are_correlated_by_pair():
    longer = score_differences(TEST, lambda pair, reply: len(reply))
    assert all(difference > 0 for difference in longer.values())
    choices = {}
    for number, pair in enumerate(TEST.pairs):
        choices[pair.id] = always(TEST, "b")[pair.id] if number % 2 else "same"
    worth = {pair.id: float(number % 2) for number, pair in enumerate(TEST.pairs)}
    mine = answers_of(TEST, choices, "me")
    assert correlation(mine, worth) == pytest.approx(1)
    assert correlation(mine, {name: -value for name, value in worth.items()}) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [5, 5, 5]) is None
    with pytest.raises(LabError):
        rank_correlation([1], [2])


# --- a model as judge -------------------------------------------------------------------------------------------------


def test_a_judge_by_likelihood_has_no_position_bias(tiny_lm):
    judged = judge(tiny_lm, TEST, by="likelihood")
    assert judged.changed.passed == 0 and judged.first.percent == 50
    pair = TEST.pairs[0]
    before = [token for line in pair.history for token in tiny_lm.codec.encode(f"{line}\n")]
    before += tiny_lm.codec.encode("bot>")
    by_hand = []
    for reply in (pair.a, pair.b):
        ids = tiny_lm.codec.encode(f" {reply}\n")
        by_hand.append(log_probability_of(tiny_lm, before, ids) / len(ids))
    assert judged.margins[pair.id] == pytest.approx(by_hand[1] - by_hand[0], abs=1e-5)


def test_a_judge_that_does_not_read_is_found_out(tiny_lm):
    """Symptom: a random model has a favourite letter, so every verdict changes with the positions."""
    judged = judge(tiny_lm, TEST)
    assert judged.changed.percent > 50 and "stand-in" in str(judged)
    assert verdicts(TEST, judged.answers).wins(judged.answers)[0] <= 12 - judged.changed.passed
    with pytest.raises(LabError, match="no judge works by"):
        judge(tiny_lm, TEST, by="feeling")


def test_a_conversation_that_a_judge_cannot_read_is_one_clear_line(tiny_lm):
    long = [dialogue("long")]
    long[0].turns[0] = Turn(USER, "word " * 600)
    with pytest.raises(LabError, match="reads up to 512 tokens"):
        judge(tiny_lm, blind_test(long, {"long": [{"response": "a"}]}, {"long": [{"response": "b"}]}))
