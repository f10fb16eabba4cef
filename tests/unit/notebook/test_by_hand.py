"""A student's own function in labkit's place: on real dialogues it agrees with labkit's, and it can end a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
from proofs_1 import inform_by, inform_by_loop, own_bleu
from proofs_3 import bootstrapped
from proofs_5 import joint, stop_when_stalled
from tiny_training import TINY, plain_dialogue, tiny_lm
from transformers import TrainerCallback

from labkit.corpora.types import Corpus
from labkit.errors import LabError
from labkit.metrics import compare, constant_predictions, evaluate, gold_predictions
from labkit.metrics.bleu import bleu_score
from labkit.metrics.by_hand import Finder, bleu_texts, domain_cases
from labkit.notebook.exercises import RIGHT, WRONG, every_exercise, judge, progress
from labkit.notebook.exercises.catalogue import retired_exercises
from labkit.training.run import finetune


@pytest.fixture(scope="module")
def some(miniwoz):
    """40 dialogues, and a system that answers half of the turns as the corpus does and the others with another's."""
    dialogues = miniwoz["dev"][:40]
    said = gold_predictions(dialogues)
    turns = [turn for replies in said.values() for turn in replies]
    shuffled = iter(np.random.default_rng(0).permutation(len(turns)))
    mixed = {}
    for n, (key, replies) in enumerate(said.items()):
        other = [turns[next(shuffled)] for _ in replies]
        mixed[key] = [
            {"response": pair[(at + n) % 2]["response"]} for at, pair in enumerate(zip(replies, other, strict=True))
        ]
    return dialogues, mixed


@pytest.mark.parametrize("domain", ["hotel", "restaurant", "attraction"])
def test_inform_by_hand_is_labkits_on_real_dialogues(miniwoz, some, domain):
    dialogues, mixed = some
    find, seen = Finder(miniwoz, "dev", domain), set()
    for predictions in (gold_predictions(dialogues), constant_predictions(dialogues), mixed):
        cases = domain_cases(predictions, miniwoz, "dev", domain)
        assert [inform_by_loop(case.turns, case.goal, find) for case in cases] == [case.inform for case in cases]
        seen |= {case.inform for case in cases}
    assert seen == {True, False}


def test_inform_by_hand_is_labkits_where_the_states_come_too_late(miniwoz):
    """Offers are then too wide. A rule less is another score, so that the agreement means something."""
    late = {}
    for dialogue in miniwoz["dev"]:
        states = [{}, {}, *(turn.state for turn in dialogue.bot_turns)]
        replies = gold_predictions([dialogue])[dialogue.key]
        late[dialogue.key] = [{**reply, "state": state} for reply, state in zip(replies, states, strict=False)]
    find = Finder(miniwoz, "dev", "restaurant")
    cases = domain_cases(late, miniwoz, "dev", "restaurant")
    theirs = [case.inform for case in cases]
    assert {*theirs} == {True, False}
    assert [inform_by_loop(case.turns, case.goal, find) for case in cases] == theirs
    for variant in (inform_by(meets=lambda offered, wanted: bool(offered & wanted)), inform_by(of_nothing=True)):
        assert [variant(case.turns, case.goal, find) for case in cases] != theirs


def test_bleu_by_hand_is_labkits_on_real_replies(miniwoz, some):
    _, mixed = some
    scores = evaluate(mixed, miniwoz, "dev")
    assert 20 < scores.bleu < 90 and own_bleu(*bleu_texts(mixed, miniwoz, "dev")) == pytest.approx(scores.bleu)


def test_a_paired_bootstrap_by_hand_gives_labkits_p_up_to_the_resamples(miniwoz, some):
    dialogues, mixed = some
    one = {key: [dict(turn) for turn in turns] for key, turns in mixed.items()}
    for key in [*one][:6]:  # a little better, in a few dialogues
        one[key] = gold_predictions([d for d in dialogues if d.key == key])[key]
    a, b = (evaluate(predictions, miniwoz, "dev") for predictions in (mixed, one))
    draws = np.random.default_rng(1).integers(0, len(a.tallies), size=(500, len(a.tallies)))
    p = bootstrapped(a.tallies[:, :10], b.tallies[:, :10], lambda rows: bleu_score(rows.sum(axis=0)), draws)
    theirs = compare(a, b).differences["bleu"].p
    assert 0.001 < theirs < 0.5 and p == pytest.approx(theirs, abs=0.05)


def test_joint_accuracy_by_hand_is_labkits_on_the_annotation(miniwoz, some):
    dialogues, _ = some
    states = [user.state for dialogue in dialogues for user in dialogue.turns[::2]]
    assert "dontcare" in str(states)
    assert joint(states, states) == 100 > joint(states, states, ours=dict)


class Stopper(TrainerCallback):
    """Hands each validation to a student's function."""

    def __init__(self, patience):
        self.patience = patience

    def on_evaluate(self, args, state, control, **_):
        return stop_when_stalled(state, control, self.patience)


@pytest.mark.slow
def test_a_callback_of_ones_own_ends_the_run_and_belongs_to_it(tmp_path):
    dialogues = [plain_dialogue(f"{n}.json", 3) for n in range(6)]
    corpus = Corpus("tiny", {"train": dialogues, "dev": dialogues[:2]}, "test")
    wild = replace(TINY, learning_rate=5.0, warmup_steps=0, eval_steps=1, max_steps=6)
    result = finetune(tiny_lm(), corpus, wild, tmp_path / "stopped", callbacks=[Stopper(1)])
    losses = [row["eval_loss"] for row in result.history if "eval_loss" in row]
    assert len(losses) < 6 and min(losses) == losses[-2] < losses[-1]  # it ended at the first that was no better
    assert finetune(tiny_lm(), corpus, wild, tmp_path / "stopped", callbacks=[Stopper(1)]) == result
    with pytest.raises(LabError, match="another configuration"):
        finetune(tiny_lm(), corpus, wild, tmp_path / "stopped")


def test_an_exercise_that_left_the_notebooks_is_still_checked_and_no_longer_counted(tmp_path, monkeypatch):
    """A notebook, or a progress file, of an earlier version."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    assert set(retired_exercises()) == {"2.6", "3.3"} and not set(retired_exercises()) & set(every_exercise())
    assert judge("2.6", ({"a": 1.0, "b": 2.0}, "a")).outcome == RIGHT
    assert judge("2.6", ({"a": 1.0, "b": 2.0}, "b")).outcome == WRONG
    old = {"2.6": {"tries": 2, "outcome": "right"}, "0.1": {"tries": 1, "outcome": "right"}, "9.9": {"tries": 1}}
    (tmp_path / "progress.json").write_text(json.dumps(old))
    told = progress().text
    assert told.startswith(f"1 of {len(every_exercise())} exercises solved. Next: 0.2") and "Grapes: 1 of" in told
    assert json.loads((tmp_path / "progress.json").read_text()) == old


def test_every_exercise_has_a_level_and_the_bonus_tier_is_worth_grapes_of_its_own():
    tasks = every_exercise().values()
    assert {task.level for task in tasks} == {1, 2, 3}
    bonus = sum(task.level for task in tasks if task.bonus)
    assert bonus > 0 and f"{bonus} in the bonus tier" in progress().text
