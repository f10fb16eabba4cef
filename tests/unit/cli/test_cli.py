"""The command line: scripts outside the repository call it, so flags, exit codes and files are promises."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit import cli
from labkit.cli import add_fields, main
from labkit.cli.flags import Parser, dashed
from labkit.errors import Interrupted, LabError


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def corpus(monkeypatch, miniwoz):
    """MiniWOZ is generated once for all tests, not once a command."""
    from labkit import corpora

    real = corpora.load_corpus
    monkeypatch.setattr(corpora, "load_corpus", lambda name, **_: miniwoz if name == "miniwoz" else real(name, **_))
    return miniwoz


@pytest.fixture
def shipped(monkeypatch, corpus, tiny_lm):
    """`load_model` gives the tiny model under any name."""
    monkeypatch.setattr("labkit.models.load_model", lambda *_, **__: tiny_lm)


def generate(*flags):
    common = [
        "--model",
        "mini-pythia",
        "--corpus",
        "miniwoz",
        "--split",
        "test",
        "--max-new-tokens",
        "2",
        "--batch_size",
        "1",
    ]
    return main(["generate", *common, "--out", "predictions.json", *flags])


def rows():
    path = Path("home/results.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_conversations_are_scored_kept_and_read_back(shipped, capsys):
    """`labkit converse`: a row of the board, and a file that --corpus reads; stopped, the same command goes on."""
    from labkit.corpora import load_corpus
    from labkit.interaction import bots

    flags = ["--model", "mini-pythia", "--corpus", "miniwoz", "--dialogues", "2", "--states", "user", "--patience", "1"]
    command = ["converse", *flags, "--max-new-tokens", "2", "--json", "talks.json"]
    real, asked = bots.ModelBot.reply, []

    def interrupted(self, talks):
        asked.append(len(talks))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(self, talks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bots.ModelBot, "reply", interrupted)
        assert main(command) == 130 and not rows()
        assert len(json.loads(Path("talks.json.partial").read_text())["replies"]) == 2
        assert main(command) == 0
    (row,) = rows()
    assert row["task"] == "conversations, states user" and row["conversation"]["n"] == 2
    assert "states user" in capsys.readouterr().out and not Path("talks.json.partial").exists()
    assert len(load_corpus("talks.json")["test"]) == 2
    first = Path("talks.json").read_text()
    assert main(command) == 0
    before, after = (json.loads(text)["splits"] for text in (first, Path("talks.json").read_text()))
    assert before == after


@pytest.mark.slow
def test_a_grammar_for_own_states_stands_in_every_row_and_is_refused_for_others(shipped, capsys):
    flags = ["--model", "mini-pythia-500k", "--corpus", "miniwoz", "--dialogues", "1", "--patience", "1"]
    flags += ["--max-new-tokens", "2", "--json", "talks.json", "--grammar", "all-said"]
    assert main(["converse", *flags, "--states", "user"]) == 2 and not rows()
    assert "a grammar is for states that the model writes" in capsys.readouterr().err
    assert main(["converse", *flags, "--states", "own", "--format", "changes"]) == 0
    (row,) = rows()
    assert row["conversation"]["grammar"] == "all-said"
    assert json.loads(Path("talks.json").read_text())["scores"]["grammar"] == "all-said"
    assert "grammar all-said" in capsys.readouterr().out


@pytest.mark.slow
def test_states_that_a_format_cannot_have_are_refused(shipped, capsys):
    flags = ["--model", "mini-pythia", "--corpus", "miniwoz", "--states", "own", "--format", "turns"]
    assert main(["converse", *flags, "--json", "talks.json"]) == 2
    assert "writes no states of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "doctor",
        "generate",
        "evaluate",
        "converse",
        "finetune",
        "merge",
        "pretrain",
        "data-card",
        "bench",
        "release",
        "preflight",
    ],
)
def test_every_subcommand_has_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert command in capsys.readouterr().out


def test_every_field_of_the_configurations_is_a_flag_with_its_help(capsys):
    from dataclasses import fields

    from labkit.decoding.config import DecodingConfig
    from labkit.training.config import FinetuneConfig

    for command, config in (("generate", DecodingConfig), ("finetune", FinetuneConfig)):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        page = capsys.readouterr().out
        missing = [
            f.name for f in fields(config) if f"--{f.name.replace('_', '-')}" not in page or not f.metadata["help"]
        ]
        assert not missing


def test_a_typo_in_a_flag_names_the_nearest_one_even_when_a_required_flag_is_what_is_misspelt(capsys):
    assert main(["evaluate", "p.json", "--corpsu", "miniwoz"]) == 2
    error = capsys.readouterr().err
    assert error == "labkit: unknown flag --corpsu. → did you mean --corpus?\n"


def test_flags_are_not_abbreviated():
    """`--max 5` would change its meaning when a field is added."""
    assert main(["generate", "--max-new", "5"]) == 2


def test_fields_become_flags_of_their_type():
    @dataclass
    class Config:
        steps: int = field(default=3, metadata={"help": "100 % of them"})
        rate: float | None = field(default=None, metadata={"help": "rate"})
        double_quant: bool = field(default=True, metadata={"help": "quantise twice"})
        modules: str = field(default="linear", metadata={"help": "layers"})

    parser = Parser()
    add_fields(parser, Config)
    parser.format_help()  # a lone % in a help text would raise here
    given = ["--steps", "5", "--rate", "1e-3", dashed("--no-double_quant"), dashed("--modules=a_b")]
    assert vars(parser.parse_args(given)) == {"steps": 5, "rate": 1e-3, "double_quant": False, "modules": "a_b"}
    assert vars(parser.parse_args([])) == {}  # what is not given keeps the configuration's default


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        pytest.param(["evaluate", "nothing.json", "--corpus", "miniwoz"], "nothing.json", marks=pytest.mark.slow),
        (["evaluate", "nothing.json", "--corpus", "multiwoz24"], "multiwoz24"),
        (["generate", "--model", "./none", "--corpus", "miniwoz", "--out", "p.json"], "none"),
        (["generate", "--model", "m", "--corpus", "miniwoz", "--out", "p.json", "--strategy", "greddy"], "greddy"),
        (["merge", "--model", "./none", "--adapter", "a", "--out", "m"], "none"),
    ],
)
def test_a_problem_is_one_line_without_a_traceback(argv, said, corpus, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert said in error and "→" in error and error.count("\n") == 1 and error.startswith("labkit: ")
    assert not Path("p.json").exists() and not rows()


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("labkit.lab.decide", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_doctor_prints_the_card_writes_json_and_fails_when_blocked(monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("LAB_MODEL", "mini-pythia")
    assert main(["doctor", "--json", "card.json"]) == 0
    assert "READY (stand-in)" in capsys.readouterr().out
    assert json.loads(Path("card.json").read_text())["model"] == "mini-pythia"
    monkeypatch.setenv("LAB_MODEL", "./nowhere")
    assert main(["doctor"]) == 1
    assert "BLOCKED" in capsys.readouterr().out


def test_a_limit_counts_whole_dialogues(shipped, corpus):
    """The original's first N turns cut a dialogue in half."""
    assert generate("--limit", "2") == 0
    predictions = json.loads(Path("predictions.json").read_text())
    wanted = {dialogue.key: len(dialogue.bot_turns) for dialogue in corpus["test"][:2]}
    assert {key: len(turns) for key, turns in predictions.items()} == wanted
    assert all(isinstance(turn["response"], str) for turns in predictions.values() for turn in turns)
    assert sorted(path.name for path in Path().glob("predictions*")) == ["predictions.json", "predictions.run.json"]


@pytest.mark.slow
def test_states_are_looked_up_in_the_corpus_that_is_named(shipped, corpus, monkeypatch, capsys):
    assert generate("--limit", "1", "--format", "db") == 0
    (turns,) = json.loads(Path("predictions.json").read_text()).values()
    assert all("state" in turn for turn in turns)
    assert json.loads(Path("predictions.run.json").read_text())["prompt"]["format"] == "db"
    monkeypatch.setattr("labkit.corpora.load_corpus", lambda *_, **__: replace(corpus, database={}))
    assert generate("--limit", "1", "--format", "db", "--out", "other.json") == 2
    assert "no database" in capsys.readouterr().err and not Path("other.json").exists()


def test_written_states_can_be_held_to_a_grammar_and_the_row_says_so(shipped, monkeypatch):
    """`labkit converse` had the flag, and `labkit generate`, which writes the same states, had not."""
    asked = []

    def predict(lm, dialogues, config, *, grammar, on_batch, **prompt):
        asked.append(grammar)
        return {dialogue.key: [{"response": "ok", "state": {}} for _ in dialogue.bot_turns] for dialogue in dialogues}

    monkeypatch.setattr(import_module("labkit.decoding"), "predict", predict)
    flags = ["--limit", "1", "--format", "changes"]
    assert generate(*flags, "--grammar", "all-said") == generate(*flags, "--out", "free.json") == 0
    assert asked[0].name == "all-said" and asked[1] is None
    assert main(["evaluate", "predictions.json", "--corpus", "miniwoz"]) == 0
    assert rows()[0]["prompt"]["grammar"] == "all-said"
    assert "grammar" not in json.loads(Path("free.run.json").read_text())["prompt"]  # an earlier run goes on


def test_a_grammar_is_refused_where_no_state_is_written(shipped, corpus, monkeypatch, capsys):
    assert generate("--grammar", "schema") == 2
    assert "a grammar is for states that the model writes: format turns" in capsys.readouterr().err
    monkeypatch.setattr("labkit.corpora.load_corpus", lambda *_, **__: replace(corpus, schema=[]))
    assert generate("--grammar", "schema", "--format", "state") == 2
    assert "has no schema" in capsys.readouterr().err and not Path("predictions.json").exists()


@pytest.mark.slow
def test_an_interrupted_generation_goes_on_where_it_stopped(shipped, monkeypatch):
    assert generate("--limit", "3") == 0
    whole = json.loads(Path("predictions.json").read_text())
    Path("predictions.json").unlink()
    decoding = import_module("labkit.decoding")

    real, asked = decoding.predict, []

    def predict(lm, dialogues, config, *, on_batch, **prompt):
        asked.append(len(dialogues))
        return real(lm, dialogues, config, on_batch=on_batch, **prompt)

    def interrupted(lm, dialogues, config, *, on_batch, **prompt):
        on_batch(real(lm, dialogues[:1], config, **prompt))
        raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "predict", interrupted)
    assert generate("--limit", "3") == 130
    assert not Path("predictions.json").exists() and Path("predictions.json.partial").exists()
    monkeypatch.setattr(decoding, "predict", predict)
    assert generate("--limit", "3", "--max-length", "100") == 0  # another run: nothing of the old one is taken
    assert asked == [3]
    monkeypatch.setattr(decoding, "predict", interrupted)
    assert generate("--limit", "3") == 130
    monkeypatch.setattr(decoding, "predict", predict)
    assert generate("--limit", "3") == 0
    assert asked == [3, 2] and json.loads(Path("predictions.json").read_text()) == whole


def test_evaluate_prints_a_table_writes_mwzevals_shape_and_adds_a_row(corpus, capsys):
    from labkit.metrics import gold_predictions

    Path("gold.json").write_text(json.dumps(gold_predictions(corpus["test"])))
    Path("gold.run.json").write_text(
        json.dumps({"name": "someone", "bits": 4, "decoding": {"strategy": "beam"}, "seconds": 2.5})
    )
    assert main(["evaluate", "gold.json", "--corpus", "miniwoz", "--json", "scores.json"]) == 0
    out = capsys.readouterr().out
    assert "100.00" in out and "restaurant" in out and "stand-in" in out
    assert json.loads(Path("scores.json").read_text())["bleu"] == {"mwz22": pytest.approx(100)}
    (row,) = rows()
    assert (row["model"], row["bits"], row["decoding"], row["corpus"]) == (
        "someone",
        4,
        {"strategy": "beam"},
        "miniwoz",
    )
    assert row["stand_in"] is True and row["bleu"] == pytest.approx(100)


def test_predictions_of_others_get_a_row_under_the_files_name(corpus):
    from labkit.metrics import constant_predictions

    Path("ok.json").write_text(json.dumps(constant_predictions(corpus["test"][:5])))
    assert main(["evaluate", "ok.json", "--corpus", "miniwoz"]) == 0
    assert rows()[0]["model"] == "ok.json" and rows()[0]["bits"] is None


def test_finetune_passes_its_flags_on(monkeypatch, corpus, capsys):
    finetuning = import_module("labkit.training.run")

    seen = {}

    def finetune(lm, corpus, config, out):
        seen.update(corpus=corpus.name, config=config, out=out)
        return SimpleNamespace(adapter=out, trainable=1, total=4, seconds=2.0, tokens_per_second=3.0)

    monkeypatch.setattr(finetuning, "finetune", finetune)
    flags = ["--model", "mini-pythia-500k", "--corpus", "miniwoz", "--out", "adapter"]
    assert main(["finetune", *flags]) == 0
    assert seen["corpus"] == "miniwoz" and seen["out"] == Path("adapter")
    assert "1 of 4 parameters (25.00%)" in capsys.readouterr().out


def test_release_check_fails_with_one_line_where_a_notebook_is_stale(monkeypatch, capsys):
    def stale(*_, check, **__):
        raise LabError("notebooks/ is not what the sources make", "0.ipynb", "run `labkit release`") if check else None

    monkeypatch.setattr("labkit.course.release.release", stale)
    assert main(["release", "--check"]) == 2
    assert "labkit release" in capsys.readouterr().err


def test_release_takes_a_repository_and_a_ref(monkeypatch):
    seen = {}
    monkeypatch.setattr("labkit.course.release.release", lambda *_, **options: seen.update(options) or [])
    assert main(["release", "--repository", "someone/lab", "--ref", "v1"]) == 0
    assert seen == {"check": False, "repository": "someone/lab", "ref": "v1"}


@pytest.fixture
def clone(tmp_path):
    """A clone with one benchmark that measures, and one that fails after its first line."""
    folder = tmp_path / "tests" / "benchmarks"
    for made in (folder, tmp_path / "labkit"):
        made.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (folder / "bench_good.py").write_text('print("warming up")\nprint({"loss": "3.85"})\nprint(\'{"ratio": 2.5}\')\n')
    (folder / "bench_bad.py").write_text("print('{\"ratio\": 1.0}', flush=True)\nraise SystemExit(3)\n")
    return tmp_path


def test_bench_writes_every_measurement_with_the_machine(clone, capfd):
    """Trap: a ratio without the machine that it was measured on."""
    assert main(["bench", "--only", "good", "--json", "out.json"]) == 0
    machine, row = json.loads(Path("out.json").read_text())
    assert row == {"benchmark": "good", "ratio": 2.5} and machine["machine"]["threads"] >= 1
    assert 'good: {"ratio": 2.5}' in capfd.readouterr().out


def test_a_failed_benchmark_is_an_error_after_its_last_line(clone, capfd):
    """Trap: a benchmark that crashes half-way looks like one that has little to say."""
    assert main(["bench", "--only", "good,bad", "--json", "out.json"]) == 2
    out, err = capfd.readouterr()
    assert "ratio" in out and "exit code 3" in err
    assert [row.get("ratio") for row in json.loads(Path("out.json").read_text())] == [None, 2.5, 1.0]
    assert main(["bench", "--only", "fast"]) == 2 and "bad, good" in capfd.readouterr().err


def test_help_names_benchmarks_that_there_are(capsys):
    """It named one that there was not."""
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    (named,) = re.findall(r"joined by commas: +([\w,]+)", " ".join(capsys.readouterr().out.split()))
    scripts = Path(__file__).parents[2] / "benchmarks"
    assert all((scripts / f"bench_{name}.py").exists() for name in named.split(","))


def test_compare_takes_lexical_replies_from_those_who_mean_it(corpus, capsys):
    """Trap: evaluate has the flag and compare has not, so two lexical systems cannot be compared."""
    turns = {d.key: [{"response": turn.utterance} for turn in d.bot_turns] for d in corpus["test"]}
    Path("a.json").write_text(json.dumps(turns))
    argv = ["compare", "a.json", "a.json", "--corpus", "miniwoz"]
    assert main(argv) == 2 and "lexical" in capsys.readouterr().err
    assert main([*argv, "--allow-lexical"]) == 0


# --- Slurm ------------------------------------------------------------------------------------------------------------


FAKES = {  # what the job file calls, on a machine without Slurm: srun runs the task, and accelerate shows its arguments
    "scontrol": 'echo "node7\\nnode8"',
    "srun": 'SLURM_NODEID=1 exec "$@"',
    "accelerate": 'for word in "$@"; do echo "<$word>"; done',
}


def test_a_slurm_job_launches_finetune_with_the_flags_given(monkeypatch, tmp_path, capsys):
    """Traps: a flag lost or split at a space on its way through two shells; a default repeated."""
    flags = ["--model", "some/model", "--corpus", "my corpus", "--out", "it's out", "--lora-modules", "query|value"]
    flags += ["--learning_rate", "1e-3", "--no-double-quant", "--nodes", "2", "--gpus", "4", "--time", "01:00:00"]
    assert main(["slurm", *flags]) == 0
    assert "sbatch job.sh" in capsys.readouterr().out
    job = Path("job.sh").read_text()
    assert "#SBATCH --nodes=2\n" in job and "#SBATCH --gpus-per-node=4\n" in job and "--time=01:00:00\n" in job
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    script = re.sub(r"PATH=\S+", f"PATH={tmp_path}:$PATH", job)  # the fakes before this environment's accelerate
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=os.environ | {"SLURM_NODEID": ""})
    words = [line[1:-1] for line in run.stdout.splitlines()]
    launch, tuning = words[: words.index("labkit")], words[words.index("labkit") + 1 :]
    pairs = dict(pairwise(launch))
    wanted = {"--num_machines": "2", "--num_processes": "8", "--machine_rank": "1", "--main_process_ip": "node7"}
    assert pairs == pairs | wanted and "--multi_gpu" in launch and launch[-1] == "-m"
    assert tuning[0] == "finetune" and "--double-quant" not in tuning and "--no-double-quant" in tuning
    given = dict(pairwise(tuning))
    assert (
        given["--out"] == "it's out" and given["--lora-modules"] == "query|value" and given["--corpus"] == "my corpus"
    )
    assert float(given["--learning-rate"]) == 1e-3 and "--lora-r" not in tuning


def test_a_slurm_job_for_fsdp_does_not_launch_copies_as_well():
    """Trap: accelerate takes one of --multi_gpu and --use_fsdp. (test_resume.py launches with these flags.)"""
    assert main(["slurm", *["--model", "m", "--corpus", "c", "--out", "o", "--gpus", "4", "--fsdp"]]) == 0
    job = Path("job.sh").read_text()
    assert "--num_processes 4 --use_fsdp --fsdp_version 2" in job and "--multi_gpu" not in job


def test_a_typo_is_found_before_the_queue(capsys):
    """Trap: a job that waits a night and dies of a misspelt flag."""
    assert main(["slurm", "--model", "m", "--corpus", "c", "--out", "o", "--learning-rat", "1"]) == 2
    assert "--learning-rate" in capsys.readouterr().err and not Path("job.sh").exists()


def test_a_reader_that_hangs_up_costs_neither_a_traceback_nor_a_row(corpus, monkeypatch, capfd):
    """Trap: `labkit evaluate … | head -1` ends in a BrokenPipeError before the row is on the board."""
    Path("p.json").write_text(json.dumps({d.key: [{"response": "ok"} for _ in d.bot_turns] for d in corpus["test"]}))

    def hung_up(_):
        raise BrokenPipeError

    closed = []
    monkeypatch.setattr(cli.commands, "table", hung_up)
    monkeypatch.setattr(cli.os, "dup2", lambda *handles: closed.append(handles))
    assert main(["evaluate", "p.json", "--corpus", "miniwoz"]) == 141
    assert len(rows()) == 1 and len(closed) == 1 and capfd.readouterr().err == ""


# --- values that cannot be --------------------------------------------------------------------------------------------

REQUIRED = {
    "generate": ["--model", "m", "--corpus", "miniwoz", "--out", "p.json"],
    "evaluate": ["p.json", "--corpus", "miniwoz"],
    "compare": ["a.json", "b.json", "--corpus", "miniwoz"],
    "finetune": ["--model", "m", "--corpus", "miniwoz", "--out", "adapter"],
    "slurm": ["--model", "m", "--corpus", "miniwoz", "--out", "adapter"],
    "merge": ["--model", "m", "--adapter", "a", "--out", "merged"],
    "pretrain": ["--size", "500k", "--out", "made"],
}
WRONG = {
    "whole": ["-1", "nan", "inf", "1e3", "", "four", "9" * 30],
    "number": ["nan", "-inf", "inf", "", "half", "-1"],
    "word": ["", "-", "nonsense", "é" * 300],
    "text": ["\udcff"],
    "name": ["", " ", "a\nb", "x" * 5000, "\udcff"],
    "path": ["", " ", "a\nb", "x" * 300, "\udcff"],
}


def flags_that_take_a_value():
    """(command, flag, kind) of every option of every subcommand."""
    for command, names in cli.TABLE["commands"].items():
        kinds = {name.strip("+"): cli.TABLE["flags"][name].get("kind") for name in names.split()}
        config = cli.TABLE["configurations"].get(command)
        for field_name, rule in cli.TABLE["fields"].get(config, {}).items():
            kinds.setdefault(f"--{field_name.replace('_', '-')}", rule["kind"])
        for flag, kind in kinds.items():
            if kind and flag.startswith("--"):
                yield command, flag, kind


@pytest.fixture
def no_work(monkeypatch):
    """Whatever would take time must not even begin."""

    def began(*_, **__):
        raise AssertionError("work began")

    for name in ("labkit.corpora.load_corpus", "labkit.models.load_model", "labkit.lab.decide"):
        monkeypatch.setattr(name, began)
    for name in ("labkit.course.preflight.preflight", "labkit.course.release.release", "subprocess.Popen"):
        monkeypatch.setattr(name, began)


@pytest.mark.parametrize(("command", "flag", "kind"), list(flags_that_take_a_value()))
def test_a_value_that_cannot_be_is_refused_before_work_begins_with_what_is_allowed(
    command, flag, kind, no_work, capsys
):
    for value in WRONG[kind]:
        if (flag, value) in ALLOWED:
            continue
        assert main([command, *REQUIRED.get(command, []), f"{flag}={value}"]) == 2, (flag, value)
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"{flag} cannot be" in error and "→ choose" in error, error
    assert sorted(path.name for path in Path().iterdir()) == []


ALLOWED = {("--instruction", ""), ("--repository", "")}


@pytest.mark.parametrize("command", ["finetune", "slurm"])
@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--train-split", "test"),
        ("--max-length", "0"),
        ("--max-steps", "0"),
        ("--lora-r", "0"),
        ("--lora-dropout", "1.5"),
        ("--learning-rate", "1e30"),
        ("--lr-scheduler", "moon"),
        ("--seed", "4294967296"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused_here_and_in_a_job_file(command, flag, value, no_work, capsys):
    assert main([command, *REQUIRED[command], flag, value]) == 2
    assert f"{flag} cannot be" in capsys.readouterr().err and not Path("job.sh").exists()


def test_limits_cover_every_field_of_the_configurations():
    """A field that is added gets no limits by itself."""
    from dataclasses import fields

    import labkit

    for name in ("DecodingConfig", "FinetuneConfig"):
        names = {option.name for option in fields(getattr(labkit, name)) if not isinstance(option.default, bool)}
        assert names - cli.TABLE["fields"][name].keys() <= {"model", "train_embeddings"}


def test_a_setting_at_the_edge_of_what_is_allowed_is_taken():
    given = ["--learning-rate", "0", "--lora-dropout", "0", "--eval-steps", "0", "--seed", "0", "--warmup_steps=0"]
    settings = cli.parsed(["finetune", *REQUIRED["finetune"], *given]).arguments["settings"]
    expected = {"learning_rate": 0.0, "lora_dropout": 0.0, "eval_steps": 0, "seed": 0, "warmup_steps": 0}
    assert settings == {"model": "m", **expected}


@pytest.mark.parametrize(
    "argv", [[], ["generat"], ["--modle"], ["evaluate"], ["evaluate", "a", "b", "c", "--corpus", "m"]]
)
def test_a_command_line_that_is_wrong_is_one_line_and_no_page(argv, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("labkit: ") and error.count("\n") == 1


# --- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["doctor", "--json", "OUT"],
        ["generate", *REQUIRED["generate"][:-1], "OUT"],
        ["evaluate", *REQUIRED["evaluate"], "--json", "OUT"],
        ["slurm", *REQUIRED["slurm"], "--job", "OUT"],
        ["merge", *REQUIRED["merge"][:-1], "OUT"],
        ["finetune", *REQUIRED["finetune"][:-1], "OUT"],
        ["pretrain", *REQUIRED["pretrain"][:-1], "OUT"],
    ],
    ids=lambda argv: argv[0],
)
def test_what_labkit_did_not_write_stays_and_is_refused_before_work_begins(argv, no_work, capsys):
    """A thesis, a folder with a thesis, a place that cannot be."""
    Path("thesis.tex").write_text("years of work")
    Path("project").mkdir()
    Path("project/thesis.tex").write_text("years of work")
    is_folder = argv[0] in ("merge", "finetune", "pretrain")
    places = ["thesis.tex", "thesis.tex/inside", ".", "/proc/nowhere/x"] + ["project"] * (argv[0] != "finetune")
    places = [place for place in places if (argv[0], place) != ("pretrain", "project")]
    for place in places if is_folder else [*places, "project"]:
        assert main([place if word == "OUT" else word for word in argv]) == 2, place
        error = capsys.readouterr().err
        assert error.startswith("labkit: ") and error.count("\n") == 1 and "work began" not in error, error
    assert Path("thesis.tex").read_text() == Path("project/thesis.tex").read_text() == "years of work"
    assert sorted(path.name for path in Path().rglob("*")) == ["project", "thesis.tex", "thesis.tex"]


def test_merge_does_not_replace_what_it_reads(no_work, capsys):
    Path("adapter").mkdir()
    for out in ("adapter", "adapter/merged"):
        assert main(["merge", "--model", "m", "--adapter", "adapter", "--out", out]) == 2
        assert "read from there" in capsys.readouterr().err


def test_a_script_of_ones_own_is_no_job_file_to_be_replaced(capsys):
    Path("job.sh").write_text("#!/bin/sh\necho mine\n")
    assert main(["slurm", *REQUIRED["slurm"]]) == 2 and "another script" in capsys.readouterr().err
    assert "echo mine" in Path("job.sh").read_text()
    Path("job.sh").unlink()
    assert main(["slurm", *REQUIRED["slurm"]]) == 0 and main(["slurm", *REQUIRED["slurm"]]) == 0  # its own: again


def test_a_job_finds_its_environment_in_a_folder_with_a_space(monkeypatch):
    monkeypatch.setattr("sys.executable", "/home/me/my env/bin/python")
    assert main(["slurm", *REQUIRED["slurm"]]) == 0
    (line,) = [line for line in Path("job.sh").read_text().splitlines() if line.startswith("export PATH")]
    run = subprocess.run(["bash", "-c", f'PATH=/usr/bin; {line}; echo "$PATH"'], capture_output=True, text=True)
    assert run.stdout == "/home/me/my env/bin:/usr/bin\n"


def test_a_job_file_is_readable_as_the_umask_says():
    before = os.umask(0o027)
    try:
        assert main(["slurm", *REQUIRED["slurm"]]) == 0
    finally:
        os.umask(before)
    assert Path("job.sh").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("time", ["", "0", "00:00:00", "soon", "1:2:3:4", "1\n#SBATCH --account=x", "-5"])
def test_a_time_that_slurm_cannot_read_is_refused(time, capsys):
    assert main(["slurm", *REQUIRED["slurm"], f"--time={time}"]) == 2
    assert "--time cannot be" in capsys.readouterr().err and not Path("job.sh").exists()


def test_predictions_of_another_run_get_no_settings_of_this_one(corpus, shipped, capsys):
    """Killed between the predictions and .run.json: the old settings stood on the board beside new scores."""
    assert generate("--limit", "1", "--strategy", "beam") == 0
    Path("predictions.json").write_text(Path("predictions.json").read_text() + "\n")
    assert main(["evaluate", "predictions.json", "--corpus", "miniwoz"]) == 0
    assert "of other predictions" in capsys.readouterr().out
    assert rows()[-1]["decoding"] is None and rows()[-1]["model"] == "predictions.json"


def test_a_row_says_where_the_replies_were_written_and_how_fast(corpus, shipped):
    assert generate("--limit", "1") == 0
    assert main(["evaluate", "predictions.json", "--corpus", "miniwoz"]) == 0
    (row,) = rows()
    assert "threads" in row["device"] and row["speed"]["replies_per_second"] > 0 and row["parameters"] > 0


@pytest.mark.parametrize("record", ["null", "[]", '{"bits": "four"}', '{"seconds": "NaN"}', '{"decoding": 3}', "{"])
def test_a_record_that_makes_no_sense_is_one_line(record, corpus, capsys):
    from labkit.metrics import constant_predictions

    Path("p.json").write_text(json.dumps(constant_predictions(corpus["test"][:2])))
    Path("p.run.json").write_text(record)
    assert main(["evaluate", "p.json", "--corpus", "miniwoz"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not rows()


# --- streams and signals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_message_is_readable_where_the_terminal_has_no_arrow(encoding, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    command = [sys.executable, "-m", "labkit", "generate", *REQUIRED["generate"], "--limit", "-1"]
    run = subprocess.run(command, capture_output=True, env=environment)
    assert run.returncode == 2 and b"cannot be '-1'. -> choose" in run.stderr and b"Traceback" not in run.stderr


def test_control_characters_of_an_id_do_not_reach_the_terminal(corpus, capsys):
    Path("p.json").write_text(json.dumps({"\x1b[2Jgone": [{"response": 3}]}))
    assert main(["evaluate", "p.json", "--corpus", "miniwoz"]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error and "[2Jgone" in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_130_and_one_line(number, monkeypatch, capsys):
    monkeypatch.setattr("labkit.lab.decide", lambda: os.kill(os.getpid(), number))
    assert main(["doctor"]) == 130
    error = capsys.readouterr().err
    assert error.startswith("labkit: interrupted") and error.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_training_that_was_stopped_is_130_too(monkeypatch, corpus, capsys):
    def stopped(*_):
        raise Interrupted("interrupted at step 1 of 2", "the adapter so far is in adapter", "the same call goes on")

    monkeypatch.setattr(import_module("labkit.training.run"), "finetune", stopped)
    assert main(["finetune", *REQUIRED["finetune"]]) == 130 and "step 1 of 2" in capsys.readouterr().err


def test_a_fault_of_labkits_own_is_one_line_with_its_place(monkeypatch, capsys):
    monkeypatch.setattr("labkit.lab.decide", lambda: {}["nothing"])
    assert main(["doctor"]) == 2
    error = capsys.readouterr().err
    assert "unexpected KeyError" in error and "test_cli.py, line" in error and error.count("\n") == 1
    monkeypatch.setenv("LAB_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["doctor"])
