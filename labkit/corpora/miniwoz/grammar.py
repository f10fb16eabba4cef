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
from functools import cache
from random import Random
from typing import NamedTuple, TypeVar

from labkit.errors import LabError

T = TypeVar("T")
TOKEN = re.compile(r"[()|\]]|\[!?\w+\||<\w+>|\{\w+\}|[^()|<{\[\]]+")
SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]|\bi\b")
CLOSING = {")": "(", "]": "["}


class Filled(NamedTuple):
    """A value in an utterance, at characters `start` up to, not including, `end`."""

    slot: str
    value: str
    start: int
    end: int


class Choice(NamedTuple):
    """Alternatives, each a tuple of parts; `condition`: "", a slot that must be given, or "!" and one that must not."""

    condition: str
    alternatives: list[tuple]
    needs: list[list[str]]  # for each alternative its {slot}s


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of the options, each as likely."""
    return options[int(rng.random() * len(options))]


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """The items in random order."""
    return sorted(items, key=lambda _: rng.random())


@cache
def parse(template: str) -> tuple:
    """The template as parts: text, ("<", rule), ("{", slot) or a Choice.

    Raises:
        LabError: a bracket is not closed, or closed by the other kind.
    """
    stack: list[tuple[str, list[list]]] = [("", [[]])]  # (opening token, alternatives so far)
    for token in TOKEN.findall(template):
        if token[0] in "([":
            stack.append((token, [[]]))
        elif token == "|":
            stack[-1][1].append([])
        elif token in CLOSING and stack[-1][0][:1] == CLOSING[token]:
            opening, alternatives = stack.pop()
            needs = [[part[1] for part in parts if type(part) is tuple and part[0] == "{"] for parts in alternatives]
            stack[-1][1][-1].append(Choice(opening[1:-1], [tuple(parts) for parts in alternatives], needs))
        else:
            stack[-1][1][-1].append((token[0], token[1:-1]) if token[0] in "<{" else token)
    if len(stack) > 1:
        raise LabError("a phrase has an unclosed bracket", template, "mend the phrase file")
    return tuple(stack[0][1][0])


class Grammar:
    """Rules by name, each a list of templates; `remembered` is cleared for every dialogue."""

    def __init__(self, rules: Mapping[str, Sequence[str]]):
        self.rules = rules
        self.remembered: dict[str, str] = {}

    def expand(self, rule: str, rng: Random, values: Mapping[str, str] | None = None) -> tuple[str, list[Filled]]:
        """An utterance of `rule`, with the spans of `values` in it.

        Raises:
            LabError: the phrase file has no such rule.
        """
        pieces: list[tuple[str, str]] = []
        self._collect(self._template(rule, rng), rng, values or {}, pieces)
        return join(pieces)

    def _template(self, rule: str, rng: Random) -> tuple:
        if rule not in self.rules:
            raise LabError(f"no phrases for {rule!r}", "", "add the rule to the phrase file")
        return parse(pick(rng, self.rules[rule]))

    def _collect(self, parts: tuple, rng: Random, values: Mapping[str, str], pieces: list[tuple[str, str]]) -> None:
        for part in parts:
            if isinstance(part, str):
                pieces.append((part, ""))
            elif isinstance(part, Choice):
                slot = part.condition.lstrip("!")
                if not slot or (slot in values) != (part.condition != slot):
                    self._collect(pick(rng, self._possible(part, values)), rng, values, pieces)
            elif part[0] == "<":
                self._collect(self._template(part[1], rng), rng, values, pieces)
            elif part[1] in values:
                pieces.append((values[part[1]], part[1] if part[1][0] != "_" else ""))
            else:
                pieces.append((self._recall(part[1], rng), ""))

    def _possible(self, choice: Choice, values: Mapping[str, str]) -> list[tuple]:
        if not any(choice.needs):
            return choice.alternatives
        pairs = zip(choice.alternatives, choice.needs, strict=True)
        return [parts for parts, needs in pairs if all(slot in values or slot in self.rules for slot in needs)] or [()]

    def _recall(self, rule: str, rng: Random) -> str:
        if rule not in self.remembered:
            self.remembered[rule] = self.expand(rule, rng)[0]
        return self.remembered[rule]


def join(pieces: Sequence[tuple[str, str]]) -> tuple[str, list[Filled]]:
    """(text, slot) pieces as one text with single spaces, none before punctuation, and "an" where it belongs."""
    done, spans = "", []
    for text, slot in pieces:
        if not slot:
            text = text.lstrip(" " if done else " ,.") if not done or done[-1] in " \n" else text
            if text[:1] in (",", ".", "?", "!", "\n"):
                done = done.rstrip(" ,")  # only phrases end so: no span moves
        if text[:1] in "aeio" and text and (done.endswith(" a ") or done == "a "):
            done = f"{done[:-1]}n "
        if slot:
            spans.append(Filled(slot, text, len(done), len(done) + len(text)))
        done += text
    return done.rstrip(" ,"), spans


def sentence_case(text: str) -> str:
    """Capitals at the beginning of sentences and for "I"; the length stays the same."""
    return SENTENCE_START.sub(lambda match: match[0].upper(), text)
