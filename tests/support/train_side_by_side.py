"""Two processes that train into the same folder at once: `python train_side_by_side.py FOLDER` (see test_resume.py)."""

import os
import sys
import time
from pathlib import Path

from kill_and_resume import CONFIG, CORPUS
from tiny_training import tiny_lm

from labkit.training import run as run_module
from labkit.training import trainer


def train(folder: Path, lm: object, at_first_step=lambda: None) -> int:
    """The steps that this process made."""
    real, steps = trainer.target_loss, []

    def watched(*args, **kwargs):
        if not steps:
            at_first_step()
        steps.append(1)
        return real(*args, **kwargs)

    trainer.target_loss = watched
    run_module.finetune(lm, CORPUS, CONFIG, folder)
    return len(steps)


def in_the_first_step() -> None:
    os.write(begin, b".")
    time.sleep(2)  # the second comes to the folder meanwhile


if __name__ == "__main__":
    folder, lm = Path(sys.argv[1]), tiny_lm()
    begun, begin = os.pipe()
    if first := os.fork():
        os.read(begun, 1)
        steps = train(folder, lm)
        assert os.waitpid(first, 0)[1] == 0
        print("second:", f"{steps} steps of its own")
    else:
        sys.stdout = sys.stderr
        train(folder, lm, in_the_first_step)
        os._exit(0)
