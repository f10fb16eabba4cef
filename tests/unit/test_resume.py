"""Runs that are killed, in processes of their own, as it happens on a cluster."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENV = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parents[1])}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_a_run_ends_with_the_same_weights(tmp_path):
    """Traps: a half-written checkpoint that is gone on with; a random state, a best score or a step that is lost; a
    last adapter in the place of the best. The moments are in kill_and_resume.py; all weights must agree bit for bit."""
    command = [sys.executable, str(HERE / "kill_and_resume.py"), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, env=ENV)
    told = dict(line[7:].split(": ") for line in run.stdout.splitlines() if line.startswith("MOMENT"))
    assert len(told) == 7 and told.pop("whole") == "False 0", run.stderr[-2000:]
    whole = (tmp_path / "whole" / "adapter_model.safetensors").read_bytes()
    for moment, ended in told.items():
        assert ended == f"{signal.SIGKILL.value} 0", (moment, run.stderr[-2000:])
        assert (tmp_path / moment / "adapter_model.safetensors").read_bytes() == whole, moment
