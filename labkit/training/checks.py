"""A configuration that cannot be met is one line, before any work begins."""

import math
from collections.abc import Collection

from labkit.corpora.types import SPLIT_ALIASES
from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.prompts import FORMATS, RECIPES
from labkit.training.config import OPTIMIZERS, SCORES, STARTS, FinetuneConfig, OwnScore

LARGEST_SEED = 2**63 - 1  # of torch's generators
# name: (smallest, largest) value of a whole number
COUNTS = {
    "max_steps": (1, math.inf),
    "batch_size": (1, math.inf),
    "gradient_accumulation_steps": (1, math.inf),
    "save_steps": (1, math.inf),
    "lora_r": (1, math.inf),
    "max_length": (2, math.inf),
    "eval_steps": (0, math.inf),
    "score_dialogues": (0, math.inf),
    "max_dev_dialogues": (0, math.inf),
    "warmup_steps": (0, math.inf),
    "seed": (0, LARGEST_SEED),
    "max_train_dialogues": (1, math.inf),
    "early_stopping_patience": (1, math.inf),
    "lora_alpha": (1, math.inf),
}
# name: (smallest, largest) value of a number; infinity itself is none
NUMBERS = {
    "learning_rate": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "max_grad_norm": (0.0, math.inf),
    "lora_dropout": (0.0, 0.999),
}


def check_config(config: FinetuneConfig, own_score: OwnScore | None = None) -> None:
    """Raises:
    LabError: a value that cannot be, or two that exclude one another; what is allowed is named.
    """
    _check_ranges(config)
    _check_words(config)
    _check_splits(config)
    _check_scores(config, own_score)
    _check_reporter(config.report_to)


def _check_ranges(config: FinetuneConfig) -> None:
    for name, (low, high) in COUNTS.items():
        value = getattr(config, name)
        if value is None:  # not limited
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise LabError(f"{name}={value}", "", f"choose a whole number{_range(low, high)}")
    for name, (low, high) in NUMBERS.items():
        value = getattr(config, name)
        if value is None:  # the default of the model
            continue
        if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise LabError(f"{name}={value}", "", f"choose a number{_range(low, high)}")


def _range(low: float, high: float) -> str:
    if high == math.inf:
        return f" of {low:g} or more"
    return f" from {low:g} to {high:g}"


def _check_words(config: FinetuneConfig) -> None:
    from transformers import SchedulerType

    schedules = [schedule.value for schedule in SchedulerType]
    choices: dict[str, Collection[str]] = {
        "optim": OPTIMIZERS,
        "format": FORMATS,
        "recipe": RECIPES,
        "init_lora_weights": STARTS,
        "lr_scheduler": schedules,
    }
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed:
            raise LabError(f"{name}={value!r}", "", f"choose one of {', '.join(allowed)}")


def _check_splits(config: FinetuneConfig) -> None:
    if SPLIT_ALIASES.get(config.dev_split, config.dev_split) == "test":
        raise LabError("the test split is not for validation", "", "choose dev_split='dev'")
    if SPLIT_ALIASES.get(config.train_split, config.train_split) == "test":
        raise LabError("the test split is not for training", "", "choose train_split='train'")


def _check_scores(config: FinetuneConfig, own_score: OwnScore | None) -> None:
    metric = config.metric_for_best_model
    if metric == "own" and own_score is None:
        raise LabError("metric_for_best_model='own' needs your score", "", "finetune(…, own_score=your_function)")
    if metric not in (None, *SCORES) or (config.early_stopping_patience and not metric):
        found = f"metric_for_best_model={metric!r}"
        raise LabError("no such score to choose the adapter by", found, f"choose one of {', '.join(SCORES)}")
    if not config.eval_steps and (metric or config.score_dialogues):
        raise LabError("scores need a validation", "eval_steps=0", "set eval_steps to every how many steps")
    needs_replies = metric not in (None, "loss")
    has_no_replies = config.format == "dialogs"
    if (needs_replies and not config.score_dialogues) or (config.score_dialogues and has_no_replies):
        found = f"score_dialogues={config.score_dialogues}, format={config.format!r}"
        raise LabError("no replies would be scored", found, "set score_dialogues, and another format than dialogs")


def _check_reporter(name: str) -> None:
    from transformers.integrations import get_available_reporting_integrations

    if name == "none":
        return
    known = get_available_reporting_integrations()
    if name not in known:
        found = f"installed and known to transformers: {', '.join(known) or 'none'}"
        raise LabError(f"cannot report to {name!r}", found, f"pip install {name}, or choose none")


def check_fit(lm: LanguageModel, config: FinetuneConfig) -> None:
    """Raises:
    LabError: the model reads less than max_length, has an adapter, its weights cannot be trained in full, or none of
    its layers is meant by lora_modules.
    """
    from labkit.models.adapters import check_no_adapter
    from labkit.models.layers import lora_targets

    check_no_adapter(lm)
    if config.max_length > lm.context_length:
        found = f"{lm.name} was made for {lm.context_length}"
        raise LabError(f"max_length={config.max_length} is too long", found, f"max_length={lm.context_length}")
    if config.full_finetune and lm.bits < 16:
        raise LabError("quantised weights cannot be trained in full", f"bits={lm.bits}", "choose bits=16 or 32")
    if not config.full_finetune:
        lora_targets(lm.model, config.lora_modules)  # before anything is written into the folder of the run
