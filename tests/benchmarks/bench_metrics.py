"""How fast labkit scores 1,000 dialogues with all metrics, against mwzeval in the same run where it is installed.

    python tests/benchmarks/bench_metrics.py [FOLDER in the MultiWOZ layout, with predictions/ubar.json.gz]

Prints one JSON line. Times are processor seconds, which other programs on the machine disturb least. Imports and the
reading of the corpus come before the clock for both; "first" still normalises the references and indexes the database.
"again" is the median of several: one in three meets a full collection of garbage, which takes a quarter longer.
"""

import json
import sys
import time
from copy import deepcopy
from pathlib import Path
from statistics import median

from labkit.corpora import load_corpus
from labkit.errors import LabError
from labkit.metrics import evaluate, gold_predictions, read_predictions, referee
from labkit.metrics.evaluation import Evaluation, gold_of
from labkit.metrics.normalization import respaced

AGAIN = 9  # rounds of which the median is taken


def timed(function, *args):
    before = time.process_time()
    value = function(*args)
    return round(time.process_time() - before, 3), value


def main(folder: Path) -> None:
    corpus = load_corpus(folder, splits=["test"]) if folder.is_dir() else load_corpus("miniwoz")
    file = folder / "predictions" / "ubar.json.gz"
    predictions = read_predictions(file) if file.exists() else gold_predictions(corpus["test"])
    import sacrebleu.metrics  # noqa: F401

    respaced("(imports sacremoses)")
    result = {"corpus": corpus.name, "system": "ubar" if file.exists() else "gold replies"}
    result["first_seconds"], scores = timed(evaluate, predictions, corpus)
    result |= {"dialogues": scores.n_dialogues, "turns": scores.n_turns}
    result["again_seconds"] = median(timed(evaluate, predictions, corpus)[0] for _ in range(AGAIN))
    result["100_dialogues_seconds"], _ = timed(evaluate, dict(list(predictions.items())[:100]), corpus)
    result["intervals_seconds"], _ = timed(lambda: scores.intervals)
    try:
        evaluation = Evaluation(deepcopy(predictions), gold_of(corpus, "test"))
        result["mwzeval_seconds"], theirs = timed(referee.run, evaluation)
        result["ratio"] = round(result["mwzeval_seconds"] / result["first_seconds"], 1)
        result["equal"] = theirs == scores.to_mwzeval()
    except LabError as error:
        result["mwzeval"] = str(error)
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2].parent / "shared" / "data" / "multiwoz"))
