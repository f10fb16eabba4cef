"""Direct preference optimisation (Rafailov et al. 2023): learn from pairs of replies of which one is better.

How a notebook calls it (the pairs come from `labkit.interaction.try_replies`):

    lm = labkit.merge(labkit.load_model("mini-pythia", adapter=tuned))
    config = FinetuneConfig(max_steps=60, batch_size=4, learning_rate=5e-4, train_embeddings=False)
    result = labkit.prefer(lm, pairs, config, "dpo", beta=0.1, loss=dpo_loss)     # or a loss of one's own
    better = labkit.load_adapter(lm, result.adapter)

A rate that suits `finetune` is too high: at 1e-3 the stand-in learnt to ask and never to offer; see
tests/benchmarks/learning.md. It is the loop of `labkit.finetune`: the same folder, checkpoints, interruption and
history. For larger models trl's DPOTrainer does the same; labkit does not need it.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.corpora.search import Database, VenueDatabase
from labkit.errors import LabError
from labkit.machine.hardware import seed_everything
from labkit.models import LanguageModel
from labkit.models.likelihood import log_probabilities
from labkit.prompts.format import searched_in
from labkit.prompts.preferences import Preference, PreferenceExample, preference_examples
from labkit.training.checks import check_config, check_fit
from labkit.training.config import FinetuneConfig, FinetuneResult, PreferenceLoss, Watcher
from labkit.training.data import Collator
from labkit.training.record import RunRecord, fingerprint
from labkit.training.run import once, settled, take_steps

if TYPE_CHECKING:
    import datasets
    from torch import Tensor

    from labkit.training.trainer import TargetTrainer

AT_ONCE = 8  # pairs whose log-probabilities are computed together


def dpo_loss(
    chosen: "Tensor", rejected: "Tensor", chosen_reference: "Tensor", rejected_reference: "Tensor", beta: float
) -> "Tensor":
    """-log sigmoid(beta ((log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected)))), the mean.

    Args:
        chosen, rejected: log-probabilities [B] of the replies, in nats, by the model that learns.
        chosen_reference, rejected_reference: the same [B] by the model as it was.
        beta: how much a step away from the reference costs; the smaller, the farther the model goes.
    """
    from torch.nn.functional import logsigmoid

    chosen_gain = chosen - chosen_reference  # [B]
    rejected_gain = rejected - rejected_reference  # [B]
    margin = beta * (chosen_gain - rejected_gain)  # [B]
    return -logsigmoid(margin).mean()


def prefer(
    lm: LanguageModel,
    preferences: Sequence[Preference],
    config: FinetuneConfig = FinetuneConfig(),
    out: Path | str = "preferred",
    *,
    beta: float = 0.1,
    loss: PreferenceLoss = dpo_loss,
    database: Database | VenueDatabase | None = None,
    watch: Watcher | None = None,
) -> FinetuneResult:
    """Train an adapter into `out` that finds the chosen replies likelier than the rejected ones; go on if interrupted.

    The reference is `lm` as it is: its log-probabilities are computed once, before the first step. Of `config` all
    that concerns steps, LoRA and `format` counts; `batch_size` counts pairs. There is no validation.

    Args:
        lm: a model without an adapter; merge the one that it was tuned with.
        loss: as `dpo_loss`.
        database: what the `db` formats look states up in.

    Raises:
        LabError: no pairs, a pair of equal replies, a `beta` that cannot be, a loss that is no single number; or as
            `labkit.finetune`.
    """
    out = Path(out)
    config = replace(settled(config, lm), eval_steps=0, model=lm.name, bits=lm.bits)
    check_config(config)
    check_fit(lm, config)
    _check(preferences, beta)
    pairs = preference_examples(
        preferences, lm.codec, config.format, config.max_length, database=searched_in(config.format, database)
    )
    what = f"{len(pairs)} pairs {_digest(preferences)}, beta={beta:g}, {fingerprint(loss)}"
    run = RunRecord(config, "preferences", own_score=None, preferences=what, merged=lm.merged)

    def work() -> FinetuneResult:
        seed_everything(config.seed)
        rows = _dataset(lm, pairs)

        def make(tuned: LanguageModel, step_type: str) -> "TargetTrainer":
            from labkit.training.preference_trainer import make_preference_trainer

            return make_preference_trainer(tuned, rows, config, out=out, step_type=step_type, loss=loss, beta=beta)

        return take_steps(lm, run, out, make, watch=watch)

    return once(out, run, work, watch)


def _digest(preferences: Sequence[Preference]) -> str:
    """A few letters that other preferences would not have."""
    told = [asdict(one) for one in preferences]
    text = json.dumps(told, sort_keys=True)  # half a character is an escape in it
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check(preferences: Sequence[Preference], beta: float) -> None:
    if not preferences:
        raise LabError("there is nothing to prefer", "no pairs", "play more conversations, or allow more faults")
    is_number = isinstance(beta, int | float) and not isinstance(beta, bool)
    if not is_number or not 0 < beta < math.inf:
        raise LabError(f"beta cannot be {beta!r:.40}", "", "give a number above 0, such as 0.1")


@dataclass(frozen=True)
class PairLikelihood:
    """Log-probabilities, in nats, of the two replies of a preference."""

    chosen: float
    rejected: float

    @property
    def is_right(self) -> bool:
        """The chosen reply is the likelier one."""
        return self.chosen > self.rejected


def pair_likelihoods(
    lm: LanguageModel,
    preferences: Sequence[Preference],
    *,
    format: str = "turns",
    max_length: int = 1024,
    database: Database | VenueDatabase | None = None,
) -> list[PairLikelihood]:
    """How likely a model finds the replies of each preference; the share of `is_right` says what it has learnt."""
    longest = min(max_length, lm.context_length)
    pairs = preference_examples(preferences, lm.codec, format, longest, database=searched_in(format, database))
    return _likelihoods(lm, pairs)


def _likelihoods(lm: LanguageModel, pairs: Sequence[PreferenceExample]) -> list[PairLikelihood]:
    import torch

    collate = Collator(lm.codec.pad_id)
    result = []
    for start in range(0, len(pairs), AT_ONCE):
        rows = []
        for pair in pairs[start : start + AT_ONCE]:
            for example in pair:
                rows.append({"input_ids": example.input_ids, "labels": example.labels})
        batch = {name: values.to(lm.base.device) for name, values in collate(rows).items()}
        with torch.inference_mode():
            found = log_probabilities(lm.model, **batch).tolist()  # [2B]
        for chosen, rejected in zip(found[::2], found[1::2], strict=True):
            result.append(PairLikelihood(chosen, rejected))
    return result


def _dataset(lm: LanguageModel, pairs: Sequence[PreferenceExample]) -> "datasets.Dataset":
    """A row a pair, with the reference's log-probabilities and, to put similar ones together, the longer length."""
    import datasets

    rows = []
    for pair, reference in zip(pairs, _likelihoods(lm, pairs), strict=True):
        rows.append(
            {
                "chosen_ids": pair.chosen.input_ids,
                "chosen_labels": pair.chosen.labels,
                "rejected_ids": pair.rejected.input_ids,
                "rejected_labels": pair.rejected.labels,
                "reference": [reference.chosen, reference.rejected],
                "length": max(len(pair.chosen.input_ids), len(pair.rejected.input_ids)),
            }
        )
    return datasets.Dataset.from_list(rows)
