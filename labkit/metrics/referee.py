"""mwzeval, the field's scorer (github.com/Tomiinek/MultiWOZ_Evaluation), run on any corpus that labkit has read."""

import contextlib
import io
from copy import deepcopy
from dataclasses import replace

from labkit.errors import LabError
from labkit.metrics.database import DOMAINS, searched_rows
from labkit.metrics.evaluation import Evaluation
from labkit.metrics.scores import Scores

INSTALL = "pip install 'mwzeval @ git+https://github.com/Tomiinek/MultiWOZ_Evaluation@7f19ee0' 'setuptools<81'"


def rescored(evaluation: Evaluation) -> Scores:
    """The scores with mwzeval's figures; intervals and explanations stay labkit's.

    Raises:
        LabError: mwzeval, or what it needs, is not installed.
    """
    result = run(evaluation)
    rates = result["success"] or {}
    figures = {name: by_domain.pop("total") for name, by_domain in rates.items()}
    figures |= {"per_domain": rates, "richness": result["richness"], "dst": result["dst"]}
    return replace(evaluation.scores(), bleu=result["bleu"]["mwz22"], scorer="mwzeval", **figures)


def run(evaluation: Evaluation) -> dict:
    """What mwzeval's `evaluate` returns for these predictions, on the references, states and goals of their corpus."""
    try:
        from mwzeval.database import MultiWOZVenueDatabase
        from mwzeval.metrics import Evaluator
    except ImportError as error:
        raise LabError("the scorer mwzeval cannot be used", str(error), INSTALL) from error
    gold, turns = evaluation.gold, dict(evaluation.predictions)
    if not evaluation.has_states:  # or else it would look for those of MultiWOZ
        for key, items in turns.items():
            turns[key] = [turn | {"state": state} for turn, state in zip(items, gold.states(key), strict=False)]
    scorer = Evaluator(bleu=False, success=False, richness=True)  # without the data of MultiWOZ, in place of which:
    scorer.bleu, scorer.success, scorer.dst = True, bool(gold.corpus.goals), evaluation.has_states
    scorer.reference_dialogs = {"mwz22": {key: gold.references(key) for key in turns}}
    scorer.gold_states = {key: gold.states(key) for key in turns}
    scorer.goals, scorer.booked_domains = gold.corpus.goals, gold.corpus.booked
    scorer.database = database = MultiWOZVenueDatabase.__new__(MultiWOZVenueDatabase)
    database.data = {domain: searched_rows(domain, gold.corpus.database.get(domain, [])) for domain in DOMAINS}
    database.data_keys = {domain: set(rows[0]) for domain, rows in database.data.items() if rows}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every unknown slot name; Scores.notes has them
        return scorer.evaluate(deepcopy(turns))  # which it normalises in place
