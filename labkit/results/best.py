"""Which rows may be ranked with each other, which is the best of them, and which are too close to it to tell."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.metrics.statistics import Interval, wilson
from labkit.results.row import Row

SHARES = ("inform", "success")  # scores that are a share of dialogues, in per cent
MEANING = (
    "Below a score stands its 95 % interval. “best” is the highest of those on the same dialogues, “≈ best” has an "
    "interval that reaches into the best one's: `labkit compare` tests such a pair."
)
Group = tuple[object, ...]


def same_dialogues(row: Row) -> Group:
    """Rows with the same value were scored on the same dialogues.

    Of a row without a fingerprint (an earlier version's) only the number of its dialogues is known; such rows are
    compared with each other, as they always were, and with no others.
    """
    get = row.get
    return get("corpus"), get("split"), get("dialogues"), get("dialogue_ids")


def intervals_of(row: Row) -> dict[str, Interval]:
    """95 % intervals {score: (low, high)} of the scores that a row has.

    Earlier versions drew the intervals of shares from a bootstrap, which has none where all, or no dialogues pass;
    Wilson's stands in its place then.
    """
    result = {}
    for name, (low, high) in (row.get("intervals") or {}).items():
        score = row.get(name)
        if score is None:
            continue
        if low == high and name in SHARES:
            low, high = _of_share(row, name)
        result[name] = (low, high)
    return result


def _of_share(row: Row, name: str) -> Interval:
    """Wilson's interval of a share, in per cent; the one that stands in the row if that is no share of dialogues."""
    n = row.get("dialogues")
    score = row[name]
    if not n or not 0 <= score <= 100:
        low, high = row["intervals"][name]
        return low, high
    n_passed = round(score / 100 * n)
    low, high = wilson(n_passed, n)
    return 100 * low, 100 * high


@dataclass(slots=True)
class Ends:
    """The best and the worst value of a score, among rows on the same dialogues."""

    best: Row
    highest: float
    lowest: float
    low_of_best: float  # where the best one's interval begins


class Ranking:
    """The best row for each score and each set of dialogues; one pass over the rows."""

    def __init__(self, rows: Iterable[Row]):
        self.rows = list(rows)  # kept, so that the ids below stay theirs
        self.known: dict[int, tuple[dict[str, Interval], dict[str, Ends]]] = {}  # of a row, and of its group
        groups: dict[Group, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(same_dialogues(row), []).append(row)
        for group in groups.values():
            if len(group) > 1:  # a row alone is neither the best nor near it
                self._rank(group)

    def _rank(self, group: Sequence[Row]) -> None:
        ends: dict[str, Ends] = {}
        for row in group:
            intervals = intervals_of(row)
            self.known[id(row)] = (intervals, ends)
            self._enter(row, intervals, ends)

    def _enter(self, row: Row, intervals: dict[str, Interval], ends: dict[str, Ends]) -> None:
        for name, (low, _) in intervals.items():
            score = row[name]
            seen = ends.get(name)
            if seen is None:
                ends[name] = Ends(best=row, highest=score, lowest=score, low_of_best=low)
            elif score > seen.highest:
                seen.best = row
                seen.highest = score
                seen.low_of_best = low
            elif score < seen.lowest:
                seen.lowest = score

    def near(self, row: Row) -> dict[str, str]:
        """{score: "10.3–12.1 ≈ best"}: the intervals of a row and, where rows differ, how far it is from the best."""
        intervals, ends = self.known.get(id(row)) or (intervals_of(row), {})
        told = {}
        for name, (low, high) in intervals.items():
            words = f"{low:.1f}–{high:.1f}"
            of_group = ends.get(name)
            if of_group and of_group.highest != of_group.lowest:
                words += _mark(row, of_group, high)
            told[name] = words
        return told


def _mark(row: Row, ends: Ends, high: float) -> str:
    if ends.best is row:
        return " best"
    if high >= ends.low_of_best:
        return " ≈ best"
    return ""


def repeats(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Each run once, its newest row, with the number of rows that say the same; in the order of the newest.

    The same means the same settings and scores: only time and speed may differ.
    """
    if len(rows) == 1:
        return [(rows[0], 1)]
    glances = [_glance(row) for row in rows]
    alike = Counter(glances)  # most rows are told apart by a glance
    newest: dict[object, Row] = {}
    counts: Counter[object] = Counter()
    for row, glance in zip(rows, glances, strict=True):
        key: object = glance
        if alike[glance] > 1:
            key = _all_that_lasts(row)
        counts[key] += 1
        newest.pop(key, None)  # so that the newest stands last
        newest[key] = row
    return [(row, counts[key]) for key, row in newest.items()]


def _all_that_lasts(row: Row) -> str:
    """Everything in a row but what differs when the same run is repeated."""
    kept = []
    for name, value in sorted(row.items()):
        if name not in PASSING:
            kept.append((name, value))
    return repr(kept)


def _glance(row: Row) -> tuple[object, ...]:
    """Texts and numbers, whatever was in the file: `labkit.results.lines` has seen to it."""
    get = row.get
    return get("task"), get("model"), get("bleu"), get("inform"), get("success"), get("seed")


PASSING = ("time", "seconds", "speed", "versions", "notes")  # what differs when the same run is repeated


def looks_at_test(rows: Iterable[Row]) -> dict[str, tuple[int, int]]:
    """How often each corpus' test split was looked at: {corpus: (rows with a score on it, different runs)}."""
    looked: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("split") == "test" and has_score(row):
            looked.setdefault(str(row.get("corpus")), []).append(row)
    counts = {}
    for corpus, found in looked.items():
        n_runs = len(repeats(found))
        counts[corpus] = (len(found), n_runs)
    return counts


def has_score(row: Row) -> bool:
    """Whether a row says how good something is."""
    return any(row.get(name) is not None for name in ("bleu", "inform", "success", "dst", "spans"))


def looks_in_words(rows: Iterable[Row]) -> str:
    """A sentence for each corpus whose test split was looked at; "" where none was."""
    sentences = []
    for corpus, (n_rows, n_runs) in looks_at_test(rows).items():
        times = "once" if n_rows == 1 else f"{n_rows} times"
        sentence = f"The test split of {corpus} was looked at {times}"
        if n_runs > 1:
            sentence += f", by {n_runs} different runs: the best of them looks better than it is"
        sentences.append(f"{sentence}.")
    return " ".join(sentences)
