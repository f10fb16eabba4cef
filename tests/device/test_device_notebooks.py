"""Notebooks 0 to 6, solved, in the gpu profile on the stand-ins, side by side in the time that is left."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "solutions").glob("[0-6]_*.ipynb"))
TOGETHER = 3  # kernels on one card
LEAST = 60.0  # seconds that a notebook is begun with
PASSED, FAILED, LATE = "passed", "failed", "no time left"


def test_the_notebooks_run_in_the_gpu_profile_on_the_stand_ins(tmp_path, note, is_rehearsal, seconds_left):
    """Each in a kernel of its own; what there is no time for is said, and is no success."""
    pytest.importorskip("nbmake", reason="nbmake is not installed")
    names = NOTEBOOKS[:1] if is_rehearsal else NOTEBOOKS
    profile = "smoke" if is_rehearsal else "gpu"
    with ThreadPoolExecutor(TOGETHER) as pool:
        outcomes = list(pool.map(lambda path: _run(path, profile, tmp_path, seconds_left()), names))
    logs = []
    late = []
    for path, (status, seconds, log) in zip(names, outcomes, strict=True):
        note(f"{path.stem}, {profile} profile, stand-ins", f"{status}, {seconds:.0f} s beside {TOGETHER - 1} others")
        if status == FAILED:
            logs.append(f"{path.name}\n{log}")
        if status == LATE:
            late.append(path.name)
    assert not logs, "\n".join(logs)
    if late:
        pytest.skip(f"no time left for {', '.join(late)}; passed: {len(names) - len(late)}")


def _run(notebook: Path, profile: str, home: Path, left: float) -> tuple[str, float, str]:
    """(PASSED, FAILED or LATE, seconds, the end of the log)."""
    if left < LEAST:
        return LATE, 0.0, ""
    settings = {
        "LAB_PROFILE": profile,
        "LAB_MODEL": "mini-pythia",
        "LAB_CORPUS": "miniwoz",
        "LAB_HOME": str(home / notebook.stem),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    flags = ["-q", "-p", "no:cacheprovider", "--nbmake", f"--nbmake-timeout={int(left)}", str(notebook)]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *flags],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            timeout=left,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return LATE, time.monotonic() - started, ""
    status = PASSED if done.returncode == 0 else FAILED
    return status, time.monotonic() - started, done.stdout[-3000:]
