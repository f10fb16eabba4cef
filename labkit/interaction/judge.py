"""A model as the judge of two replies, and its position bias (Zheng et al. 2023, "Judging LLM-as-a-judge").

How a notebook calls it (`test` is a `labkit.interaction.blind.blind_test`):

    judged = judge(lm, test)                  # log p("A") against log p("B") after a question, in either order
    print(judged)                             # changed verdicts, first positions, and whether it is a stand-in
    print(verdicts(test, mine, judged.answers))

A model of a few million parameters judges nothing: what it shows is the bias. `by="likelihood"` asks instead which
reply the model finds likelier a token; that has no positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from labkit.errors import LabError
from labkit.interaction.blind import FIRST, SAME, SECOND, Answers, BlindTest, Pair, answers_of, changed_verdicts
from labkit.interaction.scores import Share
from labkit.models import LanguageModel
from labkit.models.likelihood import log_probability_of
from labkit.prompts.chat import chat_prompt

WAYS = ("verdict", "likelihood")
QUESTION = "Which reply of the bot helps the user more, A or B? Answer with A or B."
LABELS = ("A", "B")


@dataclass(frozen=True)
class Judgement:
    """What a model found, with the replies in both orders; `print` it."""

    judge: str
    stand_in: bool
    by: str
    as_shown: Answers
    swapped: Answers
    margins: Mapping[str, float]  # {id of a pair: nats by which b is ahead, the mean of both orders}

    @property
    def changed(self) -> Share:
        """Pairs whose verdict changes when the positions are swapped: the position bias."""
        return changed_verdicts(self.as_shown, self.swapped)

    @property
    def first(self) -> Share:
        """How often the first position won, in both orders together; half of them without a bias."""
        one = self.as_shown.first
        other = self.swapped.first
        return Share(one.passed + other.passed, one.n + other.n)

    @property
    def answers(self) -> Answers:
        """The verdicts that both orders agree on; the others are "same"."""
        found = {}
        for name, verdict in self.as_shown.verdicts.items():
            found[name] = verdict if self.swapped.verdicts[name] == verdict else SAME
        return Answers(self.judge, found, {})

    def __str__(self) -> str:
        named = (
            f"{self.judge}, a stand-in: what it says about the replies means nothing" if self.stand_in else self.judge
        )
        found = list(self.answers.verdicts.values())
        lines = [f"judge: {named}; by {self.by}"]
        lines.append(f"verdicts that change with the positions {self.changed}")
        lines.append(f"first position won                      {self.first}")
        counts = f"a {found.count('a')}, b {found.count('b')}, undecided {found.count(SAME)}"
        lines.append(f"the same in both orders: {counts}")
        return "\n".join(lines)


def judge(
    lm: LanguageModel, test: BlindTest, *, by: str = "verdict", chat: bool = False, question: str = QUESTION
) -> Judgement:
    """Let a model judge every pair of a blind test twice, the second time with the positions swapped.

    Args:
        by: "verdict" (it is asked for A or B) or "likelihood" (mean log-probability of a token of each reply).
        chat: ask through the tokenizer's chat template, as an instruction-tuned model was taught to be asked.

    Raises:
        LabError: another way to judge, a conversation longer than what the model reads, or no chat template.
    """
    if by not in WAYS:
        raise LabError(f"no judge works by {by!r:.40}", "", f"choose {' or '.join(WAYS)}")
    swapped = test.swap()
    leads = [_leads(lm, order, by, chat, question) for order in (test, swapped)]
    margins = {}
    for pair in test.pairs:
        lead, when_swapped = (order[pair.id] for order in leads)  # of the reply in the first position
        mean = (lead - when_swapped) / 2  # of the reply that is first in `test`
        margins[pair.id] = mean if pair.b_is_first else -mean
    return Judgement(
        judge=lm.name,
        stand_in=lm.stand_in,
        by=by,
        as_shown=_answers(test, leads[0], lm.name),
        swapped=_answers(swapped, leads[1], lm.name),
        margins=margins,
    )


def _leads(lm: LanguageModel, test: BlindTest, by: str, chat: bool, question: str) -> dict[str, float]:
    """{id of a pair: nats by which the reply in the first position is ahead}."""
    leads = {}
    for pair in test.pairs:
        if by == "verdict":
            leads[pair.id] = _first_leads(lm, pair, chat, question)
        else:
            leads[pair.id] = _first_is_likelier(lm, pair)
    return leads


def _answers(test: BlindTest, leads: Mapping[str, float], name: str) -> Answers:
    choices = {}
    for pair, lead in leads.items():
        if lead == 0:
            choices[pair] = SAME
        else:
            choices[pair] = FIRST if lead > 0 else SECOND
    return answers_of(test, choices, name)


def judge_prompt(pair: Pair, question: str = QUESTION) -> str:
    """What the model reads before its verdict."""
    first, second = pair.shown
    return "\n".join([*pair.history, "", f"Reply A: {first}", f"Reply B: {second}", "", question])


def _first_leads(lm: LanguageModel, pair: Pair, chat: bool, question: str) -> float:
    """log p("A") - log p("B") after the question, in nats."""
    text = judge_prompt(pair, question)
    if chat:
        asked = {"role": "user", "content": text}
        prompt = chat_prompt([], [asked], lm.codec, lm.context_length)
        labels = [lm.codec.encode(label) for label in LABELS]
    else:
        prompt = list(lm.codec.prefix)
        prompt += lm.codec.encode(f"{text}\n")
        prompt += lm.codec.encode("Answer:")
        labels = [lm.codec.encode(f" {label}") for label in LABELS]
    first, second = (log_probability_of(lm, prompt, label) for label in labels)
    return first - second


def _first_is_likelier(lm: LanguageModel, pair: Pair) -> float:
    """By how many nats a token the first reply is the likelier one."""
    prompt = list(lm.codec.prefix)
    for line in pair.history:
        prompt += lm.codec.encode(f"{line}\n")
    prompt += lm.codec.encode("bot>")
    means = []
    for reply in pair.shown:
        ids = lm.codec.encode(f" {reply}\n")
        means.append(log_probability_of(lm, prompt, ids) / len(ids))
    return means[0] - means[1]
