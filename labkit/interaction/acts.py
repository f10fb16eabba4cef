"""What a reply says: its placeholders, and its dialogue acts by a classifier learnt from the corpus' annotation."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from labkit.corpora.slots import CLASS_OF
from labkit.corpora.types import BOT, SPLIT_ALIASES, Corpus, Dialogue, Turn
from labkit.errors import LabError
from labkit.prompts.format import current_domain
from labkit.prompts.text import delexicalise

if TYPE_CHECKING:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

PLACEHOLDER = re.compile(r"\[([\w ]+)\]")
TOKEN = r"\[[\w ]+\]|[a-z0-9']+|[?]"  # of a reply: a placeholder, a word, a question mark
RAREST = 10  # turns that a label needs in order to be learnt
SAME_ACT = {"OfferBooked": "Book", "OfferBook": "OfferBook"}  # trains have names of their own for these
TELLS = {  # {class of a placeholder: what it tells a user who asked}
    "PHONE": "phone",
    "ADDRESS": "address",
    "POST": "postcode",
    "TRAINID": "trainid",
    "REFERENCE": "ref",
}
OFFERS = ("NAME", "TRAINID")  # classes that offer something
VENUES = ("restaurant", "hotel", "attraction", "train", "taxi")
TIMES = ("leaveat", "leave", "arriveby", "arrive")
Labels = frozenset[str]  # {"Inform", "Request area"}


class Told(NamedTuple):
    """Something that a reply tells; `domain` is "" where its placeholder names none."""

    domain: str
    slot: str


@dataclass(frozen=True)
class Heard:
    """What the user understands of a reply."""

    acts: Labels
    offers: frozenset[str]  # the domains of venues and trains that are offered, "" where none is named
    told: frozenset[Told]

    @property
    def asked(self) -> tuple[str, ...]:
        """The slots that the reply asks for."""
        return tuple(sorted(act.removeprefix("Request ") for act in self.acts if act.startswith("Request ")))

    def told_in(self, domain: str) -> set[str]:
        """What is told about a domain, or about none by name."""
        return {slot for owner, slot in self.told if owner in ("", domain)}


def labels_of(turn: Turn) -> Labels:
    """The acts of an annotated bot turn as the classifier knows them, without their domain: the user knows it."""
    labels = set()
    for act, pairs in turn.acts.items():
        domain, _, kind = act.partition("-")
        if kind == "Request":
            labels.update(f"Request {slot}" for slot, _ in pairs if slot != "none")
        elif domain == "Booking" and kind == "Inform":
            labels.add("OfferBook")
        else:
            labels.add(SAME_ACT.get(kind, kind))
    return frozenset(labels)


@dataclass(frozen=True)
class ActClassifier:
    """Linear classifiers, one a label, over the words, pairs and triples of words of a delexicalised reply."""

    labels: tuple[str, ...]
    words: "TfidfVectorizer"
    weights: "np.ndarray"  # [V, L]
    bias: "np.ndarray"  # [L]

    @classmethod
    def learn(cls, dialogues: Iterable[Dialogue]) -> "ActClassifier":
        """Learn from the annotated bot turns of some dialogues.

        Raises:
            LabError: they have no annotated acts.
        """
        texts, known = replies_and_labels(dialogues)
        counts = Counter(label for labels in known for label in labels)
        kept = sorted(label for label, count in counts.items() if count >= RAREST)
        if not kept:
            found = f"{len(texts)} bot turns"
            raise LabError("dialogue acts cannot be learnt", found, "take a corpus with dialog_acts.json")
        targets = [[label for label in labels if label in kept] for labels in known]
        words, weights, bias = _fitted(texts, targets, kept)
        return cls(tuple(kept), words, weights, bias)

    @classmethod
    def of(cls, corpus: Corpus, split: str) -> "ActClassifier":
        """Learnt on the corpus' training split, or the others where it has none, never on `split`; kept on it."""
        name = f"acts, learnt on {learning_splits(corpus, split)}"
        kept = corpus.derived.get(name)
        if not isinstance(kept, ActClassifier):
            kept = cls.learn(learning_dialogues(corpus, split))
            corpus.derived[name] = kept
        return kept

    def __call__(self, replies: Sequence[str]) -> list[Labels]:
        """The acts of each delexicalised reply; what it gets does not depend on its neighbours."""
        if not replies:
            return []
        scores = self.words.transform(replies) @ self.weights + self.bias  # [R, L]
        result = []
        for row in scores > 0:
            result.append(frozenset(label for label, is_there in zip(self.labels, row, strict=True) if is_there))
        return result

    def hear(self, replies: Sequence[str]) -> list[Heard]:
        """What a user understands of each reply."""
        return [understood(reply, acts) for reply, acts in zip(replies, self(replies), strict=True)]


def learning_splits(corpus: Corpus, split: str) -> list[str]:
    """The splits that a simulated user may learn from: training, else all but the one that it will play.

    Raises:
        LabError: the corpus has no other split.
    """
    others = [name for name in corpus if name != SPLIT_ALIASES.get(split, split)]
    if "train" in others:
        return ["train"]
    if not others:
        found = f"{corpus.name} has only {split}"
        raise LabError("a simulated user learns to speak from another split", found, "add a train or dev split")
    return others


def learning_dialogues(corpus: Corpus, split: str) -> list[Dialogue]:
    """The dialogues of `learning_splits`."""
    return [dialogue for name in learning_splits(corpus, split) for dialogue in corpus[name]]


def replies_and_labels(dialogues: Iterable[Dialogue]) -> tuple[list[str], list[Labels]]:
    """The delexicalised replies of dialogues, and their acts."""
    texts = []
    labels = []
    for dialogue in dialogues:
        for user, bot in zip(dialogue.turns[::2], dialogue.turns[1::2], strict=False):
            if bot.speaker == BOT:
                texts.append(delexicalise(bot, current_domain(bot.state, user)))
                labels.append(labels_of(bot))
    return texts, labels


def _fitted(
    texts: list[str], targets: list[list[str]], labels: list[str]
) -> "tuple[TfidfVectorizer, np.ndarray, np.ndarray]":
    """Words, weights [V, L] and bias [L] of a classifier for each label; one product then asks all of them at once."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(token_pattern=TOKEN, ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    seen = words.fit_transform(texts)  # [R, V]
    weights = []
    bias = []
    for label in labels:
        is_there = [label in target for target in targets]
        one = LinearSVC(random_state=0).fit(seen, is_there)
        weights.append(one.coef_[0])
        bias.append(one.intercept_[0])
    return words, np.array(weights).T, np.array(bias)


def micro_f1(gold: Sequence[Labels], predicted: Sequence[Labels]) -> float:
    """F1 in per cent over all labels of all turns together."""
    right = sum(len(known & found) for known, found in zip(gold, predicted, strict=True))
    n_gold = sum(map(len, gold))
    n_predicted = sum(map(len, predicted))
    return 100 * 2 * right / max(1, n_gold + n_predicted)


def understood(reply: str, acts: Labels) -> Heard:
    """Acts and placeholders of a reply together.

    >>> heard = understood("[restaurant_name] is at [restaurant_address]", frozenset({"Inform"}))
    >>> heard.offers, heard.told
    (frozenset({'restaurant'}), frozenset({Told(domain='restaurant', slot='address')}))
    """
    offers = set()
    told = set()
    for name in PLACEHOLDER.findall(reply.lower()):
        label = CLASS_OF.get(name, "")
        domain, _, slot = name.partition("_")
        if domain not in VENUES:
            domain = ""
        if label in OFFERS:
            offers.add(domain or ("train" if label == "TRAINID" else ""))
        if label in TELLS:
            told.add(Told(domain, TELLS[label]))
        if label == "TYPE" and (domain == "taxi" or slot == "car" or name == "car"):
            told.add(Told(domain, "car"))
        if label == "TIME" and name.removeprefix("train_").replace(" ", "") in TIMES and domain in ("", "train"):
            told.add(Told("train", "time"))
    return Heard(acts, frozenset(offers), frozenset(told))
