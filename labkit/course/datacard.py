"""What a corpus is like in figures, and how MiniWOZ compares with MultiWOZ: `labkit data-card`."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean

from labkit.corpora import Corpus, Dialogue
from labkit.corpora.types import BOT, USER, Turn
from labkit.metrics.predictions import gold_predictions
from labkit.metrics.richness import richness, words
from labkit.tables import markdown_table

RARE = 0.02  # acts in a smaller share of the turns are left out


def measure(dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """The figures of a data card, {name: value}; words are lower case and without punctuation, replies delexicalised.

    An act's figure is the share of its speaker's turns in which it occurs, whatever its domain.
    """
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    users = [turn.utterance for turn in turns if turn.speaker == USER]
    rich = richness(_replies(dialogues))
    states = [dialogue.turns[-1].state for dialogue in dialogues]
    vocabulary = {word for text in users for word in words(text)}
    return {
        "dialogues": len(dialogues),
        "turns per dialogue": len(turns) / len(dialogues),
        "domains per dialogue": mean(len([slots for slots in state.values() if slots]) for state in states),
        "slots per final state": mean(sum(len(slots) for slots in state.values()) for state in states),
        "words per turn": mean(len(words(turn.utterance)) for turn in turns),
        "words per user turn": mean(len(words(text)) for text in users),
        "words per reply": rich["avg_lengths"],
        "vocabulary, users": len(vocabulary),
        "vocabulary, replies": rich["num_unigrams"],
        "distinct trigrams, replies": rich["num_trigrams"],
        "conditional bigram entropy, replies (bits)": rich["cond_entropy"],
        **_act_shares(turns, USER),
        **_act_shares(turns, BOT),
    }


def _replies(dialogues: Sequence[Dialogue]) -> list[str]:
    """The delexicalised gold replies, in order."""
    replies = []
    for turns in gold_predictions(dialogues).values():
        replies += [turn["response"] for turn in turns]
    return replies


def _act_shares(turns: Sequence[Turn], speaker: str) -> dict[str, float]:
    """{"user act Inform": share of the speaker's turns}, the commonest first."""
    spoken = [turn for turn in turns if turn.speaker == speaker]
    counts: Counter[str] = Counter()
    for turn in spoken:
        kinds = {act.partition("-")[2] or act for act in turn.acts}  # of "Restaurant-Inform"; each once a turn
        counts.update(sorted(kinds))
    return {f"{speaker} act {act}": count / len(spoken) for act, count in counts.most_common()}


def data_card(corpora: Sequence[Corpus], limit: int = 1000) -> str:
    """A Markdown table with a column a corpus, each over its first `limit` dialogues; last, first against last corpus.

    Vocabularies and n-grams grow with the text, so a comparison needs the same number of dialogues.
    """
    measured = [measure(_first_dialogues(corpus, limit)) for corpus in corpora]
    names = list(dict.fromkeys(name for figures in measured for name in figures))
    header = ["", *(corpus.name for corpus in corpora)]
    if len(corpora) > 1:
        header.append("difference")
    rows = []
    for name in names:
        values = [figures.get(name, 0) for figures in measured]
        if not _is_act(name) or max(values) >= RARE:
            rows.append(_row(name, values))
    return markdown_table(header, rows, numeric=True)


def _first_dialogues(corpus: Corpus, limit: int) -> list[Dialogue]:
    dialogues = [dialogue for split in corpus for dialogue in corpus[split]]
    return dialogues[:limit]


def _is_act(name: str) -> bool:
    return " act " in name


def _row(name: str, values: Sequence[float]) -> list[str]:
    """The name, a value for each corpus and, where there are several, how far the first is from the last."""
    style = ".2f"
    if max(values) >= 100:
        style = ",.0f"
    elif _is_act(name):
        style = ".1%"
    row = [name, *(format(value, style) for value in values)]
    if len(values) == 1:
        return row
    difference = f"{values[0] / values[-1] - 1:+.0%}" if values[-1] else "—"
    return [*row, difference]
