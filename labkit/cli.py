"""The command line. A problem is one line on stderr and exit code 2; an interrupt keeps what is done."""

import argparse
import difflib
import json
import os
import shlex
import subprocess
import sys
import time
import types
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import labkit
from labkit import failures
from labkit import lab as decisions
from labkit.errors import LabError
from labkit.machine.hardware import hardware
from labkit.machine.paths import clone_root
from labkit.storage import read_json, shipped, write_json, write_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code is 0 (done), 1 (doctor: BLOCKED), 2 (a problem) or 130 (interrupted)."""
    argv = [_dashed(token) for token in (sys.argv[1:] if argv is None else argv)]
    try:
        parser, subcommands = _parser(argv)
        _check_flags(subcommands.get(argv[0]) if argv else None, argv)
        a = parser.parse_args(argv)
        return a.run(a) or 0
    except LabError as error:
        print(f"labkit: {failures.hidden(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("labkit: interrupted → the same command goes on from what is on disk", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        failure = failures.explain(error)
        if not failure or os.environ.get("LAB_DEBUG"):
            raise
        print(f"labkit: {failure}; LAB_DEBUG=1 shows the traceback", file=sys.stderr)
        return 2


# --- subcommands ------------------------------------------------------------------------------------------------------


def doctor(a: argparse.Namespace) -> int:
    """Print what this machine can do and what the lab uses on it; exit with 1 when something blocks it."""
    lab = decisions.decide()
    print(lab)
    if a.json:
        write_json(a.json, lab.to_json())
    return int(bool(lab.problems))


def generate(a: argparse.Namespace) -> None:
    """Reply to every user turn; write PREDICTIONS.json and, beside it, .run.json: what wrote it."""
    config = labkit.DecodingConfig(**_given(a, labkit.DecodingConfig))
    dialogues = labkit.load_corpus(a.corpus, splits=[a.split])[a.split][: a.limit]
    lm = labkit.load_model(a.model, bits=a.bits, adapter=a.adapter)
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
    earlier = read_json(partial) if partial.is_file() else {}
    done = earlier["predictions"] if earlier.get("run") == run else {}

    def keep(batch: dict[str, list[dict]]) -> None:
        done.update(batch)
        write_json(partial, {"run": run, "predictions": done}, indent=None)

    if waiting := [dialogue for dialogue in dialogues if dialogue.key not in done]:
        done |= labkit.predict(lm, waiting, config, **run["prompt"], on_batch=keep)
    return {dialogue.key: done[dialogue.key] for dialogue in dialogues}


def evaluate(a: argparse.Namespace) -> None:
    """Score PREDICTIONS.json, print a table and add a row to the results board."""
    from labkit import metrics
    from labkit.results.board import Board
    from labkit.results.row import result_row

    corpus, predictions = labkit.load_corpus(a.corpus, splits=[a.split]), metrics.read_predictions(a.predictions)
    scores = metrics.evaluate(predictions, corpus, a.split, scorer=a.scorer, allow_lexical=a.allow_lexical)
    unknown = dict.fromkeys(("adapter", "bits", "n_parameters")) | {"stand_in": False, "device": ""}
    run = read_json(_run_file(a.predictions)) if _run_file(a.predictions).is_file() else {}
    writer = types.SimpleNamespace(**{"name": a.predictions.name} | unknown | run)
    told = {name: run.get(name) for name in ("decoding", "training", "seconds")}
    Board().add(result_row("evaluate", writer, corpus, a.split, scores, **told))
    if a.json:
        write_json(a.json, scores.to_mwzeval())
    print(table(scores))  # last: a reader that hangs up (`| head`) costs no row


def compare(a: argparse.Namespace) -> None:
    """Compare two prediction files on the same dialogues: difference, interval and p of every score (B - A)."""
    from labkit import metrics

    corpus = labkit.load_corpus(a.corpus, splits=[a.split])
    files = (a.predictions, a.predictions_b)
    predictions = [metrics.read_predictions(file) for file in files]
    scores = [metrics.evaluate(made, corpus, a.split, allow_lexical=a.allow_lexical) for made in predictions]
    print(metrics.compare(*scores))


def table(scores: Any) -> str:
    """`metrics.Scores` as lines of text: in all, and by domain."""
    rates = scores.per_domain or {"inform": {}, "success": {}}
    lines = [f"{name:<11} {rate:6.1f}  {rates['success'][name]:7.1f}" for name, rate in sorted(rates["inform"].items())]
    return "\n".join([str(scores), *([f"{'':<11} Inform  Success", *lines] if lines else [])])


def finetune(a: argparse.Namespace) -> None:
    """Train a LoRA adapter on the corpus' training split and save it."""
    config = labkit.FinetuneConfig(**_given(a, labkit.FinetuneConfig))
    result = labkit.finetune(None, labkit.load_corpus(a.corpus), config, a.out)
    trained = f"{result.trainable:,} of {result.total:,} parameters ({result.trainable / result.total:.2%})"
    print(f"{result.adapter}: {trained} in {result.seconds:.0f} s, {result.tokens_per_second:.0f} tokens/s")


def slurm(a: argparse.Namespace) -> None:
    """Write a Slurm job file that runs `labkit finetune` with these flags; submitted again, it goes on."""
    flags = {"--model": a.model, "--corpus": a.corpus, "--out": a.out}
    given = {f"--{name.replace('_', '-')}": value for name, value in _given(a, labkit.FinetuneConfig).items()}
    words = [word for flag, value in (flags | given).items() for word in _words(flag, value)]
    processes = a.nodes * a.gpus
    how = f" {FSDP}" if a.fsdp else " --multi_gpu" * (processes > 1)
    launch = f"--num_machines {a.nodes} --num_processes {processes}{how}"
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
    from labkit.results.board import Board
    from labkit.results.report import model_card

    merged = labkit.merge(labkit.load_model(a.model, adapter=a.adapter))
    print(f"merged model written to {models.save_model(merged, a.out)}")
    if a.push_to_hub:
        card = model_card(a.push_to_hub, merged, Board().rows(), a.adapter, _training(a))
        print(f"pushed to {models.push_to_hub(merged, a.push_to_hub, card)}")


def pretrain(a: argparse.Namespace) -> None:
    """Train a stand-in model from scratch."""
    from labkit.course.standins.pretrain import pretrain

    print(f"written to {pretrain(a.size, a.out, steps=a.steps, minutes=a.minutes, seed=a.seed)}")


def bench(a: argparse.Namespace) -> None:
    """Run the benchmarks of a clone's tests/benchmarks; every measurement is a line of JSON."""
    folder = (clone_root() or Path()) / "tests" / "benchmarks"
    known = [script.stem.removeprefix("bench_") for script in sorted(folder.glob("bench_*.py"))]
    only = a.only.split(",") if a.only else known
    if not known or set(only) - set(known):
        raise LabError(f"no benchmark {a.only or ''}", f"{folder} has {', '.join(known) or 'none'}", "run in a clone")
    rows = [{"machine": asdict(hardware())}]
    for name in only:
        with subprocess.Popen([sys.executable, folder / f"bench_{name}.py"], stdout=subprocess.PIPE, text=True) as run:
            for line in filter(lambda line: line.startswith('{"'), run.stdout):  # Trainer prints {'loss': …
                print(f"{name}: {line}", end="", flush=True)
                rows.append({"benchmark": name, **json.loads(line)})
        if a.json:
            write_json(a.json, rows)
        if run.returncode:
            raise LabError(f"benchmark {name} failed", f"exit code {run.returncode}", "see its last lines above")


def data_card(a: argparse.Namespace) -> None:
    """Print what corpora are like in figures, side by side, as a Markdown table."""
    from labkit.course.datacard import data_card

    print(data_card([labkit.load_corpus(corpus) for corpus in a.corpus or ["miniwoz"]], a.limit or 1000))


def release(a: argparse.Namespace) -> None:
    """Make the student notebooks in notebooks/ from their sources in solutions/."""
    from labkit.course.release import release

    root = clone_root() or Path()
    written = release(root / "solutions", root / "notebooks", check=a.check, repository=a.repository, ref=a.ref)
    print("\n".join(f"wrote {path}" for path in written) or "notebooks/ is what solutions/ makes")


def preflight(a: argparse.Namespace) -> None:
    """Run the whole course headless, check it, and write the notebooks, the checks and the results board as HTML."""
    from labkit.course.preflight import preflight

    preflight(a.html, a.notebooks, a.profiles, students=a.students, cost=a.cost)


def _run_file(predictions: Path) -> Path:
    return predictions.with_name(f"{predictions.name.split('.json')[0]}.run.json")


def _training(a: argparse.Namespace) -> Any:
    """The configuration that `labkit finetune` has left beside an adapter, or a fully fine-tuned model."""
    record = Path(a.adapter or a.model) / "run.json"
    return read_json(record) if record.is_file() else None


# share a model and its optimiser out over all GPUs, a layer at a time, and save it whole
FSDP = "--use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP"
FSDP += " --fsdp_state_dict_type FULL_STATE_DICT"

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


COMMANDS = (doctor, generate, evaluate, compare, finetune, slurm, merge)
COMMANDS += (pretrain, bench, data_card, release, preflight)
# every field of these is a flag
CONFIGS = {"generate": "DecodingConfig", "finetune": "FinetuneConfig", "slurm": "FinetuneConfig"}
TABLE: dict[str, dict[str, Any]] = shipped(__file__, "cli.toml")
TYPES = {"int": int, "float": float, "Path": Path}


def _parser(argv: Sequence[str]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser("labkit", description="Neural Conversational AI Lab", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run in COMMANDS:
        name, about = run.__name__.replace("_", "-"), run.__doc__
        command = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        command.set_defaults(run=run)
        for flag in TABLE["commands"][name].split():
            options = TABLE["flags"][flag]
            kind = {"type": TYPES[options["type"]]} if "type" in options else {}
            command.add_argument(flag.rstrip("+"), **options | kind)
        if name in CONFIGS and argv[:1] == [name]:  # doctor must not depend on modules that it does not need
            add_fields(command, getattr(labkit, CONFIGS[name]))
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
