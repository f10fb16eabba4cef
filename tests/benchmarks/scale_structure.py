"""Notebook 4 at the size of MultiWOZ: time and memory of each step for 5,000, 20,000 and 70,000 generated utterances.

    python tests/benchmarks/scale_structure.py [SIZE …]
    python tests/benchmarks/scale_structure.py --recall SIZE …    neighbours by cells against all pairs

Every size runs in a process of its own, so that its peak memory is its own. What is done is kept in build/scale: an
interrupted run goes on with the step that it was in, which begins anew so that its time is whole (`rm -r build/scale`
measures everything again). The table of all sizes measured so far is written to tests/benchmarks/structure.md.
"""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from labkit import structure
from labkit.corpora import load_corpus
from labkit.loglinear import document_model
from labkit.models import load_model
from labkit.storage import atomic_path, read_json, write_json, write_text
from labkit.structure import maps

ROOT = Path(__file__).parents[2]
DONE, TABLE = ROOT / "build" / "scale", Path(__file__).with_name("structure.md")
MODEL, CLUSTERS, NEIGHBOURS = "mini-pythia-8m", 32, 50
PROMISED = ("corpus and rows", "embed", "cluster", "neighbours", "map")  # what the time and the memory are promised for


def rows_of(size: int):
    corpus = load_corpus("miniwoz", sizes={"train": size // 14, "dev": 1, "test": 1})  # 14.7 turns a dialogue
    rows = structure.representations(corpus["train"])
    if len(rows) < size:
        sys.exit(f"only {len(rows)} utterances: make more dialogues")
    return rows[:size]


def steps(size: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """(name, what to run); what a step returns is kept as NAME.npy for the steps after it."""

    def kept(name: str):
        return np.load(folder / f"{name}.npy", allow_pickle=False)

    rows = []
    yield "corpus and rows", lambda: rows.append(rows_of(size))
    texts = list((rows[0] if rows else rows_of(size))["text"])
    yield "embed", lambda: structure.embed(texts, load_model(MODEL))
    yield "cluster", lambda: structure.cluster(kept("embed"), CLUSTERS)
    yield "neighbours", lambda: np.stack(structure.neighbours(kept("embed"), NEIGHBOURS))
    yield "map", lambda: structure.umap_map(kept("embed"), 15, 0.1, knn=_knn(kept("neighbours")))
    yield "second map", lambda: structure.umap_map(kept("embed"), 15, 0.5, knn=_knn(kept("neighbours")))
    yield "choose k of 8, 16, 32", lambda: structure.choose_k(kept("embed"), (8, 16, 32)) and None
    yield "document model", lambda: document_model(texts).documents


def _knn(stacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return stacked[0].astype(int), stacked[1].astype(np.float32)


def measure(size: int) -> None:
    """Run the steps of one size that are not done yet; print and keep seconds and peak memory of each."""
    folder = DONE / str(size)
    record = read_json(folder / "record.json") if (folder / "record.json").exists() else {}
    for name, work in steps(size, folder):
        if name in record:
            continue
        before = time.perf_counter()
        value = work()
        seconds = time.perf_counter() - before
        if isinstance(value, np.ndarray):
            with atomic_path(folder / f"{name}.npy") as partial, partial.open("wb") as file:
                np.save(file, value, allow_pickle=False)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # KiB on Linux
        record[name] = {"seconds": round(seconds, 1), "peak_gb": round(peak, 2)}
        write_json(folder / "record.json", record)
        print(f"{size:>7,} {name:<24}{seconds:8.1f} s   peak so far {peak:.2f} GB", flush=True)


def recall(sizes: list[int]) -> None:
    """Write to neighbours.md the CPU seconds of neighbours by cells and of all pairs, and the share that is found."""
    lines = []
    for size in sizes:
        kept = DONE / str(size) / "embed.npy"
        if not kept.exists():
            sys.exit(f"no {kept}: run `python {Path(__file__).relative_to(ROOT)} {size}` first")
        vectors = np.load(kept, allow_pickle=False)
        maps._nearest(vectors[:100], vectors[:100], NEIGHBOURS)  # what is loaded once is not counted
        before = time.process_time()
        _, found = maps._nearest_by_cells(vectors, NEIGHBOURS)
        between = time.process_time()
        _, right = maps._nearest(vectors, vectors, NEIGHBOURS)
        pairs = time.process_time() - between
        shares = []
        for n in (15, NEIGHBOURS):
            near_enough = found[:, :n] <= right[:, n - 1 : n] + 1e-6  # copies of a text are equally near
            shares.append(f"{near_enough.mean():.1%}")
        lines.append(f"| {size:,} | {pairs:.1f} | {between - before:.1f} | {shares[0]} | {shares[1]} |")
    text = f"""# Neighbours: by cells, or of all pairs

`python {Path(__file__).relative_to(ROOT)} --recall {" ".join(map(str, sizes))}` on {machine()}.

The vectors of structure.md (MiniWOZ and {MODEL}, both stand-ins). `neighbours` compares all pairs up to {maps.EXACT:,}
vectors, and looks into cells above. CPU seconds, which other processes on the machine lengthen, too.

| vectors | all pairs | by cells | found of the 15 nearest | of the {NEIGHBOURS} nearest |
|---:|---:|---:|---:|---:|
{chr(10).join(lines)}
"""
    write_text(TABLE.with_name("neighbours.md"), text)
    print(text)


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "scikit-learn", "umap-learn", "pynndescent"))
    return f"{name}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}; Python {platform.python_version()}, {packages}"


def table() -> str:
    """The measurements of all sizes as Markdown, with the exponents of growth from the smallest and from the second."""
    records = {int(path.parent.name): read_json(path) for path in sorted(DONE.glob("*/record.json"))}
    sizes = sorted(size for size, record in records.items() if set(PROMISED) <= set(record))
    names = list(dict.fromkeys(name for size in sizes for name in records[size]))
    rows = {name: [records[size].get(name, {}).get("seconds") for size in sizes] for name in names}
    rows["promised steps"] = [sum(records[size][name]["seconds"] for name in PROMISED) for size in sizes]
    later = sizes[-2:]
    lines = [
        f"| seconds | {' | '.join(f'{size:,}' for size in sizes)} | grows as | from {later[0]:,} on |",
        f"|---|{'---:|' * (len(sizes) + 2)}",
    ]
    for name, row in rows.items():
        growth = f"{_growth(sizes, row)} | {_growth(later, row[-2:])}"
        lines.append(f"| {name} | {' | '.join(map(_number, row))} | {growth} |")
    peaks = [max(step["peak_gb"] for step in records[size].values()) for size in sizes]
    lines.append(f"| **peak memory, GB** | {' | '.join(f'{peak:.2f}' for peak in peaks)} | | |")
    return "\n".join(lines)


def _number(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def _growth(sizes: list[int], row: list[float | None]) -> str:
    if len(sizes) < 2 or not row[0] or not row[-1]:
        return ""
    return f"n^{np.log(row[-1] / row[0]) / np.log(sizes[-1] / sizes[0]):.1f}"


def main(sizes: list[int]) -> None:
    for size in sizes:
        subprocess.run([sys.executable, __file__, "--measure", str(size)], check=True)
    text = f"""# Structure at scale

`python {Path(__file__).relative_to(ROOT)}` on {machine()}.

MiniWOZ (a stand-in for MultiWOZ, generated) embedded with {MODEL} (a stand-in for a sentence encoder), {CLUSTERS}
clusters by k-means with 10 starts, {NEIGHBOURS} neighbours, UMAP with 15. Wall seconds. "Promised steps" are
{", ".join(PROMISED)}: the mark is 150 s and 2 GB for 70,000 utterances on 2 cores, and that
no step grows faster than n^1.1. The first process that draws a map also compiles it, for all that come after.
Neighbours are those of all pairs up to 8,192 vectors, and of cells above: from the smallest size on their growth is
that of two methods.

{table()}
"""
    write_text(TABLE, text)
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(int(sys.argv[2]))
    elif sys.argv[1:2] == ["--recall"]:
        recall([int(size) for size in sys.argv[2:]])
    else:
        main([int(size) for size in sys.argv[1:]] or [5_000, 20_000, 70_000])
