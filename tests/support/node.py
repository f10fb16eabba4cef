"""A script in Node, which may do its work and then wait for its own threads for ever.

Node 20 has done so here (https://github.com/nodejs/node/issues/54918). So a script says by an empty file `DONE` beside
its output that it is done, and is ended then.
"""

import shutil
import subprocess
from pathlib import Path

NODE = shutil.which("node")
DONE = ".done"  # after the name of the output
PATIENCE = 5.0  # seconds between two looks
LONGEST = 120.0  # seconds of a script


def run_node(script: Path, *given: Path, out: Path) -> str:
    """What a script prints; `out` is its last argument.

    Raises:
        AssertionError: it failed, or was not done in time.
    """
    done = out.with_name(out.name + DONE)
    done.unlink(missing_ok=True)
    command = [NODE, script, *given, out]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, encoding="utf-8") as process:
        for _ in range(round(LONGEST / PATIENCE)):
            try:
                printed, errors = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                if not done.exists():
                    continue
                process.kill()
                printed, errors = process.communicate()
            break
        else:
            process.kill()
            raise AssertionError(f"not done after {LONGEST:.0f} s: {process.communicate()}")
    assert done.exists(), errors
    return printed
