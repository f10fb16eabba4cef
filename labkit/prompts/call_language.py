"""What a function call may say, letter by letter: the look-up of one domain as JSON, with slots and values that exist.

    {"name": "find_restaurant", "arguments": {"area": "centre", "food": "thai"}}

A string of JSON ends with its quote, so no value begins another one: where a call stands follows from what was chosen
so far and from the letters since.
"""

import json
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from labkit.errors import LabError
from labkit.machine.one_line import first_line
from labkit.prompts.chat import Tool
from labkit.prompts.letters import LetterLanguage
from labkit.prompts.state_values import Heard, Slots, runs_of

FIND = "find_"  # before the domain, in a function's name


@dataclass(frozen=True)
class Call:
    """A look-up that a model asks for."""

    domain: str
    arguments: dict[str, str]

    @classmethod
    def read(cls, text: str) -> "Call":
        """The call that a text is, in JSON.

        Raises:
            LabError: it is none.
        """
        try:
            told = json.loads(text)
            name = told["name"]
            arguments = told["arguments"]
            if not name.startswith(FIND) or not all(isinstance(value, str) for value in arguments.values()):
                raise ValueError(f"{name!r:.40} is no look-up with texts as arguments")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabError("this is no function call", first_line(error), "write it under a grammar") from error
        return cls(name.removeprefix(FIND), arguments)

    def __str__(self) -> str:
        told = {"name": f"{FIND}{self.domain}", "arguments": self.arguments}
        return json.dumps(told, ensure_ascii=False)


def tools_of(slots: Slots) -> list[Tool]:
    """The functions of some slots, one a domain, as chat templates take them; short lists of values stand in them."""
    tools = []
    for domain, names in sorted(slots.items()):
        properties = {}
        for slot, values in sorted(names.items()):
            properties[slot] = {"type": "string"}
            if not values.is_open:
                properties[slot]["enum"] = sorted(values.known)
        parameters = {"type": "object", "properties": properties, "required": []}
        described = f"How many entities of the domain {domain} the database has for these constraints."
        function = {"name": f"{FIND}{domain}", "description": described, "parameters": parameters}
        tools.append({"type": "function", "function": function})
    return tools


class Context(NamedTuple):
    """What comes next: the "name", a "slot", a "value", or nothing more, the "end"."""

    kind: str
    domain: str = ""
    slot: int = 0  # the number of the slot, or of the first that may come
    is_first: bool = True  # no argument stands before


class Place(NamedTuple):
    """Where a call is: a context, and the letters of the option that is being written."""

    context: Context
    begun: str


class Options(NamedTuple):
    """What may be written in a context, in alphabetical order, and the context after each. None begins another."""

    texts: list[str]
    after: list[Context]


CLOSED = "}}\n"  # after the last argument
START = Context("name")
END = Context("end")


class CallLanguage(LetterLanguage[Place]):
    """The calls that may be written in a dialogue, each with the newline that ends it.

    Args:
        slots: {domain: {slot: values}}; of open slots, words that were said are values, too.
        heard: what was said.
        lead: what stands before the call.
        letters: those that can be written; values with others are left out (None: none is).
    """

    def __init__(self, slots: Slots, heard: Heard, *, lead: str = "", letters: frozenset[str] | None = None):
        self.slots = {domain: slots[domain] for domain in sorted(slots)}
        self.lead = lead
        self.letters = letters
        self.heard = heard
        self._known: dict[Context, Options] = {}

    def begin(self) -> Place:
        """The place before the first letter."""
        return Place(START, "")

    def read(self, place: Place, letter: str) -> Place | None:
        """The place after one more letter; None where no call goes on like that."""
        begun = place.begun + letter
        texts, after = self._options(place.context)
        number = bisect_left(texts, begun)
        if number == len(texts) or not texts[number].startswith(begun):
            return None
        if texts[number] == begun:
            return Place(after[number], "")
        return Place(place.context, begun)

    def __contains__(self, line: str) -> bool:
        """Whether a line, with its newline, is a call."""
        place = self.place_after(line)
        return place is not None and place.context == END

    def whole(self, text: str) -> str:
        """A beginning of a call as a call: one that was cut off loses the argument that is half written."""
        place = self.begin()
        kept = ""
        after = START
        for number, letter in enumerate(text, 1):
            next_place = self.read(place, letter)
            if next_place is None:
                break
            place = next_place
            if place.context.kind in ("slot", "end") and not place.begun:
                kept = text[:number]
                after = place.context
        while after != END:
            options = self._listed(after)
            shortest = CLOSED if CLOSED in options else min(options)
            kept += shortest
            after = options[shortest]
        return kept

    def _options(self, context: Context) -> Options:
        if context not in self._known:
            found = sorted(self._listed(context).items())
            self._known[context] = Options([text for text, _ in found], [after for _, after in found])
        return self._known[context]

    def _listed(self, context: Context) -> dict[str, Context]:
        """{what may be written: the context after it}."""
        options: dict[str, Context] = {}
        if context.kind == "name":
            for domain in self.slots:
                name = f"{FIND}{domain}"
                options[f'{self.lead}{{"name": "{name}", "arguments": {{'] = Context("slot", domain)
        elif context.kind == "slot":
            comma = "" if context.is_first else ", "
            for number, slot in enumerate(self.slots[context.domain]):
                value = Context("value", context.domain, number)
                if number >= context.slot and self._values(value):
                    options[f'{comma}"{slot}": "'] = value
            options[CLOSED] = END
        elif context.kind == "value":
            after = Context("slot", context.domain, context.slot + 1, is_first=False)
            for value in self._values(context):
                options[f'{value}"'] = after
        return options

    def _values(self, context: Context) -> set[str]:
        """The values of a slot as they stand between the quotes of JSON."""
        names = list(self.slots[context.domain])
        values = self.slots[context.domain][names[context.slot]]
        found = {_quoted(value) for value in values.known}
        if values.is_open:
            found |= self._said
        if self.letters is None:
            return found
        return {value for value in found if self.letters.issuperset(value)}

    @cached_property
    def _said(self) -> set[str]:
        return {_quoted(run) for text in self.heard.texts for run in runs_of(text)}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]
