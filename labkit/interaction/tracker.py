"""A belief-state tracker: a log-linear tagger of words finds values in what the user says, rules put them together.

It knows what stands in the words, what the bot asked for, and "the same area as the hotel"; a change of mind without a
value it misses. It is also the second opinion on the simulated user's sentences: what the user means must be found.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.corpora.tagging import OUTSIDE, bio_tags, tagged_spans
from labkit.corpora.types import USER, Corpus, Dialogue, State, Turn
from labkit.interaction.acts import ActClassifier, learning_dialogues, learning_splits
from labkit.interaction.progress import DAYS
from labkit.interaction.wishes import DONT_CARE, PLAYED

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

MOST_DIALOGUES = 400  # that are learnt from: more makes it slower, and hardly better
ANY = re.compile(
    r"don't (care|mind|have a pref)|doesn't matter|does not matter|isn't important|no preference|not picky|"
    r"no particular|\bany|either|whatever|surprise me|you (choose|pick)|open to|fine with|happy with|no special|"
    r"i have no|there is no|just pick one|which one do you recommend|what do you recommend|do not care"
)
SAME = {  # words after which a slot has the value that it had in another domain
    "area": re.compile(r"\bsame (area|part|side)|in that same|\bnear the (hotel|restaurant|attraction)"),
    "pricerange": re.compile(r"\bsame price|that same price"),
    "bookday": re.compile(r"\bsame day"),
    "day": re.compile(r"\bsame day"),
    "bookpeople": re.compile(r"\bsame (group|number|people|party)"),
}
ONE_TAG = {"bookday": "day", "booktime": "leaveat"}  # the domain tells which
BOOKED_AS = {"day": "bookday", "leaveat": "booktime", "arriveby": "booktime"}
CLOSED = ("area", "food", "pricerange", "type", "day")  # slots whose known values are taken wherever they stand
NO_VALUES = ("hotel", "restaurant")  # known types that mostly stand for the domain
KEYWORDS = {"internet": re.compile(r"\b(wifi|wi-fi|internet)\b"), "parking": re.compile(r"\bparking\b")}
SLOTS = {  # {domain: its slots}
    "restaurant": ("name", "area", "food", "pricerange", "bookday", "bookpeople", "booktime"),
    "hotel": (
        "name",
        "area",
        "pricerange",
        "type",
        "stars",
        "internet",
        "parking",
        "bookday",
        "bookpeople",
        "bookstay",
    ),
    "attraction": ("name", "area", "type"),
    "train": ("departure", "destination", "day", "leaveat", "arriveby", "bookpeople"),
    "taxi": ("departure", "destination", "leaveat", "arriveby"),
}
WORD = re.compile(r"\d+:\d+|\w+|[^\w\s]")  # a time is one word
Features = list[str]
Place = tuple[int, int]  # (first character, character after the last) of a word
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SHORTEST = 3  # letters of a known value that is looked for


class Gazetteer:
    """Values that are known to exist (names, stations, foods, areas …), found in a text, the longest first."""

    def __init__(self, values: Iterable[tuple[str, str]]):
        """`values`: (slot, value)."""
        self.slots: dict[tuple[str, ...], set[str]] = {}  # {the value's words: its slots}
        for slot, value in values:
            found = tuple(WORD.findall(value.lower()))
            if len(value) >= SHORTEST:
                self.slots.setdefault(found, set()).add(slot)
        self.longest = max(map(len, self.slots), default=1)

    @classmethod
    def of(cls, corpus: Corpus) -> "Gazetteer":
        """Of a corpus' database."""
        values = {("day", day) for day in DAYS}
        for rows in corpus.database.values():
            for row in rows:
                for column in ("name", "area", "food", "pricerange", "type", "departure", "destination"):
                    value = row.get(column)
                    if isinstance(value, str):
                        slot = "name" if column in ("departure", "destination") else column
                        values.add((slot, value))
        return cls(sorted(values))

    def find(self, spoken: Sequence[str]) -> list[tuple[int, int, str]]:
        """(first word, word after the last, slots) of every known value; none overlap."""
        found = []
        start = 0
        while start < len(spoken):
            end = self._end(spoken, start)
            if end > start:
                slots = self.slots[tuple(spoken[start:end])]
                found.append((start, end, "/".join(sorted(slots))))
            start = max(end, start + 1)
        return found

    def _end(self, spoken: Sequence[str], start: int) -> int:
        for end in range(min(len(spoken), start + self.longest), start, -1):
            if tuple(spoken[start:end]) in self.slots:
                return end
        return start


def places_of(text: str) -> list[Place]:
    """Where the words of a text stand."""
    return [match.span() for match in WORD.finditer(text)]


def features(text: str, asked: Sequence[str], known: Gazetteer) -> list[Features]:
    """What the tagger sees of each word: itself, its neighbours, what the bot asked for, and what is known to exist.

    The words of a known value all see what stands before and after the whole value, so that they get the same tag.
    """
    spoken = [text[start:end].lower() for start, end in places_of(text)]
    rows = []
    for number in range(len(spoken)):
        rows.append(_features(spoken, number, number + 1, asked))
    for start, end, slots in known.find(spoken):
        for number in range(start, end):
            part = "begins" if number == start else "goes on"
            rows[number] = _features(spoken, start, end, asked, slots=slots, part=part)
    return rows


def _features(
    spoken: Sequence[str],
    start: int,
    end: int,
    asked: Sequence[str],
    *,
    slots: str = "",
    part: str = "",
) -> Features:
    """Of the words from `start` to `end`, which are one word, or a known value of some slots."""
    shape = _shape(spoken[start])
    if slots:
        shape = f"a {slots}"
    found = [f"is {shape}", f"{part} {shape}", "always"]
    for offset in (1, 2, 3):
        before = start - offset
        after = end + offset - 1
        found.append(f"-{offset} {spoken[before] if before >= 0 else '<>'}")
        found.append(f"+{offset} {_shape(spoken[after]) if after < len(spoken) else '<>'}")
    found.append(f"{found[3]} {shape}")
    found.append(f"{found[4]} {shape}")
    if not slots:
        found += [f"begins {shape[:3]}", f"ends {shape[-3:]}"]
    found += [f"{slot}? {shape}" for slot in asked]
    return found


def _shape(word: str) -> str:
    """The word itself; of a time or a number only that it is one."""
    if ":" in word and len(word) > 1:
        return "a time"
    return "a number" if word.isdigit() or word in NUMBERS else word


def _as_they_are(found: Features) -> Features:
    return found


@dataclass(frozen=True)
class Tracker:
    """Call it: (state before, the bot's last reply, what the user says) → state after."""

    tagger: "Pipeline"
    topics: "Pipeline"  # user turn, with the domain before -> domain
    spellings: dict[tuple[str, str], str]  # {(slot, text in lower case): value}
    acts: ActClassifier
    known: Gazetteer

    @classmethod
    def of(cls, corpus: Corpus, split: str) -> "Tracker":
        """Learnt on the corpus' training split, or the others where it has none, never on `split`; kept on it."""
        name = f"tracker, learnt on {learning_splits(corpus, split)}"
        kept = corpus.derived.get(name)
        if not isinstance(kept, Tracker):
            acts = ActClassifier.of(corpus, split)
            kept = cls.learn(learning_dialogues(corpus, split)[:MOST_DIALOGUES], acts, Gazetteer.of(corpus))
            corpus.derived[name] = kept
        return kept

    @classmethod
    def learn(cls, dialogues: Iterable[Dialogue], acts: ActClassifier, known: Gazetteer) -> "Tracker":
        """Learn from annotated user turns: their spans, their acts' domains, and their belief states."""
        rows: list[Features] = []
        tags: list[str] = []
        texts: list[str] = []
        domains: list[str] = []
        spelt: dict[tuple[str, str], Counter[str]] = {}
        for turn, asked, before in _user_turns(dialogues):
            domain = _domain_of(turn)
            rows += features(turn.utterance, asked, known)
            tags += [_without_domain(tag) for tag in bio_tags(places_of(turn.utterance), turn.spans)]
            if domain:
                texts.append(_topic_text(turn.utterance, before))
                domains.append(domain)
            _count_spellings(turn, domain, spelt)
        return cls(
            tagger=_tagger(rows, tags),
            topics=_topics(texts, domains),
            spellings={key: counts.most_common(1)[0][0] for key, counts in spelt.items()},
            acts=acts,
            known=known,
        )

    def __call__(self, state: State, reply: str, text: str) -> State:
        """The state after a user turn; `state` itself is left as it is."""
        (acts,) = self.acts([reply]) if reply else [frozenset()]
        asked = _asked_slots(acts)
        found = self.values(text, asked)
        if found.get("type") in NO_VALUES and "type" not in self._tagged(text, asked):
            del found["type"]
        domain = self.topic(text, state, reply)
        new = {name: dict(slots) for name, slots in state.items()}
        if not domain:
            return new
        slots = new.pop(domain, {})  # the domain spoken of stands last
        for slot, value in self._resolved(found, text, asked, state, domain):
            if slot in SLOTS[domain]:
                slots[slot] = value
        if slots:
            new[domain] = slots
        return new

    def values(self, text: str, asked: Sequence[str] = ()) -> dict[str, str]:
        """{slot: value} of the values that stand in a text, whatever the domain."""
        places = places_of(text)
        if not places:
            return {}
        spoken = [text[start:end].lower() for start, end in places]
        found = self._tagged(text, asked)
        for first, end, slot in self.known.find(spoken):
            if slot in CLOSED:
                found.setdefault(slot, " ".join(spoken[first:end]))
        return found

    def _tagged(self, text: str, asked: Sequence[str]) -> dict[str, str]:
        """The values that the tagger finds; a later one goes before an earlier one of the same slot."""
        places = places_of(text)
        if not places:
            return {}
        tags = [str(tag) for tag in self.tagger.predict(features(text, asked, self.known))]
        found = {}
        for slot, first, end in sorted(tagged_spans(tags), key=lambda span: span[1]):
            surface = text[places[first][0] : places[end - 1][1]].lower()
            found[slot] = self.spellings.get((slot, surface), surface)
        return found

    def topic(self, text: str, state: State, reply: str) -> str:
        """The domain that a user turn is about; the one before where the words do not tell."""
        before = next(reversed(state), "")
        if re.search(r"\b(thanks?|thank you|bye|goodbye)\b", text.lower()) and "?" not in text and len(text) < 60:
            return before
        return str(self.topics.predict([_topic_text(text, before)])[0])

    def _resolved(
        self, found: dict[str, str], text: str, asked: Sequence[str], state: State, domain: str
    ) -> Iterator[tuple[str, str]]:
        """Values said, by reference, by keyword, or by not caring."""
        lower = text.lower()
        for slot, value in found.items():
            name = _fitting(slot, domain)
            yield name, "yes" if name in KEYWORDS and value != DONT_CARE else value
        for slot, value in _without_a_value(lower, state, domain):
            if slot not in found:
                yield slot, value
        if not found and ANY.search(lower):
            for slot in asked:
                yield _fitting(slot, domain), DONT_CARE


def _without_a_value(text: str, state: State, domain: str) -> Iterator[tuple[str, str]]:
    """What is said without a value: "in the same area", "with wifi"."""
    for slot, pattern in SAME.items():
        value = _said_before(slot, state, domain)
        if slot in SLOTS[domain] and value and pattern.search(text):
            yield slot, value
    if domain == "hotel" and "?" not in text:
        for slot, pattern in KEYWORDS.items():
            if pattern.search(text):
                yield slot, "yes"


def _said_before(slot: str, state: State, domain: str) -> str:
    """The value that the slot had in the latest other domain, "" where there is none."""
    for other in reversed(state):
        value = state[other].get(slot) or state[other].get(f"book{slot}")
        if other != domain and value:
            return value
    return ""


def _fitting(slot: str, domain: str) -> str:
    """The slot of the domain that a tag stands for: "day" of a restaurant is that of its booking."""
    other = BOOKED_AS.get(slot, "")
    if slot not in SLOTS[domain] and other in SLOTS[domain]:
        return other
    return slot


def _asked_slots(acts: Iterable[str]) -> list[str]:
    return sorted(act.removeprefix("Request ") for act in acts if act.startswith("Request "))


def _user_turns(dialogues: Iterable[Dialogue]) -> Iterator[tuple[Turn, list[str], str]]:
    """User turns with the slots that the bot asked for before, and the domain before."""
    for dialogue in dialogues:
        asked: list[str] = []
        before = ""
        for turn in dialogue.turns:
            if turn.speaker == USER:
                yield turn, asked, before
                before = _domain_of(turn) or before
            else:
                asked = []
                for act, pairs in turn.acts.items():
                    if act.endswith("-Request"):
                        asked += [slot for slot, _ in pairs if slot != "none"]


def _domain_of(turn: Turn) -> str:
    """The one domain of a turn's acts, "" where there is none or more than one."""
    domains = {act.split("-")[0].lower() for act in turn.acts} & set(PLAYED)
    return domains.pop() if len(domains) == 1 else ""


def _without_domain(tag: str) -> str:
    """B-hotel-area → B-area: which domain is spoken of, the words around a value do not tell."""
    if tag == OUTSIDE:
        return tag
    prefix, _, slot = tag.split("-", 2)
    return f"{prefix}-{ONE_TAG.get(slot, slot)}"


def _topic_text(text: str, before: str) -> str:
    return f"{text.lower()} before_{before or 'nothing'}"


def _count_spellings(turn: Turn, domain: str, spelt: dict[tuple[str, str], Counter[str]]) -> None:
    """What the state has for a text that was tagged."""
    for span in turn.spans:
        value = turn.state.get(span.domain if span.domain in PLAYED else domain, {}).get(span.slot)
        if value:
            surface = turn.utterance[span.start : span.end].lower()
            slot = ONE_TAG.get(span.slot, span.slot)
            spelt.setdefault((slot, surface), Counter())[value] += 1


def _tagger(rows: list[Features], tags: list[str]) -> "Pipeline":
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    log_linear = SGDClassifier(loss="modified_huber", alpha=1e-5, max_iter=6, tol=None, random_state=0)
    return make_pipeline(CountVectorizer(analyzer=_as_they_are, min_df=2, binary=True), log_linear).fit(rows, tags)


def _topics(texts: list[str], domains: list[str]) -> "Pipeline":
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    counter = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return make_pipeline(counter, LinearSVC(random_state=0)).fit(texts, domains)
