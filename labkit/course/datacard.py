"""What a corpus is like in figures, and how MiniWOZ compares with MultiWOZ: `labkit data-card`."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from statistics import mean

from labkit.corpora import Corpus, Dialogue
from labkit.corpora.types import BOT, USER
from labkit.metrics.predictions import gold_predictions
from labkit.metrics.richness import richness, words

RARE = 0.02  # acts in a smaller share of the turns are left out


def measure(dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """The figures of a data card, {name: value}; words are lower case and without punctuation, replies delexicalised.

    An act's figure is the share of its speaker's turns in which it occurs, whatever its domain.
    """
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    users = [turn.utterance for turn in turns if turn.speaker == USER]
    replies = [turn["response"] for turn in chain.from_iterable(gold_predictions(dialogues).values())]
    rich = richness(replies)
    states = [dialogue.turns[-1].state for dialogue in dialogues]
    return {
        "dialogues": len(dialogues),
        "turns per dialogue": len(turns) / len(dialogues),
        "domains per dialogue": mean(sum(map(bool, state.values())) for state in states),
        "slots per final state": mean(sum(map(len, state.values())) for state in states),
        "words per turn": mean(len(words(turn.utterance)) for turn in turns),
        "words per user turn": mean(len(words(text)) for text in users),
        "words per reply": rich["avg_lengths"],
        "vocabulary, users": len(set(chain.from_iterable(map(words, users)))),
        "vocabulary, replies": rich["num_unigrams"],
        "distinct trigrams, replies": rich["num_trigrams"],
        "conditional bigram entropy, replies (bits)": rich["cond_entropy"],
        **_act_shares(dialogues, USER),
        **_act_shares(dialogues, BOT),
    }


def _act_shares(dialogues: Sequence[Dialogue], speaker: str) -> dict[str, float]:
    turns = [turn for dialogue in dialogues for turn in dialogue.turns if turn.speaker == speaker]
    counts = Counter(chain.from_iterable({act.partition("-")[2] or act for act in turn.acts} for turn in turns))
    return {f"{speaker} act {act}": count / len(turns) for act, count in counts.most_common()}


def data_card(corpora: Sequence[Corpus], limit: int = 1000) -> str:
    """A Markdown table with a column a corpus, each over its first `limit` dialogues; last, first against last corpus.

    Vocabularies and n-grams grow with the text, so a comparison needs the same number of dialogues.
    """
    measured = [measure(list(chain.from_iterable(corpus[split] for split in corpus))[:limit]) for corpus in corpora]
    names = [
        name
        for name in dict.fromkeys(chain.from_iterable(measured))
        if " act " not in name or max(figures.get(name, 0) for figures in measured) >= RARE
    ]
    header = ["", *(corpus.name for corpus in corpora), *(["difference"] if len(corpora) > 1 else [])]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *(_row(name, measured) for name in names)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name: str, measured: Sequence[dict[str, float]]) -> list[str]:
    values = [figures.get(name, 0) for figures in measured]
    style = ",.0f" if max(values) >= 100 else ".2f" if " act " not in name else ".1%"
    difference = [f"{values[0] / values[-1] - 1:+.0%}" if values[-1] else "—"] if len(values) > 1 else []
    return [name, *(format(value, style) for value in values), *difference]
