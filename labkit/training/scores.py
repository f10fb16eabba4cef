"""Scores of a model's replies while it trains."""

from collections.abc import Sequence

from labkit.corpora.types import Corpus, Dialogue
from labkit.models import LanguageModel
from labkit.training.config import SCORES, FinetuneConfig, HistoryRow, OwnScore

ROWS_PER_TRAINED_ROW = 4  # writing takes less memory than training
ROWS_ON_A_CPU = 32  # whose memory is the machine's: with 8 rows the same replies took 1.7 times as long


def validation_scores(
    lm: LanguageModel,
    dialogues: Sequence[Dialogue],
    corpus: Corpus,
    config: FinetuneConfig,
    own_score: OwnScore | None = None,
) -> HistoryRow:
    """Scores of greedy replies to validation dialogues, and the first as a sample; no goals: only BLEU and "own"."""
    from labkit import metrics
    from labkit.decoding.config import DecodingConfig
    from labkit.decoding.predict import predict

    n_rows = ROWS_PER_TRAINED_ROW * config.batch_size
    if lm.device == "cpu":
        n_rows = max(n_rows, ROWS_ON_A_CPU)
    decoding = DecodingConfig(batch_size=n_rows)
    predictions = predict(
        lm,
        dialogues,
        decoding,
        format=config.format,
        max_length=config.max_length,
        database=corpus.database,
    )
    scores = metrics.evaluate(predictions, corpus, config.dev_split, allow_lexical=True)
    row: HistoryRow = {}
    for name in SCORES:
        value = getattr(scores, name, None)
        if value is not None:
            row[f"eval_{name}"] = value
    if own_score is not None:
        row["eval_own"] = float(own_score(predictions))
    row["eval_sample"] = predictions[dialogues[0].key][0]["response"]
    return row
