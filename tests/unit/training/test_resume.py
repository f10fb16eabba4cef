"""Runs that are killed, and runs of two processes: each in processes of its own, as it happens on a cluster."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from labkit.cli import FSDP
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune

SUPPORT = Path(__file__).parents[2] / "support"
ENV = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(SUPPORT.parents[1])}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_a_run_ends_with_the_same_weights(tmp_path):
    """Traps: a half-written checkpoint that is gone on with; a random state, a best score or a step that is lost; a
    last adapter in the place of the best. The moments are in kill_and_resume.py; all weights must agree bit for bit."""
    command = [sys.executable, str(SUPPORT / "kill_and_resume.py"), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, env=ENV)
    told = dict(line[7:].split(": ") for line in run.stdout.splitlines() if line.startswith("MOMENT"))
    assert len(told) == 7 and told.pop("whole") == "False 0", run.stderr[-2000:]
    whole = (tmp_path / "whole" / "adapter_model.safetensors").read_bytes()
    for moment, ended in told.items():
        assert ended == f"{signal.SIGKILL.value} 0", (moment, run.stderr[-2000:])
        assert (tmp_path / moment / "adapter_model.safetensors").read_bytes() == whole, moment


LAUNCHED = {"ddp": "--multi_gpu {} -m labkit", "fsdp": f"{FSDP} {{}} fsdp_on_cpus.py"}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("launch", LAUNCHED)
def test_two_processes_give_the_loss_of_one(launch, tmp_path, miniwoz):
    """Traps: a loss that is averaged over processes with different numbers of target tokens; a validation loss of one
    process's part, or with rows counted twice; two processes that write one file; with FSDP, an adapter of which a
    process has a part only. Two batches of 2 are one of 4.
    accelerate's --cpu would start one process only; --multi_gpu starts two, which find no GPU and meet over gloo."""
    config = FinetuneConfig("mini-pythia-500k", bits=32, max_steps=3, batch_size=4, eval_steps=3)
    config = replace(config, group_by_length=False, max_dev_dialogues=5, max_train_dialogues=20)
    alone = finetune(None, miniwoz, config, tmp_path / "one")
    flags = "--model mini-pythia-500k --bits 32 --corpus miniwoz --max-steps 3 --batch-size 2"
    flags += " --eval-steps 3 --no-group-by-length --max-dev-dialogues 5 --max-train-dialogues 20"
    machines = "--num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port "
    launched = LAUNCHED[launch].format(machines + str(29500 + os.getpid() % 1000))
    command = f"-m accelerate.commands.launch {launched} finetune {flags} --out {tmp_path / 'two'}"
    run = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, timeout=240, env=ENV, cwd=SUPPORT
    )
    assert run.returncode == 0, run.stderr[-3000:]
    together = finetune(None, miniwoz, replace(config, batch_size=2), tmp_path / "two")  # it is finished: read only
    for one, two in zip(alone.history, together.history, strict=True):
        name = "loss" if "loss" in one else "eval_loss"
        assert two["step"] == one["step"] and two[name] == pytest.approx(one[name], rel=1e-3)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    for name, weights in one.items():  # Adam divides by a gradient's size: rounding counts where it is near zero
        assert torch.nn.functional.cosine_similarity(weights.flatten(), two[name].flatten(), dim=0) > 0.99, name


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_notebooks_that_train_into_one_folder_take_turns(tmp_path):
    """Trap: a student's notebook and its solution, side by side, write the same checkpoints. The second waits, says so,
    and then trains nothing: it finds the first one's result."""
    script = SUPPORT / "train_side_by_side.py"
    run = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, env=ENV)
    assert run.stdout.splitlines() == [
        f"another process works in {tmp_path}: waiting until it is done",
        "second: 0 steps of its own",
    ], run.stderr[-2000:]
