"""An instruction-tuned model on a corpus, asked in its own chat template: the row of results.md that is fair to it.

    python tests/benchmarks/chat_row.py MODEL CORPUS [dialogues] [beams] [out.json]

The first test dialogues, annotated belief states, with the instruction of notebook 3. A model that is asked in the
lab's raw format, as `labkit generate` does, guesses that format. One JSON line; replies go to `out.json` after every
batch.
"""

import json
import sys
import time
from pathlib import Path

import labkit
from labkit.corpora.types import Predictions

INSTRUCTION = "You are a clerk. Answer with placeholders such as [restaurant_name] in place of names and numbers."


def main(model: str, corpus: str, n: str = "100", beams: str = "2", out: str = "chat.json") -> None:
    loaded = labkit.load_corpus(corpus, splits=["test"])
    dialogues = loaded["test"][: int(n)]
    lm = labkit.load_model(model, bits=4)
    strategy = {"strategy": "beam", "num_beams": int(beams)} if int(beams) > 1 else {}
    written: Predictions = {}

    def keep(batch: Predictions) -> None:
        written.update(batch)
        Path(out).write_text(json.dumps(written), encoding="utf-8")

    started = time.process_time()
    how = {"chat": True, "instruction": INSTRUCTION, "on_batch": keep}
    predictions = labkit.predict(lm, dialogues, labkit.DecodingConfig(**strategy), **how)
    seconds = round(time.process_time() - started)
    scores = labkit.evaluate(predictions, loaded)
    row = {"dialogues": len(dialogues), "beams": int(beams), "cpu_seconds": seconds}
    for name, (low, high) in scores.intervals.items():
        value = getattr(scores, name)
        row[name] = [round(figure, 1) for figure in (value, low, high)]
    print(json.dumps(row))


if __name__ == "__main__":
    main(*sys.argv[1:])
