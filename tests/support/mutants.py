"""How many wrong programs does a checker let through?

Each solution function with one thing changed (an operator, a constant, an argument, a line dropped) is given to its
checker. A mutant that gives what the original gives on random inputs (INPUTS) is no wrong program and doesn't count.
`python tests/support/mutants.py [id …]` prints the figure, and who got through.
"""

import ast
import copy
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import torch

from labkit.corpora.types import BOT, USER, Dialogue, Span, Turn
from labkit.notebook.exercises import RIGHT, every_exercise, judge
from labkit.notebook.exercises import attempt as limits
from labkit.notebook.exercises.attempt import Attempt, Raised, TooLong
from labkit.notebook.exercises.notebook6 import trie_of

SOLUTIONS = Path(__file__).parents[2] / "solutions"
SAMPLES, SECONDS = 60, 1.0  # random inputs a mutant; for one call

SWAPS = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div, ast.Add],
    ast.Div: [ast.Mult],
    ast.MatMult: [ast.Mult],
}
SWAPS |= {ast.FloorDiv: [ast.Mult], ast.Mod: [ast.FloorDiv], ast.Pow: [ast.Mult], ast.BitAnd: [ast.BitOr]}
SWAPS |= {ast.BitOr: [ast.BitAnd], ast.And: [ast.Or], ast.Or: [ast.And]}
SWAPS |= {ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE]}
SWAPS |= {ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn], ast.NotIn: [ast.In]}
NAMES = {"max": "min", "min": "max", "argmax": "argmin", "argmin": "argmax", "sum": "mean", "mean": "sum"}
NAMES |= {"exp": "log", "log": "exp", "cumsum": "cumprod", "abs": "negative", "all": "any", "any": "all"}


# --- random inputs, one function an exercise: draw -> the arguments of a call -----------------------------------------


def _dialogue(draw):
    speakers = [USER, BOT] * int(draw.integers(0, 4)) + [USER] * int(draw.integers(0, 2))
    return (Dialogue("RANDOM.json", ("hotel",), [Turn(speaker, "hello") for speaker in speakers]),)


def _spans(draw):
    """Words of which some are marked, and perhaps a value that stands nowhere (its offsets are a word's)."""
    words = [str(word) for word in draw.choice(["north", "cheap", "a", "swan", "in", "the"], 6)]
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    marked = sorted(draw.choice(6, int(draw.integers(0, 4)), replace=False))
    spans = [Span("Hotel-Inform", "area", words[i], int(starts[i]), int(starts[i]) + len(words[i])) for i in marked]
    for span in [*spans][: int(draw.integers(0, 2))]:
        spans[spans.index(span)] = Span("Hotel-Inform", "area", "dontcare", span.start, span.end)
    return " ".join(words), spans


def _bigram(ids):
    return np.roll(np.array([1.5, 0.5, 0.0, -0.5, 1.0]), ids[-1])


def _logits(draw):
    return draw.normal(scale=float(draw.choice([2, 2000])), size=int(draw.integers(2, 9)))


def _quantised(draw):
    return draw.normal(size=8) * draw.integers(0, 2) * 10.0 ** draw.integers(-2, 2), np.sort(draw.uniform(-1, 1, 5))


def _lora(draw):
    out, into, r = draw.integers(1, 5, 3)
    return (
        draw.normal(size=(out, into)),
        draw.normal(size=(r, into)),
        draw.normal(size=(out, r)),
        int(draw.integers(1, 20)),
        int(r),
    )


def _quantiles(draw):
    slope = draw.uniform(0.5, 2)
    return lambda share: (share - 0.5) ** 3 + slope * (share - 0.5), draw.uniform(0.9, 0.99)


def _lora_of(draw, into):
    """A LoRA of a layer that has `into` inputs."""
    out, r = int(draw.integers(1, 5)), int(draw.integers(1, 5))
    A, B = draw.normal(size=(r, into)), draw.normal(size=(out, r))
    return draw.normal(size=(out, into)), A, B, int(draw.integers(1, 20)), r


def _tags(draw):
    """Words and punctuation marks of a text, and spans of one to three of them that do not overlap."""
    text = " ".join(str(word) for word in draw.choice(["north,", "cheap", "a", "swan.", "in", "the"], 8))
    words = [(match.start(), match.end()) for match in re.finditer(r"\w+|[^\w\s]", text)]
    firsts = [i for i in range(0, len(words) - 2, 3) if draw.random() < 0.5]
    ends = [words[i + int(draw.integers(0, 3))][1] for i in firsts]
    spans = [(words[i][0], end) for i, end in zip(firsts, ends, strict=True)]
    return words, [Span("Hotel-Inform", "name", text[start:end], start, end) for start, end in spans]


def _span_sets(draw):
    def some():
        return {("hotel-area", int(start), int(start) + 1) for start in draw.integers(0, 4, draw.integers(0, 3))}

    n = int(draw.integers(1, 3))
    return [some() for _ in range(n)], [some() for _ in range(n)]


def _rows(draw):
    """Stabilities and sds are quarters, so that a row often stands exactly on the bar."""
    rows = []
    for k in draw.permutation([4, 8, 12, 16]):
        stability, sd = draw.integers(0, 5) / 4, draw.integers(0, 3) / 4
        rows.append({"k": int(k), "silhouette": draw.random(), "stability": stability, "sd": sd})
    return (rows,)


def _offers(draw):
    """Turns of two domains' words, states that often find nothing, and a database of eight venues."""
    areas, foods = ("north", "south"), ("thai", "greek")
    venues = [(area, food, str(n)) for n, (area, food) in enumerate([(a, f) for a in areas for f in foods] * 2)]

    def some():
        state = {"area": str(draw.choice(areas)), "food": str(draw.choice([*foods, "indian"]))}
        return {slot: value for slot, value in state.items() if draw.random() < 0.7}

    def find(state):
        return {name for a, f, name in venues if state.get("area", a) == a and state.get("food", f) == f}

    replies = ["how about [restaurant_name] ?", "[restaurant_phone]", "which area ?", "[restaurant_name] it is"]
    return [(str(draw.choice(replies)), some()) for _ in range(int(draw.integers(0, 4)))], some(), find


def _texts(draw):
    """Replies of few different words, so that 4-grams match and repeat, beside their references."""

    def text():
        return [str(word) for word in draw.choice(["a", "b"], int(draw.integers(4, 12)))]

    n = int(draw.integers(1, 4))
    return [text() for _ in range(n)], [text() for _ in range(n)]


def _resamples(draw):
    n = int(draw.integers(3, 9))
    a = draw.normal(size=(n, 2))
    b = a + draw.normal(0.3, 0.5, size=(n, 2))
    return a, b, lambda rows: float(np.exp(rows[:, 0].mean()) + rows[:, 1].sum()), draw.integers(0, n, size=(15, n))


class _Switches:
    """What a callback may change, and the history that it reads: equal where all of it is."""

    def __init__(self):
        self.should_training_stop = False

    def __deepcopy__(self, memory):
        return self

    def __str__(self):
        return f"stop: {self.should_training_stop}"


def _validations(draw):
    losses = draw.integers(1, 5, int(draw.integers(0, 6)))
    log = [row for loss in losses for row in ({"loss": 0.5}, {"eval_loss": int(loss)})]
    return SimpleNamespace(log_history=log), _Switches(), int(draw.integers(1, 4))


def _cache_config(draw):
    config = {"num_hidden_layers": int(draw.integers(1, 9)), "num_attention_heads": 8, "hidden_size": 64}
    if draw.random() < 0.5:
        config["num_key_value_heads"] = int(draw.choice([1, 2, 4]))
    if draw.random() < 0.5:
        config["head_dim"] = int(draw.integers(1, 40))
    return config, int(draw.choice([2, 4]))


def _reads(ids, past):
    known = [*(past or ()), *(int(i) for i in np.asarray(ids).reshape(-1))]
    return np.random.default_rng([len(known), *known]).normal(size=7), known


def _states(draw):
    def state():
        values = [str(value) for value in draw.choice(["north", "dontcare"], 3)]
        slots = dict(zip(("area", "food", "name"), values, strict=True))
        return {
            d: {s: v for s, v in slots.items() if draw.random() < 0.5} for d in ("hotel", "train")[: draw.integers(3)]
        }

    n = int(draw.integers(1, 4))
    annotated = [state() for _ in range(n)]
    return [state() if draw.random() < 0.5 else dict(one) for one in annotated], annotated


def _tracked(draw):
    text = "a swan in the north or the east today"
    spans = {
        ("hotel-area", 4, 5),
        ("hotel-area", 7, 8),
        ("train-day", 8, 9),
        ("hotel-name", 0, 2),
        ("hotel-parking", 5, 6),
    }
    found = {span for span in spans if draw.random() < 0.5}
    state = {"hotel": {"area": "west"}, "taxi": {"leaveat": "9"}} if draw.random() < 0.5 else {}
    return state, text, lambda asked: found if asked == text else set()


def _bill(draw):
    model = {name: int(draw.integers(1, 1e6)) for name in ("frozen", "trained", "hidden")}
    return (
        {**model, "layers": int(draw.integers(2, 9)), "bits": 4.127},
        int(draw.integers(2, 9)),
        int(draw.integers(2, 99)),
    )


def _agenda(draw):
    slots = ("area", "food", "pricerange", "stars", "day")
    wanted = {str(slot): f"the {slot}" for slot in draw.permutation(slots)[: int(draw.integers(1, 5))]}
    said = [slot for slot in wanted if draw.random() < 0.5]
    asked = [str(slot) for slot in draw.permutation(slots)[: max(0, int(draw.integers(-2, 3)))]]
    return wanted, said, asked, bool(draw.random() < 0.5)


def _reply(draw):
    """Sentences with placeholders, words that ask, and words that only look like these."""
    parts = ["[hotel_name]", "[train_trainid]", "[hotel_phone]", "[restaurant_address]", "[hotel_area]", "area", "Part"]
    parts += ["food", "foods", "price", "is it", "[attraction_postcode]", "[hotel_reference]", "the"]
    sentences = []
    for _ in range(int(draw.integers(1, 4))):
        words = [str(part) for part in draw.choice(parts, int(draw.integers(1, 4)))]
        sentences.append(" ".join(words) + str(draw.choice([".", "?", "!"])))
    return " ".join(sentences), {"area": "area", "part": "area", "food": "food", "price": "pricerange"}


def _wishes(draw):
    def wish():
        slots = ("phone", "address", "postcode")
        asks, told = ([slot for slot in slots if draw.random() < share] for share in (0.5, 0.8))
        return {"asks": asks, "told": told} | {
            name: bool(draw.random() < share) for name, share in (("right", 0.8), ("booking", 0.5), ("booked", 0.6))
        }

    return [wish() for _ in range(int(draw.integers(1, 3)))], bool(draw.random() < 0.3)


def _offered(draw):
    """Turns of one conversation; so many venues fit as there are slots left to say, and some more."""
    slots = {"area": ("north", "south"), "food": ("thai", "greek"), "stars": ("3", "4")}

    def some(share, wild=False):
        values = {slot: str(draw.choice(values)) for slot, values in slots.items() if draw.random() < share}
        return {slot: "dontcare" if wild and draw.random() < 0.2 else value for slot, value in values.items()}

    turns = []
    for _ in range(int(draw.integers(1, 5))):
        said = some(0.6, wild=True)
        venue = some(1) | {slot: value for slot, value in said.items() if draw.random() < 0.7 and value != "dontcare"}
        turns.append((said, venue if draw.random() < 0.8 else None))
    return turns, some(0.5), lambda said: 7 - len(said)


def _goals(draw):
    n = int(draw.integers(1, 12))
    return [bool(draw.random() < 0.4) for _ in range(n)], [bool(draw.random() < 0.7) for _ in range(n)]


def _trie(draw):
    values = [[str(token) for token in draw.choice(["a", "b", "c"], int(draw.integers(1, 4)))] for _ in range(4)]
    written = [*values[0][: int(draw.integers(0, 4))], *(["d"] if draw.random() < 0.3 else [])]
    return trie_of([[*value, ";"] for value in values]), written


def _pairs_of_replies(draw):
    return *(torch.tensor(draw.normal(scale=3, size=3)) for _ in range(4)), draw.uniform(0.1, 2)


def _labels(draw):
    n = int(draw.integers(1, 7))
    first, second = ([str(label) for label in draw.choice(["a", "b", "same"], n, p=[0.6, 0.3, 0.1])] for _ in range(2))
    return first, first if draw.random() < 0.2 else second


_GAIN = np.array([0.5, 1.0, 1.5, 2.0])  # with it, and a bias, a norm that is applied twice shows

INPUTS = {
    "0.2": _dialogue,
    "1.2": _spans,
    "1.3": lambda draw: (_logits(draw), draw.uniform(0.1, 3)),
    "1.4": lambda draw: (_logits(draw), int(draw.integers(1, 12))),
    "1.5": lambda draw: (_logits(draw), draw.uniform(0.01, 0.99)),
    "1.6": lambda draw: (draw.dirichlet(np.ones(4)), draw.normal(size=(4, 3)), draw.normal(size=(6, 3)), draw.random()),
    "1.7": lambda draw: ([[int(i)] for i in draw.integers(0, 5, 3)], _bigram, 5, int(draw.integers(0, 1000))),
    "1.8": _offers,
    "1.9": _texts,
    "2.1": lambda draw: (draw.integers(0, 99, 6).tolist(), draw.integers(0, 2, 6).astype(bool).tolist()),
    "2.2": _lora,
    "2.3": _quantised,
    "2.7": lambda draw: (draw.normal(size=(2, 3)), *_lora_of(draw, 3)),
    "2.8": _quantiles,
    "2.9": _bill,
    "3.1": lambda draw: (np.log(draw.random(int(draw.integers(1, 9)))),),
    "3.2": lambda draw: (
        {str(n): {"weights": int(draw.integers(0, 9)), "cache": int(draw.integers(0, 9))} for n in range(4)},
        int(draw.integers(0, 20)),
    ),
    "3.4": lambda draw: (
        draw.normal(size=(3, 4)),
        lambda h: _GAIN * h / np.linalg.norm(h, axis=-1, keepdims=True) + 0.5,
        draw.normal(size=(5, 4)),
    ),
    "3.5": _cache_config,
    "3.6": lambda draw: (_reads, draw.integers(0, 7, int(draw.integers(1, 5))).tolist(), int(draw.integers(1, 6))),
    "3.7": _resamples,
    "4.1": _rows,
    "4.2": lambda draw: (draw.integers(0, 9, (3, 4)) + np.eye(3, 4, dtype=int) + 1,),
    "4.4": lambda draw: ([draw.integers(0, 3, draw.integers(1, 6)).tolist() for _ in range(12)], 3),
    "5.1": lambda draw: (draw.integers(0, 5, 6).tolist(), int(draw.integers(1, 4))),
    "5.2": _tags,
    "5.3": _span_sets,
    "5.1b": _validations,
    "5.7": _states,
    "5.d": lambda draw: (draw.normal(size=(int(draw.integers(1, 6)), 3)),),
    "5.e": _tracked,
    "5.5": lambda draw: (lambda text: f" line {len(text)}", int(draw.integers(1, 7))),
    "6.1": _agenda,
    "6.2": _reply,
    "6.3": _wishes,
    "6.4": _offered,
    "6.5": lambda draw: (int(draw.integers(0, 9)), int(draw.integers(9, 40))),
    "6.6": _goals,
    "6.7": _trie,
    "6.7b": lambda draw: (draw.integers(0, 9, int(draw.integers(1, 6))).tolist(), draw.uniform(0, 1)),
    "6.8": _pairs_of_replies,
    "6.9": _labels,
}


# --- the solutions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solution:
    """A solution function of a source notebook: its syntax tree, and the names that it uses from other cells."""

    id: str
    function: ast.FunctionDef
    names: dict[str, Any]

    def run(self, function: ast.FunctionDef) -> Any:
        """The function that a (changed) tree defines."""
        names = dict(self.names)
        module = ast.fix_missing_locations(ast.Module([function], []))
        exec(compile(module, f"<mutant of {self.id}>", "exec"), names)
        return names[function.name]


def solutions(ids=None) -> list[Solution]:
    """The solution of every function exercise, from solutions/*.ipynb; but an open task has no one right answer."""
    tasks = [task for task in every_exercise().values() if task.kind == "function" and not task.is_open]
    wanted = [task.id for task in tasks if not ids or task.id in ids]
    found = {}
    for path in sorted(SOLUTIONS.glob("*.ipynb")):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        statements = [node for cell in cells if "\n        %" not in cell for node in ast.parse(cell).body]
        names = dict(re.findall(r'check\("([\w.]+)", (\w+)\)', "\n".join(cells)))
        functions = {node.name: node for node in statements if isinstance(node, ast.FunctionDef)}
        for id in set(wanted) & set(names):
            function = functions[names[id]]
            found[id] = Solution(id, function, _environment(function, functions, statements))
    return [found[id] for id in wanted]


def _environment(function, functions, statements):
    """What the notebook has imported or defined, as far as the function uses it."""
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} - {function.name}
    for name in used & set(functions):
        used |= {node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)}
    names, needed = {}, [functions[name] for name in used & set(functions)]
    for node in statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node = copy.copy(node)
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in used]
            needed = [node, *needed] if node.names else needed
    exec(compile(ast.fix_missing_locations(ast.Module(needed, [])), "<notebook>", "exec"), names)
    return names


# --- the mutants ------------------------------------------------------------------------------------------------------


def mutants(function: ast.FunctionDef):
    """(what was changed, the changed tree), one change each."""
    docstrings = {node.value for node in ast.walk(function) if _docstring(node)}
    for number, node in enumerate(ast.walk(function)):
        for change in () if node in docstrings else _changes(node):
            tree = copy.deepcopy(function)
            place = next(other for n, other in enumerate(ast.walk(tree)) if n == number)
            before = ast.unparse(tree)
            change(place)
            if (after := ast.unparse(ast.fix_missing_locations(tree))) != before:
                yield _difference(before, after), tree


def _difference(before, after):
    lines = [line.strip() for line in after.split("\n") if line not in before.split("\n")]
    return " / ".join(lines) or f"a line less than: {before.split(chr(10))[-1].strip()}"


def _changes(node):
    """Functions that change a copy of the node in place."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        yield from (_set("op", new()) for new in SWAPS.get(type(node.op), ()))
    if isinstance(node, ast.Compare):
        yield from (_set("ops", [new(), *node.ops[1:]]) for new in SWAPS.get(type(node.ops[0]), ()))
    if isinstance(node, ast.BinOp):
        yield from (_become(part) for part in (node.left, node.right))
    if isinstance(node, ast.Call):
        yield from (_become(argument) for argument in node.args if not isinstance(argument, ast.Starred))
        if len(node.args) == 2:
            yield _set("args", node.args[::-1])
        if isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
            yield _twice
    if isinstance(node, ast.List | ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) > 1:
        yield from (_drop("elts", i) for i in range(len(node.elts)))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield _set("value", node.value + "x")
    if isinstance(node, ast.UnaryOp):
        yield _set("op", ast.UAdd())
    if isinstance(node, ast.Constant) and not isinstance(node.value, str | type(None) | type(...)):
        values = [not node.value] if isinstance(node.value, bool) else [node.value + 1, node.value - 1]
        yield from (_set("value", value) for value in values)
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield _set("attr", NAMES[node.attr])
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield _set("id", NAMES[node.id])
    if isinstance(node, ast.Call):
        yield from (_drop("keywords", i) for i in range(len(node.keywords)))
    if isinstance(node, ast.Slice) and (node.lower is None) != (node.upper is None):
        yield _flip_slice
    if isinstance(node, ast.If | ast.IfExp):
        yield from (_set("test", test) for test in (ast.UnaryOp(ast.Not(), node.test), ast.Constant(True)))
    if isinstance(node, ast.FunctionDef | ast.If | ast.For | ast.While):
        yield from (_drop("body", i) for i, line in enumerate(node.body) if not _docstring(line))
    if isinstance(node, ast.comprehension):
        yield from (_drop("ifs", i) for i in range(len(node.ifs)))


def _set(field, value):
    return lambda place: setattr(place, field, copy.deepcopy(value))


def _become(part):
    """The node turns into one of its parts: `a + b` into `a`, `f(x)` into `x`."""

    def change(place):
        place.__class__, place.__dict__ = type(part), copy.deepcopy(part).__dict__

    return change


def _drop(field, index):
    def change(place):
        rest = [part for i, part in enumerate(getattr(place, field)) if i != index]
        setattr(place, field, rest or ([ast.Pass()] if field == "body" else []))

    return change


def _twice(place):
    """`norm(x)` turns into `norm(norm(x))`."""
    place.args = [copy.deepcopy(place)]


def _flip_slice(place):
    place.lower, place.upper = place.upper, place.lower


def _docstring(line):
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


# --- judged -----------------------------------------------------------------------------------------------------------


def behaviour(id, function):
    """What the function does on each of SAMPLES random inputs, the same ones each time; an error is a behaviour too."""
    call = Attempt(function)
    for seed in range(SAMPLES):
        try:
            with np.errstate(invalid="raise"):  # 0 / 0 is a behaviour, too
                yield call(*INPUTS[id](np.random.default_rng(seed)))
        except Raised as raised:
            yield type(raised.__cause__)
        except (Exception, TooLong) as error:
            yield type(error)


def differs(id, mutant, original):
    """Whether it does anything else on random inputs; the first difference is enough."""
    return not all(same([one], [other]) for one, other in zip(behaviour(id, mutant), original, strict=True))


def same(one, other):
    """Equal up to rounding; a list is as good as an array."""
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        try:
            x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
            equal = x.shape == y.shape and np.allclose(x, y, equal_nan=True)
        except (TypeError, ValueError):
            equal = a is b or str(a) == str(b)
        if not equal:
            return False
    return True


def survey(ids=None):
    """For every exercise: the number of mutants that change what the function does, and those accepted all the same.

    `unfair` are mutants that change nothing on random inputs, and were rejected: a rare case, or a checker too strict.
    """
    before, limits.SECONDS = limits.SECONDS, SECONDS
    rows = []
    with np.errstate(all="ignore"):
        for solution in solutions(ids):
            original, counted, through, unfair = [*behaviour(solution.id, solution.run(solution.function))], 0, [], []
            assert not any(isinstance(seen, type) for seen in original), f"INPUTS of {solution.id} break its solution"
            for change, tree in mutants(solution.function):
                mutant = solution.run(tree)
                accepted = judge(solution.id, mutant).outcome == RIGHT
                wrong = differs(solution.id, mutant, original)
                counted += wrong
                through += [change] * (wrong and accepted)
                unfair += [change] * (not wrong and not accepted)
            rows.append(SimpleNamespace(id=solution.id, mutants=counted, through=through, unfair=unfair))
    limits.SECONDS = before
    return rows


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    table = survey(sys.argv[1:])
    for row in table:
        print(f"{row.id:5} {row.mutants:4} wrong mutants, {len(row.through)} accepted", *row.through, sep="\n        ")
        for change in row.unfair:
            print(f"        rejected, though the same on random inputs: {change}")
    counted, through = sum(row.mutants for row in table), sum(len(row.through) for row in table)
    print(f"{counted - through} of {counted} mutants that change behaviour are rejected: {1 - through / counted:.1%}")
