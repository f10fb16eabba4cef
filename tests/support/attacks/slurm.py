"""Point 10: Slurm files."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from attacks.case import EITHER, RESULT, Case, command, expect

VALUES = {
    "--nodes": ("0", "-2", "nan", "1.5", "", "x", "99999999999999999999"),
    "--gpus": ("0", "-1", "nan", "1.5", "", "x", "99999999999999999999"),
    "--time": ("", " ", "1:2:3:4", "-1", "nan", "soon", "04:00:00\n#SBATCH --x", "$(reboot)", "4h"),
    "--lora-r": ("0", "-5", "nan"),
    "--learning-rate": ("nan", "-1", "inf"),
    "--max-steps": ("0", "-1", "x"),
    "--train-split": ("test", "moon"),
    "--optim": ("moon",),
    "--bits": ("3", "0"),
    "--max-length": ("0", "-1"),
    "--seed": ("-1",),
    "--lora-dropout": ("2", "nan"),
    "--job": ("", ".", "/", "/dev/null/x", "a\0b", "half \ud83d"),
    "--out": ("", "a\nb"),
    "--model": ("", "a\nb"),
}
PLACES = (
    "/opt/my env/bin/python",
    "/opt/it's/bin/python",
    "/opt/$HOME/bin/python",
    "/opt/`x`/python",
    "/opt/a;b/python",
)
PLACES += ('/opt/a"b/bin/python', "/opt/ä/bin/python", "/opt/a{b}c/bin/python")
OUTPUTS = ("my adapter", "it's", "$(touch run)", "`touch run`", "a;touch run", 'a"b', "a*", "ä", "-x")
TIMES = ("30", "30:00", "04:00:00", "1-12", "1-12:30", "1-12:30:59")


def cases() -> list[Case]:
    """Values that cannot be; places and names with signs of the shell; permissions."""
    return [*_refused(), *_quoted(), *_sound()]


def _job(*words: str) -> str:
    command("slurm", "--model", "mini-pythia-500k", "--corpus", "miniwoz", "--out", "adapter", *words)
    return Path("job.sh").read_text(encoding="utf-8")


def _refused() -> Iterator[Case]:
    for option, values in VALUES.items():
        for value in values:
            yield Case(10, f"labkit slurm {option}={value!a}", partial(_job, f"{option}={value}"))
    yield Case(10, "labkit slurm over a script that is there", partial(_over, "#!/bin/bash\nrm -r data\n"))
    yield Case(10, "labkit slurm over a thesis", partial(_over, "years of work"))


def _over(content: str) -> None:
    job = Path("job.sh")
    job.write_text(content)
    try:
        _job()
    finally:
        expect(job.read_text() == content, "the file was replaced")


def _quoted() -> Iterator[Case]:
    for place in PLACES:
        yield Case(10, f"Python is {place}", partial(_python_at, place), (RESULT,))
    for out in OUTPUTS:
        yield Case(10, f"labkit slurm --out={out!a}", partial(_out_at, out), (RESULT,))


def _python_at(place: str) -> None:
    """The job's own PATH begins with Python's folder, to the letter."""
    sys.executable = place
    text = _job()
    _check_shell(text)
    line = next(line for line in text.split("\n") if line.startswith("export PATH="))
    script = f'{line}\nprintf %s "$PATH"'
    shown = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, env={"PATH": "/usr/bin"})
    folder = str(Path(place).parent)
    expect(shown.stdout == f"{folder}:/usr/bin", f"PATH is {shown.stdout!r}")


def _out_at(out: str) -> None:
    """What the job hands to finetune is the name, to the letter."""
    text = _job(f"--out={out}")
    _check_shell(text)
    last = text.split('"$@"', 1)[1]
    words = shlex.split(last.removeprefix("'"))
    given = [word for place, word in enumerate(words) if words[place - 1] == "--out"]
    with_equals = [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    expect(out in given + with_equals, f"--out is {given + with_equals}")


def _check_shell(text: str) -> None:
    checked = subprocess.run(["/bin/bash", "-n"], input=text, capture_output=True, text=True)
    expect(checked.returncode == 0, f"no shell script: {checked.stderr[:200]}")


def _sound() -> Iterator[Case]:
    for time in TIMES:
        yield Case(10, f"labkit slurm --time={time}", partial(_job, f"--time={time}"), (RESULT,))
    for mask in (0o022, 0o027, 0o077):
        yield Case(10, f"labkit slurm with umask {mask:03o}", partial(_with_umask, mask), (RESULT,))
    yield Case(10, "labkit slurm twice", _twice, (RESULT,))
    yield Case(10, "labkit slurm to /dev/stdout", partial(command, *_to("/dev/stdout")), EITHER)


def _to(job: str) -> list[str]:
    return ["slurm", "--model", "mini-pythia-500k", "--corpus", "miniwoz", "--out", "adapter", "--job", job]


def _with_umask(mask: int) -> None:
    os.umask(mask)
    _job()
    mode = Path("job.sh").stat().st_mode & 0o666
    expect(mode == 0o666 & ~mask, f"mode {mode:03o}")


def _twice() -> None:
    first = _job()
    expect(_job() == first, "the second file is another one")
