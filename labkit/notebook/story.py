"""One dialogue that runs through the course: in each notebook another system answers it, and the view is the same."""

from html import escape

from labkit.corpora import Corpus
from labkit.corpora.types import Dialogue, Predictions
from labkit.metrics import evaluate, gold_predictions
from labkit.notebook.view import show_dialogue, show_explanation
from labkit.shown import Shown

SPLIT = "dev"
CHOSEN = {"miniwoz": "minidev00011"}  # corpus: the dialogue, chosen after a run since it shows what changes


def story(corpus: Corpus) -> Dialogue:
    """The dialogue of the course, from the dev split.

    Of a corpus that is not known here, the first whose user wants a venue and something told about it; else the first.
    """
    dialogues = corpus[SPLIT]
    for dialogue in dialogues:
        if dialogue.key == CHOSEN.get(corpus.name):
            return dialogue
    for dialogue in dialogues:
        goal = corpus.goals.get(dialogue.key, {})
        if any(wanted.get("informable") and wanted.get("requestable") for wanted in goal.values()):
            return dialogue
    return dialogues[0]


def show_story(corpus: Corpus, who: str, predictions: Predictions | None = None) -> Shown:
    """The dialogue of the course as `who` answers it: what was offered and told, and whether it passes.

    Args:
        predictions: what `labkit.predict` returns for it, others are ignored; by default the corpus' own replies.
    """
    dialogue = story(corpus)
    told = f"The dialogue of the course, answered by {who}"
    some = predictions or gold_predictions([dialogue])
    if dialogue.key in corpus.goals and corpus.database:
        scores = evaluate({dialogue.key: some[dialogue.key]}, corpus, SPLIT, allow_lexical=True)
        shown = show_explanation(scores.explain(dialogue.key))
    else:
        shown = show_dialogue(dialogue, some, delexicalised=True)
    return Shown(f"<p>{escape(told)}</p>{shown.html}", f"{told}\n{shown.text}")
