"""Run notebooks with nothing of the stand-ins: their model and corpus come from the loopback Hub (`make test-hub`).

    python tests/hub/run.py [NOTEBOOK …]

Each runs under nbmake in a process of its own, JOBS of them at once (2 unless told), the solutions first and of these
the long ones.  HOME is empty: those that start first download side by side what the others find in the cache.  A
notebook passes if no cell fails, the card says READY and nothing that it prints names a stand-in.  Time and peak memory
of each are written to build/hub/measured.json; JOBS=1 measures each on a machine of its own. The train split is as
long as MultiWOZ's, or HUB_TRAIN dialogues; the model is as wide as pythia-70m, or HUB_WIDTH. With HUB_WARM=1 kernels
are forks of one process (tests/support/warm_kernels.py), of which only the seconds are known.
"""

import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import server
import world

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
import warm_kernels  # noqa: E402

WARM = warm_kernels.FORKS and os.environ.get("HUB_WARM") == "1"
BUILD = ROOT / "build" / "hub"
STAND_INS = ("mini-pythia", "MiniWOZ", "miniwoz", "(stand-in)")


def environment(url: str, pins: Path) -> dict[str, str]:
    """A user's: nothing of the lab's variables but where to find the Hub, and the sizes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAB_", "HF_", "XDG_"))}
    lab = {"LAB_PROFILE": "hub", "LAB_HOME": str(BUILD / "results"), "LAB_MULTIWOZ_URL": f"{url}/raw"}
    lab |= {"LAB_MULTIWOZ_PINS": str(pins), "HF_ENDPOINT": url, "HOME": str(BUILD / "home")}
    return kept | lab | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONPATH": str(ROOT)}


def run(notebook: Path, variables: dict[str, str]) -> dict[str, object]:
    """Execute a copy of the notebook; {"notebook", "passed", "seconds", "cpu_seconds", "peak_gb", "names"}."""
    copy = BUILD / "executed" / notebook.parent.name / notebook.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(notebook, copy)
    flags = ["-q", "-p", "no:cacheprovider", "--nbmake", "--nbmake-timeout=900", "--overwrite", str(copy)]
    before = time.perf_counter()
    child = os.posix_spawn(sys.executable, [sys.executable, "-m", "pytest", *flags], variables)
    _, status, usage = os.wait4(child, 0)
    figures = {"seconds": round(time.perf_counter() - before)}
    if not WARM:  # such kernels are no children of this process
        figures["cpu_seconds"] = round(usage.ru_utime + usage.ru_stime)  # on a busy machine the better measure
        figures["peak_gb"] = round(usage.ru_maxrss / 2**20, 2)
    shown = printed(copy)
    ready = "READY" in shown and "BLOCKED" not in shown
    named = [name for name in STAND_INS if name in shown]
    passed = status == 0 and ready and not named
    return {"notebook": f"{notebook.parent.name}/{notebook.name}", "passed": passed, **figures, "names": named}


def printed(notebook: Path) -> str:
    """All text that the notebook's cells put out."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [output.get("text", "") for output in outputs]
    texts += [text for output in outputs for text in output.get("data", {}).values() if not isinstance(text, dict)]
    return "\n".join("".join(text) for text in texts)


def main(names: list[str]) -> int:
    notebooks = [Path(name).resolve() for name in names] or list(ROOT.glob("*s/[0-9]_*.ipynb"))
    notebooks.sort(key=lambda path: (path.parent.name, path.stat().st_size), reverse=True)
    for stale in ("home", "results", "executed"):
        shutil.rmtree(BUILD / stale, ignore_errors=True)
    (BUILD / "home").mkdir(parents=True)
    train = int(os.environ.get("HUB_TRAIN", world.TRAIN))
    width = int(os.environ.get("HUB_WIDTH", world.PYTHIA_70M["hidden_size"]))
    made = world.build(BUILD / f"world-{train}-{width}", train, width=width)
    rows = []
    with server.serve(made) as hub, ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        plain = environment(hub.url, made / "pins.json")
        with warm_kernels.warm(plain) if WARM else nullcontext(plain) as variables:
            for row in pool.map(lambda notebook: run(notebook, variables), notebooks):
                rows.append(row)
                print(json.dumps(row), flush=True)
                (BUILD / "measured.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(f"{len(hub.log)} requests to the loopback Hub")
    return int(not all(row["passed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
