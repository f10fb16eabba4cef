"""A Slurm job file that runs `labkit finetune`; submitted again after a kill, it goes on."""

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from labkit.errors import LabError
from labkit.storage import writable_file, write_text

# share a model and its optimiser out over all GPUs, a layer at a time, and save it whole
FSDP = (
    "--use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --fsdp_state_dict_type FULL_STATE_DICT"
)
# what sbatch reads: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes[:seconds]
TIME = re.compile(r"\d{1,7}|\d{1,6}:\d{1,2}|\d{1,5}:\d{1,2}:\d{1,2}|\d{1,4}-\d{1,2}(:\d{1,2}){0,2}", re.ASCII)
COMMAND = "-m labkit finetune"

JOB = """#!/bin/bash
#SBATCH --job-name=labkit
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --time={time}
#SBATCH --output=%x-%j.log
#SBATCH --requeue
# Killed, preempted or out of time: the same job again goes on from its last checkpoint.
export PATH={bin}:"$PATH"
export MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun bash -c 'accelerate launch {launch} --machine_rank "$SLURM_NODEID" \\
  --main_process_ip "$MASTER" --main_process_port 29500 --mixed_precision no --dynamo_backend no \\
  {command} "$@"' labkit {flags}
"""


def write_job(
    job: Path, flags: Mapping[str, object], *, nodes: int = 1, gpus: int = 1, time: str = "04:00:00", fsdp: bool = False
) -> Path:
    """Write the job file, whole or not at all.

    Args:
        flags: {flag of `labkit finetune`: value}.
        gpus: in each of the nodes.
        time: the longest run, as sbatch reads it.
        fsdp: share the model out over the GPUs.

    Raises:
        LabError: a number of machines or GPUs, or a time that cannot be; the file cannot be written, or is another
            script that was there already.
    """
    if nodes < 1 or gpus < 1:
        raise LabError("no machine to run on", f"{nodes} nodes with {gpus} GPUs", "choose 1 or more of both")
    _check_time(time)
    _check_replaceable(job)
    words = [word for flag, value in flags.items() for word in _words(flag, value)]
    text = JOB.format(
        nodes=nodes,
        gpus=gpus,
        time=time,
        bin=shlex.quote(str(Path(sys.executable).parent)),
        launch=_launch(nodes, gpus, fsdp),
        command=COMMAND,
        flags=shlex.join(words),
    )
    return write_text(job, text)


def _check_time(time: str) -> None:
    if not TIME.fullmatch(time) or not re.search("[1-9]", time):
        raise LabError(f"--time cannot be {time[:40]!r}", "", "choose hours:minutes:seconds, or days-hours:minutes")


def _check_replaceable(job: Path) -> None:
    """A job file may be written again; another script must stay."""
    target = writable_file(job, kinds=(".sh", ".slurm", ".sbatch", ".job"))
    if target.is_file() and target.stat().st_size:
        text = target.read_text(encoding="utf-8", errors="replace")
        if COMMAND not in text:
            raise LabError(f"cannot write {job}", "it is another script that is there already", "choose another --job")


def _launch(nodes: int, gpus: int, fsdp: bool) -> str:
    """The options of `accelerate launch`, which takes one of --multi_gpu and --use_fsdp."""
    processes = nodes * gpus
    options = f"--num_machines {nodes} --num_processes {processes}"
    if fsdp:
        return f"{options} {FSDP}"
    return f"{options} --multi_gpu" if processes > 1 else options


def _words(flag: str, value: object) -> list[str]:
    """The words of a command line that give a flag this value."""
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    text = str(value)
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]  # what begins with a dash looks like a flag
