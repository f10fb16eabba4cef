"""LoRA fine-tuning (Hu et al. 2022) on dialogues; QLoRA (Dettmers et al. 2023) where the base model is quantised.

A dialogue is one training sequence with the loss on all its bot turns, and the output head is applied to those
positions only; transformers' Trainer does the steps. A run writes into one folder, and the same call goes on from it.
"""

import copy
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.corpora.types import Corpus, Dialogue
from labkit.errors import Interrupted
from labkit.machine.hardware import seed_everything
from labkit.machine.kept_memory import memory_kept
from labkit.models import (
    LanguageModel,
    attach_adapter,
    count_parameters,
    embedding_names,
    layer_kinds,
    load_model,
    memory_errors,
)
from labkit.models.names import STAND_INS
from labkit.prompts.format import check_format, searched_in
from labkit.storage import LIST, alone_in, atomic_folder, last_checkpoint, remove_leftovers, writable_folder, write_json
from labkit.training.advice import smaller
from labkit.training.checks import check_config, check_fit
from labkit.training.config import LOADING, FinetuneConfig, FinetuneResult, OwnScore, Watcher
from labkit.training.data import dataset_of, split_dialogues
from labkit.training.embeddings import trains_embeddings
from labkit.training.precision import compute_in, computes_in, keep_trained_in_float32
from labkit.training.record import (
    CHECKPOINTS,
    RESULT,
    RUN,
    WEIGHT_FILES,
    RunRecord,
    earlier_record,
    finished,
    history_of,
    longest_warmup,
    record_of,
    write_result,
    write_weights,
)
from labkit.training.scores import validation_scores
from labkit.training.together import first_says

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from labkit.training.trainer import TargetTrainer

MakeTrainer = Callable[[LanguageModel, str], "TargetTrainer"]
STAND_IN_RATE = 4e-3
OTHER_RATE = 1e-3
PARTIAL = ".partial"  # the folder that weights are written into before they are moved beside run.json
WRITTEN = (RUN, RESULT, CHECKPOINTS, "best", PARTIAL, "adapter_config.json", "config.json", *WEIGHT_FILES)


def finetune(
    lm: LanguageModel | None,
    corpus: Corpus,
    config: FinetuneConfig = FinetuneConfig(),
    out: Path | str = "adapter",
    *,
    watch: Watcher | None = None,
    own_score: OwnScore | None = None,
    callbacks: "Sequence[TrainerCallback]" = (),
) -> FinetuneResult:
    """Train an adapter (with `full_finetune` the model) into `out`; the same call again goes on, or returns at once.

    `lm`: a loaded base model, which stays as it is, however the run ends (full fine-tuning trains a copy of it); None
    loads `config.model`. In `out`: the adapter, run.json (the configuration), checkpoints/, and, written last,
    result.json. `watch` is called with the history so far whenever it grows, and once with that of a finished run
    (`plots.live` draws it). `own_score` gets the replies to the `score_dialogues` at every validation: "own" among the
    scores. `callbacks` are a student's, for transformers' Trainer. They hear of everything after labkit's own, and may
    end the run; decided from `state.log_history`, a run that goes on decides the same.

    Raises:
        Interrupted: somebody stopped it; adapter and checkpoint are written, and the same call goes on.
        OutOfMemory: with the smallest change that would fit.
        LabError: a configuration that cannot be met, another configuration's run or foreign files in `out`, or a loss
            that is no number.
    """
    out = Path(out)
    config = settled(config, lm)
    check_config(config, own_score)
    check_format(config.format, corpus.database)
    if lm is not None:
        check_fit(lm, config)
    run = record_of(lm, corpus, config, own_score, callbacks)

    def work() -> FinetuneResult:
        return _finetune(lm, corpus, run, out, watch=watch, own_score=own_score, callbacks=callbacks)

    return once(out, run, work, watch)


def once(out: Path, run: RunRecord, work: Callable[[], FinetuneResult], watch: Watcher | None) -> FinetuneResult:
    """What `work` makes in a folder that is this process's alone; a run that has finished there is only read.

    Raises:
        LabError: another configuration's run or foreign files in `out`; or as `work`.
    """
    if not (out / RUN).exists():
        writable_folder(out, writes=WRITTEN)
    earlier_record(out, run)
    with alone_in(out):  # who waited for another process finds what it made
        done = finished(out)
        if not first_says(done is not None):
            return work()
    done = done or finished(out)
    if watch:
        watch(done.history)
    return done


def settled(config: FinetuneConfig, lm: LanguageModel | None) -> FinetuneConfig:
    """The configuration with what is left to the lab: the learning rate, and a warm-up that the run has room for."""
    is_stand_in = lm.stand_in if lm is not None else config.model in STAND_INS
    rate = config.learning_rate
    if rate is None:
        rate = STAND_IN_RATE if is_stand_in else OTHER_RATE
    warmup = config.warmup_steps
    if isinstance(warmup, int) and isinstance(config.max_steps, int):
        warmup = min(warmup, longest_warmup(config.max_steps))
    return replace(config, learning_rate=rate, warmup_steps=warmup)


def _finetune(
    lm: LanguageModel | None,
    corpus: Corpus,
    run: RunRecord,
    out: Path,
    *,
    watch: Watcher | None,
    own_score: OwnScore | None,
    callbacks: "Sequence[TrainerCallback]",
) -> FinetuneResult:
    """`finetune` in a folder that is this process's alone and whose run is not finished."""
    config = run.config
    train, dev = split_dialogues(corpus, config)
    seed_everything(config.seed)
    base = lm or load_model(config.model, **{name: getattr(config, name) for name in LOADING})

    def make(tuned: LanguageModel, step_type: str) -> "TargetTrainer":
        return _trainer(tuned, corpus, config, out, train=train, dev=dev, step_type=step_type, own_score=own_score)

    return take_steps(base, run, out, make, watch=watch, callbacks=callbacks, is_handed=lm is not None)


def take_steps(
    base: LanguageModel,
    run: RunRecord,
    out: Path,
    make: MakeTrainer,
    *,
    watch: Watcher | None,
    callbacks: "Sequence[TrainerCallback]" = (),
    is_handed: bool = True,
) -> FinetuneResult:
    """Train with the Trainer of `make(model with what is trainable, number type of a step)`, from the last checkpoint.

    The caller has set all seeds. `is_handed`: somebody else has `base`, too, whose weights stay as they are.
    """
    config = run.config
    check_fit(base, config)
    earlier = earlier_record(out, run) or {}
    step_type = str(earlier.get("computes_in") or computes_in(base))
    write_json(out / RUN, replace(run, computes_in=step_type).to_json())
    for name in ("best", PARTIAL):
        remove_leftovers(out / name)
    checkpoint = last_checkpoint(out / CHECKPOINTS)
    started = time.perf_counter()
    from labkit.training.callbacks import own_callbacks

    with memory_errors(partial(smaller, base, config)):
        tuned = trainable(base, config, checkpoint, step_type, is_handed)
        trainer = make(tuned, step_type)
        for callback in own_callbacks(trainer, tuned, config, out, watch):
            trainer.add_callback(callback)
        for callback in callbacks:
            trainer.add_callback(callback)
        _train(trainer, tuned, config, out, checkpoint=checkpoint)
    n_trainable, n_total = count_parameters(tuned.model)
    result = FinetuneResult(
        adapter=out,
        history=history_of(trainer.state.log_history),
        trainable=n_trainable,
        total=n_total,
        seconds=time.perf_counter() - started,
        tokens_per_second=int(trainer.target_tokens) / trainer.step_seconds if trainer.step_seconds else 0.0,
    )
    if trainer.is_world_process_zero():
        write_result(result)
    return result


def trainable(
    lm: LanguageModel, config: FinetuneConfig, checkpoint: str | None, step_type: str, is_handed: bool = True
) -> LanguageModel:
    """A model over `lm`'s weights with what is to be trained: a new LoRA, or all weights in float32, copied where
    somebody else has them, too."""
    if config.full_finetune:
        return _trainable_in_full(lm, config, checkpoint, is_handed)
    from labkit.training.lora_layers import quicken

    starts = {"default": True, "gaussian": "gaussian", "loftq": "loftq"}
    tuned = attach_adapter(
        lm,
        r=config.lora_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        modules=config.lora_modules,
        gradient_checkpointing=config.gradient_checkpointing,
        init_lora_weights=starts[config.init_lora_weights],
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        modules_to_save=embedding_names(lm.model) if trains_embeddings(lm, config) else None,
    )
    print(f"LoRA on {layer_kinds(tuned.model.targeted_module_names)}")
    keep_trained_in_float32(tuned.model, lm.dtype)
    compute_in(tuned.model, step_type)
    quicken(tuned.model)
    # no vocabulary was resized; without this, peft asks the Hub about it at every checkpoint
    tuned.model.save_pretrained = partial(tuned.model.save_pretrained, save_embedding_layers=False)
    return tuned


def _trainable_in_full(
    lm: LanguageModel, config: FinetuneConfig, checkpoint: str | None, is_handed: bool
) -> LanguageModel:
    model = copy.deepcopy(lm.model) if is_handed else lm.model
    model = model.float().requires_grad_(True)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if checkpoint:  # Trainer 5.17 resumes without the output head of a GPT-NeoX, and only warns
        saved = type(model).from_pretrained(checkpoint, trust_remote_code=False)
        model.load_state_dict(saved.state_dict())
    return replace(lm, model=model)


def _trainer(
    tuned: LanguageModel,
    corpus: Corpus,
    config: FinetuneConfig,
    out: Path,
    *,
    train: Sequence[Dialogue],
    dev: Sequence[Dialogue],
    step_type: str,
    own_score: OwnScore | None,
) -> "TargetTrainer":
    from labkit.training.trainer import make_trainer

    scored = dev[: config.score_dialogues]
    score = dict  # no dialogues, no scores
    if scored:
        score = partial(validation_scores, tuned, scored, corpus, config, own_score)
    venues = searched_in(config.format, corpus.database)
    return make_trainer(
        tuned,
        dataset_of(train, tuned.codec, config, venues),
        dataset_of(dev, tuned.codec, config, venues),
        config,
        out=out,
        step_type=step_type,
        score=score,
    )


def _train(
    trainer: "TargetTrainer",
    tuned: LanguageModel,
    config: FinetuneConfig,
    out: Path,
    *,
    checkpoint: str | None,
) -> None:
    """Train, from the checkpoint if there is one, and put the weights into `out`."""
    from labkit.training.callbacks import interruptible, is_stalled

    with memory_kept(), interruptible(trainer) as asked:
        if checkpoint:
            trainer.state = trainer.state.load_from_json(f"{checkpoint}/trainer_state.json")
        has_ended = trainer.state.global_step >= config.max_steps or is_stalled(trainer.state.log_history, config)
        if has_ended:  # it was killed after its last step: one more would be another model
            _read_weights(tuned, config, checkpoint)
        else:
            trainer.train(resume_from_checkpoint=checkpoint)
    tuned.model.eval()
    _publish(trainer, tuned, config, out)
    trainer.accelerator.wait_for_everyone()
    steps = trainer.state.global_step
    if asked.is_set() and steps < config.max_steps and not is_stalled(trainer.state.log_history, config):
        what = f"interrupted at step {steps} of {config.max_steps}"
        raise Interrupted(what, f"the adapter so far is in {out}", "the same call again goes on from here")


def _read_weights(tuned: LanguageModel, config: FinetuneConfig, checkpoint: str) -> None:
    """The trained weights of a checkpoint; those of a full fine-tuning were read when the model was made."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    if not config.full_finetune:
        tensors = load_file(Path(checkpoint) / "adapter_model.safetensors")
        set_peft_model_state_dict(tuned.model, tensors)


def _publish(trainer: "TargetTrainer", tuned: LanguageModel, config: FinetuneConfig, out: Path) -> None:
    """Move the best or else the last adapter or model into `out`, file by file: the checkpoints beside it stay."""
    written = out / PARTIAL
    has_best = (out / "best").is_dir()
    if not has_best:
        write_weights(trainer, tuned, config, written)
    if not trainer.is_world_process_zero():
        return
    if has_best:  # a copy: killed from here on, the same call again must find the best one
        _copy(out / "best", written)
    for file in sorted(written.iterdir(), key=_configuration_last):
        file.replace(out / file.name)
    written.rmdir()


def _copy(source: Path, target: Path) -> None:
    known = [path.name for path in target.iterdir()] if target.is_dir() else []  # a killed run's
    with atomic_folder(target, known=known) as folder:
        for file in source.iterdir():
            if file.name != LIST:
                shutil.copyfile(file, folder / file.name)


def _configuration_last(file: Path) -> tuple[int, str]:
    """A folder counts as an adapter or model from its configuration on, and the list of its files closes it."""
    if file.name == LIST:
        return 2, file.name
    return int(file.name.endswith("config.json")), file.name
