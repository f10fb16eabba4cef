from itertools import chain
from pathlib import Path

import pytest

from labkit.cli import main
from labkit.corpora import miniwoz
from labkit.corpora.types import Dialogue, Turn
from labkit.course.datacard import data_card, measure

CARD = Path(miniwoz.__file__).with_name("README.md")


def rows(text: str) -> dict[str, list[str]]:
    """{name: figures} of a Markdown table, without its header."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    return {name: values for name, *values in lines}


def test_measure_counts():
    """Trap: an act that occurs in two domains of one turn counts twice, or slots are counted at the first turn."""
    acts = {"Hotel-Inform": [("area", "north")], "Train-Inform": [("day", "monday")]}
    state = {"hotel": {"area": "north"}, "train": {"day": "monday"}, "taxi": {}}
    asks, replies = Turn("user", "North, Monday!", state, acts), Turn("bot", "ok", state, {"general-bye": []})
    figures = measure([Dialogue("A.json", ("hotel",), [asks, replies])])
    expected = {"user act Inform": 1, "bot act bye": 1, "slots per final state": 2, "domains per dialogue": 2}
    expected |= {"words per user turn": 2, "words per reply": 1, "turns per dialogue": 2, "vocabulary, users": 2}
    assert {name: figures[name] for name in expected} == expected


@pytest.mark.slow
def test_card_in_the_package_is_not_stale(capsys):
    """Trap: the generator changes and the card goes on describing the old corpus."""
    assert main(["data-card", "--corpus", "miniwoz"]) == 0
    fresh, kept = rows(capsys.readouterr().out), rows(CARD.read_text(encoding="utf-8"))
    assert set(fresh) <= set(kept) and {name: kept[name][:1] for name in fresh} == fresh


@pytest.mark.long
@pytest.mark.slow
def test_like_multiwoz_in_lengths_and_acts(miniwoz, multiwoz):
    """Trap: a stand-in with other lengths or acts, on which what students measure does not carry over."""
    corpora = [miniwoz, multiwoz]
    mini, real = (measure(list(chain.from_iterable(c[split] for split in c))[:1000]) for c in corpora)
    compared = [name for name in real if name.startswith(("turns", "domains", "slots", "words"))]
    compared += [name for name in real if " act " in name and real[name] >= 0.02]
    far = {name: mini[name] / real[name] for name in compared if not 0.75 <= mini.get(name, 0) / real[name] <= 1.25}
    assert len(compared) > 15 and far == {}
    assert rows(data_card(corpora)) == rows(CARD.read_text(encoding="utf-8"))


def test_unknown_corpus_is_one_line(capsys):
    """Trap: a traceback where a word is misspelt."""
    assert main(["data-card", "--corpus", "miniwos"]) == 2
    assert "miniwos" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 40])
def test_limit(limit, capsys):
    """Trap: vocabularies of corpora of different size are compared."""
    assert main(["data-card", "--limit", str(limit)]) == 0
    assert rows(capsys.readouterr().out)["dialogues"] == [f"{limit}.00"]
