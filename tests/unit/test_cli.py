"""The command line: scripts outside the repository call it, so flags, exit codes and files are promises."""

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit import cli
from labkit.cli import add_fields, main
from labkit.cli.flags import Parser, dashed
from labkit.errors import LabError


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


@pytest.mark.parametrize(
    "command",
    ["doctor", "generate", "evaluate", "finetune", "merge", "pretrain", "data-card", "bench", "release", "preflight"],
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
        (["evaluate", "nothing.json", "--corpus", "miniwoz"], "nothing.json"),
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
