"""The command line. A problem is one line on stderr and exit code 2; an interrupt keeps what is done."""

import argparse
import difflib
import shlex
import sys
import time
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from labkit.errors import LabError
from labkit.storage import read_json, write_json, write_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code is 0 (done), 1 (doctor: BLOCKED), 2 (a problem) or 130 (interrupted)."""
    argv = [_dashed(token) for token in (sys.argv[1:] if argv is None else argv)]
    try:
        parser, subcommands = _parser(argv)
        _check_flags(subcommands.get(argv[0]) if argv else None, argv)
        a = parser.parse_args(argv)
        return a.run(a) or 0
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("labkit: interrupted → the same command goes on from what is on disk", file=sys.stderr)
        return 130


# --- subcommands ------------------------------------------------------------------------------------------------------


def doctor(a: argparse.Namespace) -> int:
    """Print what this machine can do and what the lab uses on it; exit with 1 when something blocks it."""
    from labkit.environment import decide

    lab = decide()
    print(lab)
    if a.json:
        write_json(a.json, lab.to_json())
    return int(bool(lab.problems))


def generate(a: argparse.Namespace) -> None:
    """Reply to every user turn; write PREDICTIONS.json and, beside it, .run.json: what wrote it."""
    from labkit.corpora import load_corpus
    from labkit.decoding import DecodingConfig
    from labkit.models import load_model

    config = DecodingConfig(**_given(a, DecodingConfig))
    dialogues = load_corpus(a.corpus, splits=[a.split])[a.split][: a.limit]
    lm = load_model(a.model, bits=a.bits, adapter=a.adapter)
    run = {name: getattr(lm, name) for name in ("name", "adapter", "bits", "n_parameters", "stand_in", "device")}
    run |= {name: getattr(a, name) for name in ("corpus", "split", "limit")}
    run |= {"decoding": asdict(config), "training": _training(a)}
    run["prompt"] = {"format": a.format, "max_length": a.max_length, "instruction": a.instruction}
    started, partial = time.perf_counter(), Path(f"{a.out}.partial")
    write_json(a.out, _predict(lm, dialogues, config, run, partial))
    write_json(_run_file(a.out), run | {"seconds": time.perf_counter() - started})
    partial.unlink(missing_ok=True)
    print(f"{len(dialogues)} dialogues written to {a.out}")


def _predict(lm: Any, dialogues: list, config: Any, run: dict[str, Any], partial: Path) -> dict[str, list[dict]]:
    """Predictions, saved after every batch; an unfinished file of the same run is gone on with."""
    from labkit.decoding import predict

    earlier = read_json(partial) if partial.is_file() else {}
    done = earlier["predictions"] if earlier.get("run") == run else {}

    def keep(batch: dict[str, list[dict]]) -> None:
        done.update(batch)
        write_json(partial, {"run": run, "predictions": done}, indent=None)

    if waiting := [dialogue for dialogue in dialogues if dialogue.key not in done]:
        done |= predict(lm, waiting, config, **run["prompt"], on_batch=keep)
    return {dialogue.key: done[dialogue.key] for dialogue in dialogues}


def evaluate(a: argparse.Namespace) -> None:
    """Score PREDICTIONS.json, print a table and add a row to the results board."""
    from labkit import metrics
    from labkit.corpora import load_corpus
    from labkit.notebook.board import Board, result_row

    corpus, predictions = load_corpus(a.corpus, splits=[a.split]), metrics.read_predictions(a.predictions)
    scores = metrics.evaluate(predictions, corpus, a.split, scorer=a.scorer, allow_lexical=a.allow_lexical)
    print(table(scores))
    unknown = dict.fromkeys(("adapter", "bits", "n_parameters")) | {"stand_in": False, "device": ""}
    run = read_json(_run_file(a.predictions)) if _run_file(a.predictions).is_file() else {}
    writer = types.SimpleNamespace(**{"name": a.predictions.name} | unknown | run)
    told = {name: run.get(name) for name in ("decoding", "training", "seconds")}
    Board().add(result_row("evaluate", writer, corpus, a.split, scores, **told))
    if a.json:
        write_json(a.json, scores.to_mwzeval())


def compare(a: argparse.Namespace) -> None:
    """Compare two prediction files on the same dialogues: difference, interval and p of every score (B - A)."""
    from labkit import metrics
    from labkit.corpora import load_corpus

    corpus = load_corpus(a.corpus, splits=[a.split])
    files = (a.predictions, a.predictions_b)
    print(metrics.compare(*(metrics.evaluate(metrics.read_predictions(file), corpus, a.split) for file in files)))


def table(scores: Any) -> str:
    """`metrics.Scores` as lines of text: in all, and by domain."""
    rates = scores.per_domain or {"inform": {}, "success": {}}
    lines = [f"{name:<11} {rate:6.1f}  {rates['success'][name]:7.1f}" for name, rate in sorted(rates["inform"].items())]
    return "\n".join([str(scores), *([f"{'':<11} Inform  Success", *lines] if lines else [])])


def finetune(a: argparse.Namespace) -> None:
    """Train a LoRA adapter on the corpus' training split and save it."""
    from labkit.corpora import load_corpus
    from labkit.finetuning import FinetuneConfig, finetune

    result = finetune(None, load_corpus(a.corpus), FinetuneConfig(**_given(a, FinetuneConfig)), a.out)
    trained = f"{result.trainable:,} of {result.total:,} parameters ({result.trainable / result.total:.2%})"
    print(f"{result.adapter}: {trained} in {result.seconds:.0f} s, {result.tokens_per_second:.0f} tokens/s")


def slurm(a: argparse.Namespace) -> None:
    """Write a Slurm job file that runs `labkit finetune` with these flags; submitted again, it goes on."""
    from labkit.finetuning import FinetuneConfig

    flags = {"--model": a.model, "--corpus": a.corpus, "--out": a.out}
    given = {f"--{name.replace('_', '-')}": value for name, value in _given(a, FinetuneConfig).items()}
    words = [word for flag, value in (flags | given).items() for word in _words(flag, value)]
    processes = a.nodes * a.gpus
    launch = f"--num_machines {a.nodes} --num_processes {processes}" + " --multi_gpu" * (processes > 1)
    fill = {"nodes": a.nodes, "gpus": a.gpus, "time": a.time, "launch": launch, "flags": shlex.join(words)}
    print(f"sbatch {write_text(a.job, JOB.format(bin=Path(sys.executable).parent, **fill))}")


def _words(flag: str, value: Any) -> list[str]:
    """The words of a command line that give a flag this value."""
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]


def merge(a: argparse.Namespace) -> None:
    """Merge an adapter into its model's 16- or 32-bit weights."""
    from labkit import models
    from labkit.notebook.board import Board, model_card

    merged = models.merge(models.load_model(a.model, adapter=a.adapter))
    print(f"merged model written to {models.save_model(merged, a.out)}")
    if a.push_to_hub:
        card = model_card(a.push_to_hub, merged, Board().rows(), a.adapter, _training(a))
        print(f"pushed to {models.push_to_hub(merged, a.push_to_hub, card)}")


def pretrain(a: argparse.Namespace) -> None:
    """Train a stand-in model from scratch."""
    from labkit.models.pretrain import pretrain

    print(f"written to {pretrain(a.size, a.out, steps=a.steps, minutes=a.minutes, seed=a.seed)}")


def release(a: argparse.Namespace) -> None:
    """Make the student notebooks in notebooks/ from their sources in solutions/."""
    from labkit.course.release import release
    from labkit.environment import clone_root

    root = clone_root() or Path()
    written = release(root / "solutions", root / "notebooks", check=a.check, repository=a.repository, ref=a.ref)
    print("\n".join(f"wrote {path}" for path in written) or "notebooks/ is what solutions/ makes")


def preflight(a: argparse.Namespace) -> None:
    """Run the whole course headless and write the executed notebooks and the results board as HTML."""
    from labkit.course.preflight import preflight

    preflight(a.html)


def _run_file(predictions: Path) -> Path:
    return predictions.with_name(f"{predictions.name.split('.json')[0]}.run.json")


def _training(a: argparse.Namespace) -> Any:
    """The configuration that `labkit finetune` has left beside an adapter, or a fully fine-tuned model."""
    record = Path(a.adapter or a.model) / "run.json"
    return read_json(record) if record.is_file() else None


JOB = """#!/bin/bash
#SBATCH --job-name=labkit
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --time={time}
#SBATCH --output=%x-%j.log
#SBATCH --requeue
# Killed, preempted or out of time: the same job again goes on from its last checkpoint.
export PATH={bin}:$PATH
export MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun bash -c 'accelerate launch {launch} --machine_rank "$SLURM_NODEID" \\
  --main_process_ip "$MASTER" --main_process_port 29500 --mixed_precision no --dynamo_backend no \\
  -m labkit finetune "$@"' labkit {flags}
"""


# --- flags ------------------------------------------------------------------------------------------------------------


FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    "predictions": ("PREDICTIONS.json", {"type": Path}),
    "predictions_b": ("the other PREDICTIONS.json", {"type": Path}),
    "--model": ("a Hub id, a folder, a .gguf file or mini-pythia", {"required": True}),
    "--adapter": ("folder of a LoRA adapter", {}),
    "--bits": ("4, 8, 16 or 32; by default what the device is fast in", {"type": int}),
    "--corpus": ("miniwoz, multiwoz22 or a folder in the MultiWOZ 2.2 layout", {"required": True}),
    "--split": ("train, dev or test", {"default": "test"}),
    "--limit": ("only the first so many dialogues (whole ones)", {"type": int}),
    "--out": ("where to write", {"type": Path, "required": True}),
    "--json": ("write it as JSON, too", {"type": Path}),
    "--format": ("of the prompt: turns or state", {"default": "turns"}),
    "--max-length": ("of the prompt, in tokens", {"type": int, "default": 1024}),
    "--instruction": ("text before the dialogue", {"default": ""}),
    "--scorer": ("labkit or mwzeval", {"default": "labkit"}),
    "--allow-lexical": ("score replies with names and numbers, too", {"action": "store_true"}),
    "--push-to-hub": ("upload it, too", {"metavar": "OWNER/NAME"}),
    "--size": ("500k, 2m or 8m", {}),
    "--steps": ("optimiser steps", {"type": int}),
    "--minutes": ("as many steps as fit into so many minutes", {"type": float}),
    "--seed": ("of data and weights", {"type": int, "default": 2022}),
    "--check": ("write nothing, fail where a notebook is stale", {"action": "store_true"}),
    "--repository": ("owner/name that the notebooks install labkit from", {"default": ""}),
    "--ref": ("its branch, tag or commit", {"default": "main"}),
    "--nodes": ("machines", {"type": int, "default": 1}),
    "--gpus": ("GPUs in each machine", {"type": int, "default": 1}),
    "--time": ("longest run, hours:minutes:seconds", {"default": "04:00:00"}),
    "--job": ("the job file", {"type": Path, "default": Path("job.sh")}),
    "--html": ("folder to write into", {"type": Path, "required": True}),
}


def _parser(argv: Sequence[str]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser("labkit", description="Neural Conversational AI Lab", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable, flags: str, config: str = "") -> None:
        sub = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__, allow_abbrev=False)
        sub.set_defaults(run=run)
        for flag in flags.split():
            help_text, options = FLAGS[flag]
            sub.add_argument(flag, help=help_text, **options)
        if config and argv[:1] == [run.__name__]:  # doctor must not depend on modules that it does not need
            module, name = config.split(":")
            add_fields(sub, getattr(import_module(module), name))

    command(doctor, "--json")
    generating = "--model --adapter --bits --corpus --split --limit --out --format --max-length --instruction"
    command(generate, generating, config="labkit.decoding:DecodingConfig")
    command(evaluate, "predictions --corpus --split --scorer --json --allow-lexical")
    command(compare, "predictions predictions_b --corpus --split")
    command(finetune, "--model --corpus --out", config="labkit.finetuning:FinetuneConfig")
    slurming = "--model --corpus --out --nodes --gpus --time --job"
    command(slurm, slurming, config="labkit.finetuning:FinetuneConfig")
    command(merge, "--model --adapter --out --push-to-hub")
    command(pretrain, "--size --out --steps --minutes --seed")
    command(release, "--check --repository --ref")
    command(preflight, "--html")
    return parser, commands.choices


def add_fields(parser: argparse.ArgumentParser, config: type) -> None:
    """A flag for every field of a dataclass that the parser has none for; help and default are the field's own."""
    hints = typing.get_type_hints(config)
    for field in fields(config):
        flag, hint = f"--{field.name.replace('_', '-')}", hints[field.name]
        if flag in parser._option_string_actions:
            continue
        kind = next((kind for kind in (int, float) if kind in (hint, *typing.get_args(hint))), str)  # of `float | None`
        how = {"action": argparse.BooleanOptionalAction} if bool in (hint, *typing.get_args(hint)) else {"type": kind}
        help_text = f"{field.metadata.get('help', '')} ({field.default})".replace("%", "%%")
        parser.add_argument(flag, dest=field.name, default=argparse.SUPPRESS, help=help_text, **how)


def _given(a: argparse.Namespace, config: type) -> dict[str, Any]:
    """The fields of a configuration that were given as flags; the others keep their defaults."""
    return {field.name: getattr(a, field.name) for field in fields(config) if hasattr(a, field.name)}


def _dashed(token: str) -> str:
    """--max_new_tokens is --max-new-tokens; what stands behind an equals sign stays."""
    flag, equals, value = token.partition("=")
    return flag.replace("_", "-") + equals + value if token.startswith("--") else token


def _check_flags(parser: argparse.ArgumentParser | None, argv: Sequence[str]) -> None:
    """Name the flag nearest to an unknown one; argparse would complain about what is missing instead."""
    known = parser._option_string_actions if parser else {}
    for flag in (token.split("=")[0] for token in argv[1:] if token.startswith("--") and token != "--"):
        if parser and flag not in known:
            near = difflib.get_close_matches(flag, known, 1)
            action = f"did you mean {near[0]}?" if near else f"see {parser.prog} --help"
            raise LabError(f"unknown flag {flag}", "", action)
