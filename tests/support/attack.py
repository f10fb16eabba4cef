"""Issue 18's bad inputs, all of them: what comes of each, in a table. The last three columns must be 0.

    python tests/support/attack.py                # all; about three minutes
    python tests/support/attack.py --only 5       # one point
    python tests/support/attack.py --sample 60    # a random sample; --seed says which
    python tests/support/attack.py --match merge  # those whose name has this word
    python tests/support/attack.py --verbose      # each case with what it said

Every case runs in a fork, so this needs Linux or macOS.
"""

import argparse
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from time import monotonic

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
os.environ.setdefault("LAB_PROFILE", "smoke")
os.environ["HF_HUB_OFFLINE"] = "1"

from attacks import clusters, exercises, load, network, options, outside, reading, slurm, together, writers
from attacks.case import LINE, LOST, RESULT, STOPPED, TRACEBACK, WRONG, Case, Seen, import_all, tried
from attacks.stage import set_up

POINTS = {
    1: "writers and --out",
    2: "code from outside",
    3: "passwords, tokens, network",
    4: "everything read",
    5: "command line",
    6: "exercises",
    7: "two files that belong together",
    8: "load",
    9: "clusters at the edge",
    10: "slurm",
}
MODULES = (writers, outside, network, reading, options, exercises, together, load, clusters, slurm)
COLUMNS = ("tried", LINE, RESULT, TRACEBACK, WRONG, LOST)
BAD = (TRACEBACK, WRONG, LOST)
Results = list[tuple[Case, Seen]]


def all_cases() -> list[Case]:
    """Every case of the ten points; `set_up` comes first."""
    return [case for module in MODULES for case in module.cases()]


def try_all(cases: Sequence[Case], verbose: bool = False) -> Results:
    """What came of each case; what is not right is printed at once."""
    results = []
    for case in cases:
        seen = tried(case)
        results.append((case, seen))
        if verbose or seen.outcome in BAD:
            print(f"{case.point:>2} {seen.outcome:<10} {seen.seconds:5.1f} s  {case.name}: {seen.message}", flush=True)
    return results


def table(results: Results) -> str:
    """A line for each point: how many were tried, and what came of them."""
    head = f"{'point':<34}" + "".join(f"{column:>12}" for column in COLUMNS)
    lines = [head]
    in_all: Counter[str] = Counter()
    for point, name in POINTS.items():
        counts = _counted(seen for case, seen in results if case.point == point)
        in_all.update(counts)
        lines.append(_line(f"{point:>2} {name}", counts))
    lines.append(_line("in all", in_all))
    return "\n".join(lines)


def _counted(outcomes) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seen in outcomes:
        column = LINE if seen.outcome == STOPPED else seen.outcome
        counts.update(["tried", column])
    return counts


def _line(name: str, counts: Counter[str]) -> str:
    return f"{name:<34}" + "".join(f"{counts[column]:>12}" for column in COLUMNS)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is 1 where something is not right."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", type=int, choices=POINTS)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--match", default="")
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args(argv)
    begun = monotonic()
    import_all()
    with set_up():
        cases = [case for case in all_cases() if asked.match in case.name]
        if asked.only:
            cases = [case for case in cases if case.point == asked.only]
        if asked.sample:
            cases = random.Random(asked.seed).sample(cases, min(asked.sample, len(cases)))
        results = try_all(cases, asked.verbose)
    print(table(results))
    print(f"{monotonic() - begun:.0f} s")
    return int(any(seen.outcome in BAD for _, seen in results))


if __name__ == "__main__":
    sys.exit(main())
