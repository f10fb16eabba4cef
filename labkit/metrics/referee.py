"""mwzeval, the field's scorer (github.com/Tomiinek/MultiWOZ_Evaluation), run on any corpus that labkit has read.

mwzeval is made for MultiWOZ's own files. Here its `Evaluator` gets the corpus that labkit has read, through attributes
that it fills from those files otherwise: seen in its commit 7f19ee0, and compared with in the tests.
"""

import contextlib
import io
from copy import deepcopy
from dataclasses import replace

from labkit.corpora.types import Predictions
from labkit.errors import LabError
from labkit.metrics.database import DOMAINS, searched_rows
from labkit.metrics.dst import THEIRS
from labkit.metrics.evaluation import Evaluation
from labkit.metrics.scores import MwzevalScores, Scores
from labkit.metrics.success import TOTAL

INSTALL = "pip install 'mwzeval @ git+https://github.com/Tomiinek/MultiWOZ_Evaluation@7f19ee0' 'setuptools<81'"


def rescored(evaluation: Evaluation) -> Scores:
    """The scores with mwzeval's figures; intervals and explanations stay labkit's.

    Raises:
        LabError: mwzeval, or what it needs, is not installed.
    """
    theirs = run(evaluation)
    ours = evaluation.scores()
    rates = theirs["success"] or {}
    totals = {name: by_domain.pop(TOTAL) for name, by_domain in rates.items()}  # {"inform": …, "success": …}
    dst = None
    if ours.dst and theirs["dst"]:
        dst = dict(ours.dst)
        for name, figure in theirs["dst"].items():
            dst[name + THEIRS] = figure
    return replace(
        ours,
        bleu=theirs["bleu"]["mwz22"],
        per_domain=rates,
        richness=theirs["richness"],
        dst=dst,
        scorer="mwzeval",
        **totals,
    )


def run(evaluation: Evaluation) -> MwzevalScores:
    """What mwzeval's `evaluate` returns for these predictions, on the references, states and goals of their corpus."""
    try:
        from mwzeval.database import MultiWOZVenueDatabase
        from mwzeval.metrics import Evaluator
    except ImportError as error:
        raise LabError("the scorer mwzeval cannot be used", str(error), INSTALL) from error
    gold = evaluation.gold
    keys = list(evaluation.predictions)

    scorer = Evaluator(bleu=False, success=False, richness=True)  # without the data of MultiWOZ, in place of which:
    scorer.bleu = True
    scorer.success = bool(gold.corpus.goals)
    scorer.dst = evaluation.has_states
    scorer.reference_dialogs = {"mwz22": {key: gold.references(key) for key in keys}}
    scorer.gold_states = {key: gold.states(key) for key in keys}
    scorer.goals = gold.corpus.goals
    scorer.booked_domains = gold.corpus.booked

    database = MultiWOZVenueDatabase.__new__(MultiWOZVenueDatabase)  # its __init__ reads MultiWOZ's files
    database.data = {}
    database.data_keys = {}
    for domain in DOMAINS:
        rows = searched_rows(domain, gold.corpus.database.get(domain, []))
        database.data[domain] = rows
        if rows:
            database.data_keys[domain] = set(rows[0])
    scorer.database = database

    predictions = deepcopy(_with_states(evaluation))  # a copy: it normalises them in place
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every unknown slot name; Scores.notes has them
        return scorer.evaluate(predictions)


def _with_states(evaluation: Evaluation) -> Predictions:
    """The predictions, with the annotated states where none are: mwzeval would look for those of MultiWOZ."""
    if evaluation.has_states:
        return evaluation.predictions
    result: Predictions = {}
    for key, turns in evaluation.predictions.items():
        states = evaluation.gold.states(key)
        result[key] = [{**turn, "state": state} for turn, state in zip(turns, states, strict=False)]
    return result
