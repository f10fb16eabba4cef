"""Learning from the bot's own conversations: what is learnt from, and that the loss does what the paper says."""

import math
import signal
from dataclasses import replace

import pytest
import torch
from tiny_training import TINY, tiny_lm

import labkit
from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.errors import Interrupted, LabError
from labkit.interaction import ConstantPolicy, EagerPolicy, RulePolicy, compare_conversations, converse, try_replies
from labkit.interaction.progress import ASKED_AGAIN, EARLY_OFFER, FAULTS
from labkit.models.likelihood import log_probabilities, target_loss
from labkit.prompts import IGNORED, prompt_of_turn
from labkit.prompts.preferences import Preference, preference_examples
from labkit.training.data import Collator
from labkit.training.preferences import dpo_loss, pair_likelihoods

STATE = {"hotel": {"area": "north"}}


def context(name="talk", n=2, state=None):
    turns = []
    for number in range(n):
        turns += [Turn(USER, f"question {number}", state or {}), Turn(BOT, f"answer {number}", state or {})]
    return Dialogue(name, (), turns[:-1])


PAIRS = [Preference(context(f"talk {i}"), "what area ?", "how about [name] ?") for i in range(4)]
SOME = replace(TINY, max_steps=6, learning_rate=1e-2, eval_steps=0)


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_papers():
    chosen, rejected = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -4.0])
    before, other = torch.tensor([-4.0, -4.0]), torch.tensor([-4.5, -4.0])
    margins = [0.5 * (1 - 0.5), 0.5 * (-1 - 0)]
    by_hand = sum(math.log(1 + math.exp(-margin)) for margin in margins) / 2
    assert float(dpo_loss(chosen, rejected, before, other, 0.5)) == pytest.approx(by_hand)


def test_the_log_probability_of_a_row_is_the_loss_of_training_whatever_stands_beside_it():
    lm = tiny_lm()
    texts = ["user> a\nbot> b\n", "user> a longer one\nbot> and its reply\n", "user> c\nbot> d\n"]
    rows = []
    for text in texts:
        ids = lm.codec.encode(text)
        rows.append({"input_ids": ids, "labels": [IGNORED] * 5 + ids[5:]})
    collate = Collator(lm.codec.pad_id)
    with torch.inference_mode():
        together = log_probabilities(lm.model, **collate(rows))
        alone = [-float(target_loss(lm.model, **collate([row]))) for row in rows]
    assert together.tolist() == pytest.approx(alone, rel=1e-4)


# --- what is compared ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["turns", "state", "changes"])
def test_both_replies_follow_the_prompt_that_the_model_is_asked_with(format):
    """Trap: a pair whose prompt is cut elsewhere, or not as in use, teaches about the history and not the reply."""
    codec = tiny_lm().codec
    pair = Preference(context("long", n=9, state=STATE), "what area ?", "how about [name] , which is nice ?")
    for room in (1024, 200):
        ((chosen, rejected),) = preference_examples([pair], codec, format, room)
        n_before = chosen.labels.count(IGNORED)
        assert n_before == rejected.labels.count(IGNORED)
        assert chosen.input_ids[:n_before] == rejected.input_ids[:n_before]
        assert codec.decode(chosen.input_ids[n_before:]) == pair.chosen
        assert chosen.input_ids[-1:] == codec.encode("\n") and chosen.labels[n_before:] == chosen.input_ids[n_before:]
        assert max(len(chosen.input_ids), len(rejected.input_ids)) <= room
    asked = prompt_of_turn(pair.context, codec, format).input_ids
    assert preference_examples([pair], codec, format)[0].chosen.input_ids[: len(asked)] == asked


def test_pairs_that_cannot_be_are_one_clear_line(tmp_path):
    lm = tiny_lm()
    answered = replace(context(), turns=context(n=2).turns[:2])
    cases = {
        "ends? with a user turn": [Preference(answered, "a", "b")],
        "prefers a reply to itself": [Preference(context(), "a", "a")],
        "nothing to prefer": [],
    }
    for what, pairs in cases.items():
        with pytest.raises(LabError, match=what):
            labkit.prefer(lm, pairs, SOME, tmp_path / "out")
    for beta in (0, -1, math.nan, True):
        with pytest.raises(LabError, match="beta cannot be"):
            labkit.prefer(lm, PAIRS, SOME, tmp_path / "out", beta=beta)
    assert not (tmp_path / "out").exists()


# --- the training -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_preferences_are_learnt_from_the_loss_of_a_coin_on(tmp_path):
    lm = tiny_lm()
    before = pair_likelihoods(lm, PAIRS)
    result = labkit.prefer(lm, PAIRS, SOME, tmp_path)
    losses = [row["loss"] for row in result.history]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)  # nothing is learnt yet: model and reference are the same
    assert losses[-1] < 0.2
    assert pair_likelihoods(lm, PAIRS) == before  # the handle is as it was
    for old, new in zip(before, pair_likelihoods(labkit.load_adapter(lm, tmp_path), PAIRS), strict=True):
        assert new.chosen - new.rejected > old.chosen - old.rejected + 10
    assert labkit.prefer(lm, PAIRS, SOME, tmp_path).history == result.history  # at once
    with pytest.raises(LabError, match=r"another configuration.*beta=0\.5"):
        labkit.prefer(lm, PAIRS, SOME, tmp_path, beta=0.5)
    with pytest.raises(LabError, match="another configuration: merged"):
        labkit.prefer(replace(lm, merged="another bot of this name"), PAIRS, SOME, tmp_path)


@pytest.mark.slow
def test_an_interrupted_preference_run_goes_on_to_the_same_weights(tmp_path):
    lm = tiny_lm()
    whole = labkit.prefer(lm, PAIRS, SOME, tmp_path / "whole")

    def stop(history):
        if history[-1]["step"] == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="at step 4 of 6"):
        labkit.prefer(lm, PAIRS, SOME, tmp_path / "stopped", watch=stop)
    again = labkit.prefer(lm, PAIRS, SOME, tmp_path / "stopped")
    assert again.history == whole.history
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_loss_of_ones_own_is_asked_and_a_wrong_one_is_named(tmp_path):
    lm = tiny_lm()
    asked = []

    def hinge(chosen, rejected, chosen_reference, rejected_reference, beta):
        asked.append((len(chosen), float(chosen_reference[0]), beta))
        return torch.relu(1 - beta * (chosen - rejected)).mean()

    labkit.prefer(lm, PAIRS, replace(SOME, max_steps=1), tmp_path / "hinge", loss=hinge, beta=0.3)
    assert asked == [(2, pytest.approx(pair_likelihoods(lm, PAIRS)[0].chosen, rel=1e-4), 0.3)]
    with pytest.raises(LabError, match="no single number with a gradient"):
        labkit.prefer(lm, PAIRS, SOME, tmp_path / "each", loss=lambda chosen, *_: chosen)


# --- lessons ----------------------------------------------------------------------------------------------------------


class Hasty:
    """A good bot whose other tries offer at once."""

    states = "user"

    def __init__(self, corpus):
        self.good = RulePolicy(corpus)
        self.eager = EagerPolicy()

    def reply(self, talks):
        policies = [self.eager if "/try" in talk.key else self.good for talk in talks]
        return [policy.reply([talk])[0] for policy, talk in zip(policies, talks, strict=True)]


@pytest.fixture(scope="module")
def lessons(miniwoz):
    return try_replies(Hasty(miniwoz), miniwoz, dialogues=20, tries=2)


def test_replies_that_are_only_tried_change_no_conversation(miniwoz, lessons):
    alone = try_replies(RulePolicy(miniwoz), miniwoz, dialogues=20, tries=1)
    assert [(one.users, one.replies) for one in lessons.conversations] == [
        (one.users, one.replies) for one in alone.conversations
    ]
    assert [one.events for one in lessons.conversations] == [one.events for one in alone.conversations]


def test_the_best_of_the_tries_is_given_and_makes_a_better_bot(miniwoz):
    """What expert iteration learns from: with the first reply given, only what went well by luck can be learnt."""

    class Careless(Hasty):
        """It offers at once; a good reply is only among its other tries."""

        def reply(self, talks):
            policies = [self.good if "/try" in talk.key else self.eager for talk in talks]
            return [policy.reply([talk])[0] for policy, talk in zip(policies, talks, strict=True)]

    n_strict = {}
    for give_best in (False, True):
        found = try_replies(Careless(miniwoz), miniwoz, dialogues=10, skip=5, tries=2, give_best=give_best)
        n_strict[give_best] = sum(one.strict_success for one in found.conversations)
        assert len(found.conversations) == 10
    assert n_strict[True] == 10 > n_strict[False] + 3
    with pytest.raises(LabError, match="skip cannot be -1"):
        try_replies(Careless(miniwoz), miniwoz, skip=-1)


def test_what_is_preferred_to_an_early_offer_asks_first(lessons):
    pairs = lessons.preferences()
    assert len(pairs) >= 3 and {pair.why for pair in pairs} == {EARLY_OFFER}
    for pair in pairs:
        assert "[" in pair.rejected and "[" not in pair.chosen and pair.chosen.endswith("?")
        assert pair.context.turns[-1].speaker == USER
    assert len(lessons.preferences(FAULTS)) > len(pairs)


def test_questions_can_lose_too(miniwoz):
    """Symptom: taught by pairs in which a question always wins, the 8m asked and never offered again."""

    class Forgetful(Hasty):
        """Its other tries ask for the area, whatever was said."""

        def reply(self, talks):
            asks = ConstantPolicy("what area of town would you like?")
            policies = [asks if "/try" in talk.key else self.good for talk in talks]
            return [policy.reply([talk])[0] for policy, talk in zip(policies, talks, strict=True)]

    pairs = try_replies(Forgetful(miniwoz), miniwoz, dialogues=20, tries=2).preferences([ASKED_AGAIN])
    assert pairs and all(pair.rejected.startswith("what area") and pair.why == ASKED_AGAIN for pair in pairs)


def test_a_bot_that_makes_no_faults_teaches_no_preference(miniwoz):
    with pytest.raises(LabError, match="no two replies of which one is better"):
        try_replies(RulePolicy(miniwoz), miniwoz, dialogues=3, tries=2).preferences()


def test_only_successes_are_trained_on(miniwoz, lessons):
    own = lessons.successes()
    assert list(own) == ["train"] and len(own["train"]) == sum(one.strict_success for one in lessons.conversations)
    with pytest.raises(LabError, match="no success to learn from"):
        try_replies(EagerPolicy(), miniwoz, dialogues=1, tries=1).successes()


def test_two_bots_are_compared_goal_by_goal(miniwoz):
    good, hasty = (converse(bot, miniwoz, dialogues=20) for bot in (RulePolicy(miniwoz), EagerPolicy()))
    strict = compare_conversations(hasty, good).differences["strict"]
    wins = [
        b.strict_success and not a.strict_success for a, b in zip(hasty.conversations, good.conversations, strict=True)
    ]
    assert strict.only_b == sum(wins) > 5 and strict.only_a == 0 and strict.interval[0] > 0 and not strict.is_noise
    other = converse(RulePolicy(miniwoz), miniwoz, split="dev", dialogues=3)
    with pytest.raises(LabError, match="no goal in common"):
        compare_conversations(good, other)
