"""A row of the board for whole conversations: what ran, as in every row, and the scores under "conversation".

Its Success stands in columns of its own ("interactive", "strict"): it is not the Success of replies to the corpus' own
history, and the two must not be ranked with each other.
"""

from dataclasses import dataclass, field

from labkit.interaction.scores import ConversationScores
from labkit.interaction.user import UserConfig
from labkit.lab import Lab
from labkit.models import LanguageModel
from labkit.results.row import Row, Run, result_row, settings_of


@dataclass(frozen=True)
class _Unscored:
    """What `result_row` asks of scores, where there are none against references."""

    n_dialogues: int
    n_turns: int
    keys: tuple[str, ...]
    notes: tuple[str, ...]
    bleu: None = None
    inform: None = None
    success: None = None
    combined: None = None
    dst: None = None
    richness: dict[str, float] = field(default_factory=dict)


def conversation_row(
    lm: LanguageModel | Run,
    scores: ConversationScores,
    split: str = "test",
    *,
    decoding: object = None,
    user: UserConfig | None = None,
    lab: Lab | None = None,
) -> Row:
    """A row for conversations with a model; the source of its states stands in its task.

    Args:
        decoding: how a model at hand decoded (a `DecodingConfig`); a `Run` says it itself.
    """
    unscored = _Unscored(
        n_dialogues=scores.n,
        n_turns=sum(len(one.replies) for one in scores.conversations),
        keys=tuple(one.key for one in scores.conversations),
        notes=scores.notes,
    )
    task = f"conversations, states {scores.states}"
    row = result_row(
        task,
        lm,
        scores.corpus,
        split,
        unscored,
        decoding=decoding,
        seconds=scores.seconds,
        lab=lab,
    )
    record = scores.to_record()
    return {**row, "conversation": {**record, "user": settings_of(user or UserConfig())}}
