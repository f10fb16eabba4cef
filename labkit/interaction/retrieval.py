"""A user who speaks in turns of the corpus' own users: retrieved by what they say, filled with other values, filtered.

A turn is a template where it speaks of one domain, and where every value stands in it once. What is left of its words
after the values are taken out must not give anything away: no digits, no other value, no "same", no second thoughts.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from labkit.corpora.miniwoz.grammar import pick
from labkit.corpora.types import USER, Corpus, Dialogue, Span, State, Turn
from labkit.interaction.acts import learning_dialogues, learning_splits
from labkit.interaction.progress import UserAct
from labkit.interaction.speech import PlainSpeaker, Said
from labkit.interaction.wishes import DONT_CARE, SHARED
from labkit.prompts.text import one_line

FREE = ("name", "departure", "destination", "leaveat", "arriveby", "booktime", "day", "bookday", "area", "food")
FREE += ("pricerange", "stars", "bookpeople", "bookstay", "type")  # slots whose value is put into another's place
SECOND_THOUGHTS = re.compile(
    r"\b(actually|instead|sorry|change|changed|mistake|wrong|wait|other|another|different|else|again|same|both"
    r"|neither|either|not|n't|no|don't|doesn't|dont|except|unless|or|if|sure|confirm|earlier|later|cheaper|mentioned"
    r"|they|them|those|these|he|she|alternative|nearby|previous|before|already|still|already|too)\b"
)
CAPITALISED = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")  # inside a sentence: a name
VALUE_WORDS = re.compile(
    r"\b(north|south|east|west|centre|center|cheap|cheaply|inexpensive|moderate|moderately|expensive|upscale|one|two"
    r"|three|four|five|six|seven|eight|nine|ten|monday|tuesday|wednesday|thursday|friday|saturday|sunday|today|tonight"
    r"|tomorrow|weekend|noon|midnight|morning|afternoon|evening|night|am|pm|cambridge|london|wifi|internet|parking"
    r"|stars?|guest ?houses?|hotels?|museums?|parks?|colleges?|cinemas?|theatres?|pools?|nightclubs?|restaurants?"
    r"|attractions?|trains?|taxi|taxis|cab|phone|address|postcode|post code|zip|reference|price|fee|fees|cost|book"
    r"|booking|reserve|reservation|table|room|ticket|tickets|thank|thanks|bye|goodbye|myself|alone|just me|wife"
    r"|husband|couple|family)\b"
)
ALLOWED = {  # words of VALUE_WORDS that a kind of turn needs
    "open": {"train", "trains", "taxi", "cab", "restaurant", "restaurants", "hotel", "hotels", "attraction"},
    "book": {"book", "booking", "reserve", "reservation", "table", "room", "ticket", "tickets", "train", "thanks"},
    "detail": {"book", "booking", "reserve", "reservation", "table", "room", "ticket", "tickets", "thanks"},
    "ask": {"phone", "address", "postcode", "post code", "zip", "reference", "price", "fee", "thanks", "thank"},
    "give": {"train", "thanks"},
    "close": {"thank", "thanks", "bye", "goodbye"},
}
ALLOWED["open"] |= {"attractions", "thank", "thanks"}
OWN_WORDS = {  # nouns that a turn of another domain cannot have
    "restaurant": {"restaurant", "restaurants"},
    "hotel": {"hotel", "hotels", "room", "internet", "wifi", "parking"},
    "attraction": {"attraction", "attractions"},
    "train": {"train", "trains", "ticket", "tickets"},
    "taxi": {"taxi", "taxis", "cab"},
}
LONGEST = 160  # characters of a template
MOST_TEMPLATES = 60  # of a kind: enough variety, and quick to draw from


@dataclass(frozen=True)
class Template:
    """A user turn with holes: `pieces` are its words, one more than `slots`."""

    pieces: tuple[str, ...]
    slots: tuple[str, ...]

    def fill(self, domain: str, values: dict[str, str]) -> Said:
        """The turn with other values in its holes."""
        act = f"{domain.capitalize()}-Inform"
        text = self.pieces[0]
        spans = []
        for slot, piece in zip(self.slots, self.pieces[1:], strict=True):
            value = values[slot]
            spans.append(Span(act, slot, value, len(text), len(text) + len(value)))
            text += value + piece
        return Said(text, tuple(spans))


Key = tuple[str, str, frozenset[str]]  # (domain, kind, slots told or asked for; "area=same", "internet=yes")


class Phrasebook:
    """Templates from the user turns of some dialogues, by what they say; and how users spell values."""

    def __init__(self, dialogues: Iterable[Dialogue], names: Collection[str] = ()):
        """`names` are those of venues and stations, in lower case: a template with one would lead astray."""
        self.names = names
        self.templates: dict[Key, list[Template]] = {}
        self.spellings: dict[tuple[str, str], list[str]] = {}
        spelt: dict[tuple[str, str], Counter[str]] = {}
        for dialogue in dialogues:
            for turn, before in _user_turns(dialogue):
                for span in _spoken(turn):
                    counts = spelt.setdefault((span.slot, span.value.lower()), Counter())
                    counts[turn.utterance[span.start : span.end]] += 1
                self._add(turn, before)
        for key, counts in spelt.items():
            same = [text for text, count in counts.most_common(3) if text.lower() == key[1] and count > 2]
            self.spellings[key] = same  # "Centre" or "centre"; "northern" does not fit every template

    @classmethod
    def of(cls, corpus: Corpus, split: str) -> "Phrasebook":
        """Of the corpus' training split, or the others where it has none, never of `split`; kept on it."""
        name = f"phrases, learnt on {learning_splits(corpus, split)}"
        kept = corpus.derived.get(name)
        if not isinstance(kept, Phrasebook):
            kept = cls(learning_dialogues(corpus, split), _names_in(corpus))
            corpus.derived[name] = kept
        return kept

    def _add(self, turn: Turn, before: State | None) -> None:
        found = _template(turn, before)
        if found and not self._leads_astray(found[1]):
            key, template = found
            known = self.templates.setdefault(key, [])
            if template not in known and len(known) < MOST_TEMPLATES:
                known.append(template)

    def _leads_astray(self, template: Template) -> bool:
        words = " ".join(template.pieces)
        if CAPITALISED.search(words):
            return True
        return any(name in words.lower() for name in self.names)


def _names_in(corpus: Corpus) -> frozenset[str]:
    """The names of venues and stations of the database."""
    names = set()
    for rows in corpus.database.values():
        for row in rows:
            for column in ("name", "departure", "destination"):
                name = row.get(column)
                if isinstance(name, str) and len(name) > 3:
                    names.add(name.lower())
    return frozenset(names)


def _spoken(turn: Turn) -> list[Span]:
    """The spans in which a value itself stands; "the same area" is a reference, and "cheaper" a comparison."""
    spoken = []
    for span in turn.spans:
        text = turn.utterance[span.start : span.end].lower()
        if not re.search(r"\b(same|cheaper|it|that)\b", text):
            spoken.append(span)
    return spoken


def _user_turns(dialogue: Dialogue) -> Iterator[tuple[Turn, State | None]]:
    """User turns with the belief state before them; None before the first."""
    before: State | None = None
    for turn in dialogue.turns:
        if turn.speaker == USER:
            yield turn, before
            before = turn.state


def _template(turn: Turn, before: State | None) -> tuple[Key, Template] | None:
    """A user turn as a template with its key; None where its words would give something away."""
    told = {act: pairs for act, pairs in turn.acts.items() if act != "general-thank"}
    text = one_line(turn.utterance)
    if text != turn.utterance or len(text) > LONGEST:
        return None
    if not told:
        return _thanks(turn)
    if len(told) > 1:
        return None
    ((act, pairs),) = told.items()
    domain, _, kind = act.lower().partition("-")
    if kind == "request":
        return _filtered(domain, "ask", turn, frozenset(slot for slot, _ in pairs))
    if kind != "inform":
        return None
    names = _names(pairs, turn)
    if names is None:
        return None
    return _filtered(domain, _kind(domain, pairs, turn, before), turn, names)


def _kind(domain: str, pairs: Sequence[tuple[str, str]], turn: Turn, before: State | None) -> str:
    """What a turn that tells values does: first, open, give, book or detail."""
    if any(slot.startswith("book") for slot, _ in pairs):
        books = re.search(r"\b(book|reserve|reservation|booking)\b", turn.utterance.lower())
        return "book" if books else "detail"
    if before is None:
        return "first"
    return "give" if before.get(domain) else "open"


def _thanks(turn: Turn) -> tuple[Key, Template] | None:
    if "general-thank" not in turn.acts or not re.search(r"\b(all|everything|that's it)\b", turn.utterance.lower()):
        return None
    left = turn.utterance.lower()
    if "?" in left or VALUE_WORDS.sub("", left) != re.sub(r"\b(thanks?|bye|goodbye)\b", "", left):
        return None
    return ("", "close", frozenset()), Template((turn.utterance,), ())


def _names(pairs: Sequence[tuple[str, str]], turn: Turn) -> frozenset[str] | None:
    """The slots of an act as a key has them: "area" with a span, "area=same", "internet=yes" without."""
    spoken = [span.slot for span in _spoken(turn)]
    if len(set(spoken)) < len(spoken):
        return None
    names = set()
    for slot, value in pairs:
        if slot in spoken and slot in FREE:
            names.add(slot)
        elif slot in SHARED and re.search(r"\bsame\b", turn.utterance.lower()) and slot not in spoken:
            names.add(f"{slot}=same")
        elif slot in ("internet", "parking", "type") and slot not in spoken:
            names.add(f"{slot}={value.lower()}")
        else:
            return None
    if len(pairs) != len(names) or not names:
        return None
    return frozenset(names)


def _filtered(domain: str, kind: str, turn: Turn, names: frozenset[str]) -> tuple[Key, Template] | None:
    """The template, unless its words say more than its key."""
    template = _cut(turn)
    left = " ".join(template.pieces).lower()
    if set(template.slots) != {name for name in names if "=" not in name} - _asked(kind, names):
        return None
    has_reference = any(name.endswith("=same") for name in names)
    if has_reference:
        left = re.sub(r"\bsame\b", "", left)
    if re.search(r"\d|\[|\]", left) or SECOND_THOUGHTS.search(left):
        return None
    allowed = ALLOWED.get("open" if kind == "first" else kind, set())
    if has_reference or any("=" in name for name in names):
        allowed = allowed | _unspoken(names)
    words = {match[0] for match in VALUE_WORDS.finditer(left)}
    foreign = set()
    for other, nouns in OWN_WORDS.items():
        if other != domain and not has_reference:
            foreign |= nouns
    if words - allowed or words & foreign or ("?" in left and kind == "give" and len(left) > 60):
        return None
    return (domain, kind, names), template


def _asked(kind: str, names: frozenset[str]) -> frozenset[str]:
    return names if kind == "ask" else frozenset()


def _unspoken(names: frozenset[str]) -> set[str]:
    """Words that values without a span, and references, are said with."""
    words = set()
    for name in names:
        slot, _, value = name.partition("=")
        if value == "yes":
            words |= {"internet", "wifi"} if slot == "internet" else {"parking"}
        elif slot == "type":
            words |= {value, f"{value}s", "guest house", "guest houses"} if value else set()
        elif value == "same":
            words |= {"restaurant", "hotel", "attraction"}
    return words


def _cut(turn: Turn) -> Template:
    pieces = []
    slots = []
    end = 0
    for span in _spoken(turn):
        pieces.append(turn.utterance[end : span.start])
        slots.append(span.slot)
        end = span.end
    pieces.append(turn.utterance[end:])
    return Template(tuple(pieces), tuple(slots))


class CorpusSpeaker:
    """Speaks in templates of a phrasebook; what none of them says is said plainly."""

    def __init__(self, book: Phrasebook, rng: Random):
        self.book = book
        self.rng = rng
        self.plain = PlainSpeaker(rng)

    def say(self, act: UserAct, is_first: bool) -> Said:
        """The whole act in one template, or slot by slot, or plainly."""
        whole = self._retrieved(act, is_first)
        if whole:
            return whole
        if len(act.values) < 2:
            return self.plain.say(act, is_first)
        said = Said("")
        for number, (slot, value) in enumerate(act.values.items()):
            kind = "give" if act.kind == "open" and number else act.kind
            same = {slot: act.same[slot]} if slot in act.same else {}
            part = UserAct(kind, act.domain, {slot: value}, same=same)
            sentence = self._retrieved(part, is_first and not number) or self.plain.say(part, is_first)
            said = said.then(sentence)
        return said

    def _retrieved(self, act: UserAct, is_first: bool) -> Said | None:
        if act.kind in ("dontcare", "search"):
            return None
        if DONT_CARE in act.values.values():
            return None
        spelt = {slot: self._spelt(slot, value) for slot, value in act.values.items()}
        for kind in _kinds(act, is_first):
            for names in _key_names(act):
                domain = "" if kind == "close" else act.domain
                templates = self.book.templates.get((domain, kind, names))
                if templates:
                    return pick(self.rng, templates).fill(act.domain, spelt)
        return None

    def _spelt(self, slot: str, value: str) -> str:
        """A value as users write it."""
        options = self.book.spellings.get((slot, value.lower()))
        return pick(self.rng, options) if options else value


def _kinds(act: UserAct, is_first: bool) -> list[str]:
    """The kinds of templates that can say an act, the best first."""
    if act.kind == "open":
        return ["first"] if is_first else ["open"]
    if act.kind in ("correct", "relax", "retry"):
        return []  # with the words of a first wish these would not be understood as a change of mind
    return [act.kind]


def _key_names(act: UserAct) -> list[frozenset[str]]:
    """What the key of a template for an act may say: a hotel's type has a place in some templates, and none in others.

    >>> _key_names(UserAct("give", "hotel", {"parking": "yes"}))
    [frozenset({'parking=yes'})]
    """
    names = set(act.asks)
    for slot, value in act.values.items():
        if slot in act.same:
            names.add(f"{slot}=same")
        elif slot in ("internet", "parking"):
            names.add(f"{slot}={value.lower()}")
        else:
            names.add(slot)
    result = [frozenset(names)]
    if "type" in act.values:
        unspoken = f"type={act.values['type'].lower()}"
        result.append(frozenset(names - {"type"} | {unspoken}))
    return result
