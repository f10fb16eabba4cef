"""Own belief states of a tuned stand-in, without a grammar and with each of the three: joint accuracy and valid states.

    labkit finetune --model mini-pythia-8m --bits 4 --corpus miniwoz --format changes --max-steps 500 --batch-size 2 \\
                    --eval-steps 0 --max-length 1024 --out states
    python tests/benchmarks/own_states.py states [changes dev 20 [all-said,said,schema,none [CORPUS]]]

The first argument is the folder of an adapter, or the name or file of a model as it is.

Only states are wanted, so replies are one token long. A state is valid if it is one of the grammar that allows whatever
schema, database and dialogue know. One JSON line a measurement.
"""

import json
import sys
import time
from pathlib import Path

import labkit
from labkit.corpora.types import Corpus, Dialogue, Predictions
from labkit.decoding.grammar import grammar_called
from labkit.metrics.dst import state_tracking
from labkit.models import LanguageModel, folded
from labkit.prompts.state_values import Heard
from labkit.prompts.text import state_text

SHORT = labkit.DecodingConfig(max_new_tokens=1)


def figures(predictions: Predictions, dialogues: list[Dialogue], corpus: Corpus) -> dict[str, float]:
    """Joint accuracy and slot F1 of predicted states, and the share of valid ones, in per cent."""
    grammar = labkit.state_grammar(corpus)
    pairs = []
    valid = 0
    for dialogue in dialogues:
        for turn, reply in enumerate(predictions[dialogue.key]):
            pairs.append((reply["state"], dialogue.turns[2 * turn].state))
            line = f" {state_text(reply['state'])}\n"
            valid += line in grammar.language(Heard.of(dialogue, turn))
    tracked = state_tracking(pairs)
    return {
        "turns": len(pairs),
        "joint_accuracy": round(tracked["joint_accuracy"], 1),
        "slot_f1": round(tracked["slot_f1"], 1),
        "valid": round(100 * valid / len(pairs), 1),
    }


def bot_of(source: str) -> LanguageModel:
    record = Path(source, "run.json")
    if not record.exists():
        return labkit.load_model(source)
    trained = json.loads(record.read_text(encoding="utf-8"))
    if trained["full_finetune"]:
        return labkit.load_model(source)
    return folded(labkit.load_model(trained["model"], bits=trained["bits"], adapter=source))


def main(
    adapter: str,
    format: str = "changes",
    split: str = "dev",
    n: str = "20",
    named: str = "all-said,said,schema,none",
    source: str = "miniwoz",
) -> None:
    corpus = labkit.load_corpus(source)
    dialogues = corpus[split][: int(n)]
    lm = bot_of(adapter)
    for name in named.split(","):
        grammar = grammar_called(name, corpus)
        started = time.process_time()
        how = {"format": format, "database": corpus.database, "grammar": grammar, "max_length": 700}
        predictions = labkit.predict(lm, dialogues, SHORT, **how)
        row = {"corpus": corpus.name, "grammar": name, "split": split, **figures(predictions, dialogues, corpus)}
        print(json.dumps(row | {"cpu_seconds": round(time.process_time() - started)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
