"""A template grammar: hand-written phrasings with variation inside, and the character spans of what was filled in.

    (a|b|)       one of these alternatives, here possibly nothing
    <rule>       an expansion of another rule, a new one each time
    {slot}       a value given from outside (its span is kept), else an expansion of the rule, the same all dialogue
    [slot|a|b]   an alternative if the value is given from outside; [!slot|a|b] if it is not

An alternative with a {slot} that is neither given nor a rule is not taken.

Templates are lower case. Only `random.Random.random()` is drawn on: its values are the same in every Python version.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple, TypeVar

from labkit.errors import LabError

T = TypeVar("T")
TOKEN = re.compile(r"[()|\]]|\[!?\w+\||<\w+>|\{\w+\}|[^()|<{\[\]]+")
SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]|\bi\b")
VOWELS = ("a", "e", "i", "o")  # no "u": "a university"
PUNCTUATION = (",", ".", "?", "!", "\n")
OPENED_BY = {")": "(", "]": "["}
Values = Mapping[str, str]  # {slot or flag: value}
NOTHING: Values = {}


class Filled(NamedTuple):
    """A value in an utterance, at characters `start` up to, not including, `end`."""

    slot: str
    value: str
    start: int
    end: int


class Piece(NamedTuple):
    """A stretch of an utterance in the making; `slot` is "" where it is no value from outside."""

    text: str
    slot: str = ""


class Rule(NamedTuple):
    """<name>: the place of an expansion of a rule."""

    name: str


class Slot(NamedTuple):
    """{name}: the place of a value."""

    name: str


class Choice(NamedTuple):
    """Alternatives, each a tuple of parts; `condition`: "", a slot that must be given, or "!" and one that must not."""

    condition: str
    alternatives: list["Parts"]
    needs: list[list[str]]  # for each alternative its {slot}s

    def is_open(self, values: Values) -> bool:
        """Whether the condition holds."""
        if self.condition.startswith("!"):
            return self.condition[1:] not in values
        return not self.condition or self.condition in values


Part = str | Rule | Slot | Choice  # of a template; plain text as it is
Parts = tuple[Part, ...]


@dataclass
class _Bracket:
    """A bracket that is open while a template is parsed."""

    token: str  # "(", "[slot|" or "[!slot|"; "" for the template itself
    alternatives: list[list[Part]]  # so far; the last one is being read

    def append(self, part: Part) -> None:
        self.alternatives[-1].append(part)

    def is_closed_by(self, token: str) -> bool:
        opening = OPENED_BY.get(token)
        return opening is not None and self.token.startswith(opening)


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of the options, each as likely."""
    index = int(rng.random() * len(options))
    return options[index]


def capitalised(word: str) -> str:
    """The word with a capital, the rest as it is."""
    first, rest = word[:1], word[1:]
    return first.upper() + rest


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """The items in random order."""
    return sorted(items, key=lambda _: rng.random())


@cache
def parse(template: str) -> Parts:
    """The template as parts.

    Raises:
        LabError: a bracket is not closed, or closed by the other kind.
    """
    stack = [_Bracket(token="", alternatives=[[]])]
    for token in TOKEN.findall(template):
        inner = stack[-1]
        if token[0] in "([":
            opened = _Bracket(token=token, alternatives=[[]])
            stack.append(opened)
        elif token == "|":
            inner.alternatives.append([])
        elif inner.is_closed_by(token):
            stack.pop()
            choice = _choice(inner)
            stack[-1].append(choice)
        elif token[0] == "<":
            rule = Rule(name=token[1:-1])
            inner.append(rule)
        elif token[0] == "{":
            slot = Slot(name=token[1:-1])
            inner.append(slot)
        else:
            inner.append(token)
    if len(stack) > 1:
        raise LabError("a phrase has an unclosed bracket", template, "mend the phrase file")
    (whole,) = stack[0].alternatives
    return tuple(whole)


def _choice(bracket: _Bracket) -> Choice:
    condition = bracket.token[1:-1]  # nothing of "("
    alternatives = [tuple(parts) for parts in bracket.alternatives]
    needs = []
    for parts in alternatives:
        slots = [part.name for part in parts if isinstance(part, Slot)]
        needs.append(slots)
    return Choice(condition, alternatives, needs)


class Grammar:
    """Rules by name, each a list of templates; `remembered` are the expansions that stay the same.

    A new one is made for every speaker of every dialogue: that costs nothing, since the templates are parsed once.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]]):
        self.rules = rules
        self.remembered: dict[str, str] = {}

    def expand(self, rule: str, rng: Random, values: Values = NOTHING) -> tuple[str, list[Filled]]:
        """An utterance of `rule`, with the spans of `values` in it.

        Raises:
            LabError: the phrase file has no such rule.
        """
        pieces: list[Piece] = []
        template = self._template(rule, rng)
        self._collect(template, rng, values, pieces)
        return join(pieces)

    def _template(self, rule: str, rng: Random) -> Parts:
        if rule not in self.rules:
            raise LabError(f"no phrases for {rule!r}", "", "add the rule to the phrase file")
        template = pick(rng, self.rules[rule])
        return parse(template)

    def _collect(
        self,
        parts: Parts,
        rng: Random,
        values: Values,
        pieces: list[Piece],
    ) -> None:
        """Append to `pieces` what the parts become."""
        for part in parts:
            if isinstance(part, str):
                pieces.append(Piece(part))
            elif isinstance(part, Slot):
                filled = self._filled(part.name, rng, values)
                pieces.append(filled)
            elif isinstance(part, Rule):
                template = self._template(part.name, rng)
                self._collect(template, rng, values, pieces)
            elif part.is_open(values):
                possible = self._possible(part, values)
                chosen = pick(rng, possible)
                self._collect(chosen, rng, values, pieces)

    def _filled(self, slot: str, rng: Random, values: Values) -> Piece:
        if slot not in values:
            return Piece(self._recall(slot, rng))
        if slot.startswith("_"):  # a flag of the phrase file, no slot
            return Piece(values[slot])
        return Piece(values[slot], slot)

    def _possible(self, choice: Choice, values: Values) -> list[Parts]:
        """The alternatives whose {slot}s can all be filled; nothing, where there is none."""
        if not any(choice.needs):
            return choice.alternatives
        possible = []
        pairs = zip(choice.alternatives, choice.needs, strict=True)
        for parts, needs in pairs:
            if all(slot in values or slot in self.rules for slot in needs):
                possible.append(parts)
        return possible or [()]

    def _recall(self, rule: str, rng: Random) -> str:
        if rule not in self.remembered:
            text, _ = self.expand(rule, rng)
            self.remembered[rule] = text
        return self.remembered[rule]


def join(pieces: Sequence[Piece]) -> tuple[str, list[Filled]]:
    """The pieces as one text with single spaces, none before punctuation, and "an" where it belongs."""
    done = ""
    spans: list[Filled] = []
    for text, slot in pieces:
        if not slot:
            if not done:
                text = text.lstrip(" ,.")
            elif done[-1] in " \n":
                text = text.lstrip(" ")
            if text.startswith(PUNCTUATION):
                done = done.rstrip(" ,")  # only phrases end so: no span moves
        after_a = done == "a " or done.endswith(" a ")
        if after_a and text.startswith(VOWELS):
            done = f"{done[:-1]}n "
        if slot:
            start = len(done)
            span = Filled(
                slot=slot,
                value=text,
                start=start,
                end=start + len(text),
            )
            spans.append(span)
        done += text
    return done.rstrip(" ,"), spans


def sentence_case(text: str) -> str:
    """Capitals at the beginning of sentences and for "I"; the length stays the same."""
    return SENTENCE_START.sub(lambda match: match[0].upper(), text)
