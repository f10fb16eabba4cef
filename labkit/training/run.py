"""LoRA fine-tuning (Hu et al. 2022) on dialogues; QLoRA (Dettmers et al. 2023) where the base model is quantised.

A dialogue is one training sequence with the loss on all its bot turns, and the output head is applied to those
positions only; transformers' Trainer does the steps. A run writes into one folder, and the same call goes on from it.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import SPLIT_ALIASES, Corpus
from labkit.errors import LabError
from labkit.machine.hardware import seed_everything
from labkit.models import LanguageModel, count_parameters, load_model, memory_errors
from labkit.models.names import STAND_INS
from labkit.storage import alone_in, last_checkpoint, read_json, write_json
from labkit.training.advice import _check_fit, _smaller
from labkit.training.config import LOADING, OPTIMIZERS, SCORES, FinetuneConfig, FinetuneResult, OwnScore, Watcher
from labkit.training.data import _dataset, split_dialogues
from labkit.training.loop import _compute_in, _computes_in, _follower, _scores, _train, _trainable, _trainer
from labkit.training.record import history_of

if TYPE_CHECKING:
    pass


def finetune(
    lm: LanguageModel | None,
    corpus: Corpus,
    config: FinetuneConfig = FinetuneConfig(),
    out: Path | str = "adapter",
    watch: Watcher | None = None,
    own_score: OwnScore | None = None,
) -> FinetuneResult:
    """Train an adapter (with `full_finetune` the model) into `out`; the same call again goes on, or returns at once.

    `lm`: a loaded base model, which stays as it is, however the run ends (full fine-tuning trains a copy); None loads
    `config.model`. In `out`: the adapter, run.json (the configuration), checkpoints/, and, written last, result.json.
    `watch` is called with the history so far whenever it grows (`plots.live` draws it).
    `own_score` gets the replies to the `score_dialogues` at every validation: "own" among the scores.

    Raises:
        LabError: a configuration that cannot be met, another configuration's run in `out`, out of memory, or an
            interrupt (adapter and checkpoint are then written).
    """
    out = Path(out)
    rate = 4e-3 if (lm.stand_in if lm else config.model in STAND_INS) else 1e-3
    config = replace(config, learning_rate=config.learning_rate or rate)
    run = {**asdict(config), "corpus": corpus.name}
    if lm is not None:
        run |= {"model": lm.name, "bits": lm.bits}
    if done := _finished(run, out):
        return done
    _check(config, own_score)
    with alone_in(out):  # who waited for another process finds what it made
        return _finished(run, out) or _finetune(lm, corpus, config, run, out, watch, own_score)


def _finetune(
    lm: LanguageModel | None, corpus: Corpus, config: FinetuneConfig, run: Any, out: Path, watch: Any, own_score: Any
) -> FinetuneResult:
    """`finetune` in a folder that is this process's alone and whose run is not finished."""
    train, dev = split_dialogues(corpus, config)
    seed_everything(config.seed)
    base = lm or load_model(config.model, **{name: getattr(config, name) for name in LOADING})
    _check_fit(base, config)
    write_json(out / "run.json", run)
    with memory_errors(partial(_smaller, base, config)):
        checkpoint = last_checkpoint(out / "checkpoints")
        tuned = _trainable(base, config, checkpoint)
        _compute_in(tuned, _computes_in(base))
        scored = dev[: config.score_dialogues]
        score = partial(_scores, tuned, scored, corpus, config, own_score) if scored else dict
        data = [_dataset(dialogues, base.codec, config) for dialogues in (train, dev)]
        trainer = _trainer(tuned, *data, config, out, score)
        trainer.add_callback(_follower(trainer, tuned, config, out, watch))
        seconds = _train(trainer, tuned, config, out, checkpoint)
    trainable, total = count_parameters(tuned.model)
    history, speed = history_of(trainer.state.log_history), trainer.target_tokens / seconds
    result = FinetuneResult(out, history, trainable, total, seconds, speed)
    if trainer.is_world_process_zero():
        write_json(out / "result.json", {**asdict(result), "adapter": "."})
    return result


def _finished(run: dict[str, Any], out: Path) -> FinetuneResult | None:
    """The result in `out`, if there is one. A folder belongs to one configuration."""
    if (out / "run.json").exists():
        old = asdict(FinetuneConfig()) | read_json(out / "run.json")  # fields that an older labkit did not have
        differing = [f"{key} {old.get(key)!r} → {run.get(key)!r}" for key in old | run if old.get(key) != run.get(key)]
        if differing:
            action = "delete it or change --out"
            raise LabError(f"{out} holds a run of another configuration", "; ".join(differing), action)
    result = out / "result.json"
    return FinetuneResult(**read_json(result) | {"adapter": out}) if result.exists() else None


def _check(config: FinetuneConfig, own_score: OwnScore | None = None) -> None:
    if SPLIT_ALIASES.get(config.dev_split, config.dev_split) == "test":
        raise LabError("the test split is not for validation", "", "choose dev_split='dev'")
    if config.optim not in OPTIMIZERS:
        raise LabError(f"unknown optimiser {config.optim!r}", "", f"choose one of {', '.join(OPTIMIZERS)}")
    metric, generated = config.metric_for_best_model, set(SCORES) - {"loss"}
    if metric == "own" and own_score is None:
        raise LabError("metric_for_best_model='own' needs your score", "", "finetune(…, own_score=your_function)")
    if metric not in (None, *SCORES) or (config.early_stopping_patience and not metric):
        found = f"metric_for_best_model={metric!r}"
        raise LabError("no such score to choose the adapter by", found, f"choose one of {', '.join(SCORES)}")
    if not config.eval_steps and (metric or config.score_dialogues):
        raise LabError("scores need a validation", "eval_steps=0", "set eval_steps to every how many steps")
    if (metric in generated and not config.score_dialogues) or (config.score_dialogues and config.format == "dialogs"):
        found = f"score_dialogues={config.score_dialogues}, format={config.format!r}"
        raise LabError("no replies would be scored", found, "set score_dialogues, and format to turns or state")
    _check_reporter(config.report_to)
    if config.init_lora_weights not in ("default", "gaussian", "loftq"):
        raise LabError(f"init_lora_weights={config.init_lora_weights!r}", "", "choose default, gaussian or loftq")
    counted = ("max_steps", "batch_size", "gradient_accumulation_steps", "save_steps")
    counts = {name: getattr(config, name) for name in counted}
    if min(counts.values()) < 1:
        raise LabError("counts begin at 1", str(counts), "mend the configuration")


def _check_reporter(name: str) -> None:
    from transformers.integrations import get_available_reporting_integrations

    if name != "none" and name not in (known := get_available_reporting_integrations()):
        found = f"installed and known to transformers: {', '.join(known) or 'none'}"
        raise LabError(f"cannot report to {name!r}", found, f"pip install {name}, or choose none")
