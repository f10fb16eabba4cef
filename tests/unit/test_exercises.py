"""Right and plausible wrong answers to the exercises of notebooks 0 to 3 (test_proofs.py judges them all), and what the
framework does with an answer: check, hint, solution, progress."""

import sys

import nbformat
import numpy as np
import proofs_3
import pytest
import torch

from labkit.corpora.slots import placeholder
from labkit.errors import LabError
from labkit.notebook import exercises
from labkit.notebook.exercises import RIGHT, check, every_exercise, hint, judge, solution
from labkit.notebook.exercises.notebook1 import LOGITS, contrast
from labkit.notebook.exercises.notebook2 import NF4
from labkit.notebook.exercises.record import progress, recorded


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def softmax(z):
    z = np.asarray(z, dtype=float)
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def cut(logits, kept):
    return np.where(kept, logits, -np.inf)


def nucleus(logits, p):
    """Which tokens top-p keeps: [V] bool."""
    order = np.argsort(-logits)
    kept = np.zeros(len(logits), bool)
    kept[order] = np.cumsum(softmax(logits)[order]) - softmax(logits)[order] < p
    return kept


def top_p_by_loop(logits, p):
    probabilities, mass, kept = softmax(logits), 0.0, []
    for token in sorted(range(len(logits)), key=lambda i: -logits[i]):
        if mass < p:
            kept.append(token)
        mass += probabilities[token]
    return [logits[i] if i in kept else float("-inf") for i in range(len(logits))]


def top_p_without_the_last(logits, p):
    order = np.argsort(-logits)
    kept = np.zeros(len(logits), bool)
    kept[order] = np.cumsum(softmax(logits)[order]) <= p
    return cut(logits, kept)


def top_p_that_overflows(logits, p):
    order = np.argsort(-logits)
    mass = np.cumsum(np.exp(logits[order]) / np.exp(logits).sum())
    kept = np.zeros(len(logits), bool)
    kept[order[: np.searchsorted(mass, p) + 1]] = True
    return cut(logits, kept)


def cosines(states, context):
    return torch.nn.functional.cosine_similarity(torch.tensor(states)[:, None], torch.tensor(context)[None], dim=-1)


def contrastive_by(reduce, p_weight=lambda a: 1 - a, similarity=cosines):
    return lambda p, h, c, a: int(np.argmax(p_weight(a) * p - a * reduce(np.asarray(similarity(h, c)), axis=1)))


def sampler(generator_of, distribution=softmax):
    """Decoders that differ in where each prompt's random numbers come from."""

    def sample(prompts, next_logits, n, seed):
        shared, replies = generator_of(None, seed), []
        for prompt in prompts:
            draw, ids = shared or generator_of(prompt, seed), list(prompt)
            for _ in range(n):
                p = distribution(next_logits(ids))
                ids.append(draw.choice(len(p), p=p))
            replies.append(ids[len(prompt) :])
        return replies

    return sample


def own_generator(prompt, seed):
    return None if prompt is None else np.random.default_rng([seed, *prompt])


def sample_by_gumbel(prompts, next_logits, n, seed):
    """Another right way: the likeliest after adding Gumbel noise."""
    draws, replies = [np.random.default_rng([*prompt, 99, seed]) for prompt in prompts], [[] for _ in prompts]
    for _ in range(n):
        for prompt, reply, draw in zip(prompts, replies, draws, strict=True):
            reply.append(int(np.argmax(next_logits([*prompt, *reply]) + draw.gumbel(size=5))))
    return replies


def one_hot(logits):
    return np.eye(len(logits))[np.argmax(logits)]


def delexicalise_right_to_left(text, spans):
    for span in sorted((span for span in spans if span.value != "dontcare"), key=lambda span: -span.start):
        text = text[: span.start] + placeholder(span.domain, span.slot) + text[span.end :]
    return text


def delexicalise_in_pieces(text, spans):
    pieces, end = [], 0
    for span in spans:
        if span.value == "dontcare":
            continue
        pieces += [text[end : span.start], placeholder(span.domain, span.slot)]
        end = span.end
    return "".join([*pieces, text[end:]])


def delexicalise_dontcare_too(text, spans):
    for span in reversed(spans):
        text = text[: span.start] + placeholder(span.domain, span.slot) + text[span.end :]
    return text


def delexicalise_left_to_right(text, spans):
    for span in spans:
        text = text[: span.start] + placeholder(span.domain, span.slot) + text[span.end :]
    return text


def delexicalise_everywhere(text, spans):
    for span in spans:
        text = text.replace(span.value, placeholder(span.domain, span.slot))
    return text


def quantise(weights, codebook):
    scale = np.abs(weights).max() or 1.0
    return codebook[np.abs(weights[:, None] / scale - codebook).argmin(axis=1)] * scale


def quantise_by_loop(weights, codebook):
    scale = max(abs(w) for w in weights)
    return [0.0 if scale == 0 else min(codebook, key=lambda c: abs(w / scale - c)) * scale for w in weights]


LOSSES = {"modules ffn": 2.1, "learning rate 0.001": 2.0, "learning rate 0.01": 5.5}
RIGHT_ANSWERS = {
    "0.1": ["b", " B "],
    "0.3": [(20.0, 6000, 5.0), (np.float64(31.4), 7372, 7372 / 31.4 // 60 + 1)],
    "0.2": [lambda d: len(d.bot_turns), lambda d: sum(turn.speaker == "bot" for turn in d.turns)],
    "1.3": [lambda z, t: softmax(z / t), lambda z, t: torch.softmax(torch.as_tensor(z) / t, -1)],
    "1.4": [
        lambda z, k: cut(z, np.argsort(np.argsort(-z)) < k),
        lambda z, k: torch.tensor(z).masked_fill(
            torch.tensor(z) < torch.tensor(z).topk(min(k, len(z)))[0][-1], -torch.inf
        ),
    ],
    "1.5": [lambda z, p: cut(z, nucleus(z, p)), top_p_by_loop],
    "1.2": [delexicalise_right_to_left, delexicalise_in_pieces],
    "1.1": ["b", "B"],
    "1.6": [contrastive_by(np.max), lambda p, h, c, a: contrast(p, h, c, a).argmax()],
    "1.7": [sampler(own_generator), sample_by_gumbel],
    "2.1": [
        lambda ids, flags: [i if f else -100 for i, f in zip(ids, flags, strict=True)],
        lambda ids, flags: torch.where(torch.tensor(flags), torch.tensor(ids), -100),
    ],
    "2.2": [lambda W, A, B, alpha, r: W + alpha / r * B @ A, lambda W, A, B, alpha, r: W + (alpha * (A.T @ B.T).T) / r],
    "2.3": [quantise, quantise_by_loop],
    "2.4": ["b", "b "],
    "2.5": [4 + 8 / 64 + 32 / 64 / 256, np.float32(4.127)],
    "2.6": [(LOSSES, "learning rate 0.001"), (dict(reversed(LOSSES.items())), min(LOSSES, key=LOSSES.get))],
}
WRONG_ANSWERS = {  # (answer, words of the message that it must get)
    "0.3": [
        ((20.0, 6000, 300.0), "would be 0.3 a second; you measured 20.0"),
        ((20.0, 6000, 20 * 6000 / 60), "2e+03 minutes for 6,000 replies"),
        ((20.0, 6000, 0), "endlessly many"),
        ((20.0, 6000, "5 min"), "minutes should be a number"),
    ],
    "0.1": [("a", "emulated"), ("d", "stores weights in 4 bits"), ("bf16", "one letter")],
    "0.2": [
        (lambda d: len(d.turns), "speaks 1 times; you say 2"),
        (lambda d: len(d.turns) / 2, "user, bot, user"),
        (lambda d: 2, "speaks 1 times"),
    ],
    "1.3": [
        (lambda z, t: softmax(z * t), "At temperature 0.5"),
        (lambda z, t: np.exp(z / t), "sum to 1"),
        (lambda z, t: np.exp(z / t) / np.exp(z / t).sum(), "overflows"),
    ],
    "1.4": [
        (lambda z, k: np.where(np.argsort(np.argsort(-z)) < k, z, 0), "exp(0) = 1"),
        (lambda z, k: cut(z, np.argsort(np.argsort(z)) < k), "kept tokens should be"),
        (lambda z, k: np.sort(z)[-k:], "shape"),
    ],
    "1.5": [
        (top_p_without_the_last, "kept tokens should be"),
        (top_p_that_overflows, "logits [ 900."),
        (lambda z, p: cut(softmax(z), nucleus(z, p)), "leaves them as they are"),
        (lambda z, p: cut(z, softmax(z) >= p), "kept tokens should be"),
    ],
    "1.2": [
        (delexicalise_left_to_right, "should become"),
        (delexicalise_everywhere, "north road is in the north"),
        (lambda text, spans: text, "should become"),
        (delexicalise_dontcare_too, "any area"),
    ],
    "1.6": [
        (contrastive_by(np.mean), "the scores are"),
        (contrastive_by(np.max, similarity=lambda h, c: h @ c.T), "the scores are"),
        (contrastive_by(np.max, p_weight=lambda a: 1), "the scores are"),
        (lambda p, h, c, a: 0, "which makes it"),
        (lambda p, h, c, a: contrast(p, h, c, a), "index of one of 4"),
    ],
    "1.7": [
        (sampler(lambda prompt, seed: np.random.default_rng()), "not seeded"),
        (sampler(lambda prompt, seed: np.random.default_rng(seed) if prompt is None else None), "neighbours"),
        (sampler(lambda prompt, seed: np.random.default_rng(5), one_hot), "Other seeds"),
        (sampler(own_generator, lambda logits: np.full(5, 0.2)), "has probability 0.43"),
        (lambda prompts, next_logits, n, seed: [[1] * (n - 1) for _ in prompts], "lists of 6 tokens"),
    ],
    "1.1": [("a", "constant_predictions"), ("c", "gold replies"), ("d", "drawn")],
    "2.1": [
        (
            lambda ids, flags: [ids[i + 1] if i + 1 < len(ids) and flags[i + 1] else -100 for i in range(len(ids))],
            "shifted",
        ),
        (lambda ids, flags: [-100 if f else i for i, f in zip(ids, flags, strict=True)], "not part of a reply"),
        (lambda ids, flags: [i for i, f in zip(ids, flags, strict=True) if f], "shape"),
    ],
    "2.2": [
        (lambda W, A, B, alpha, r: W + B @ A, "its scale is not"),
        (lambda W, A, B, alpha, r: W + r / alpha * B @ A, "norm is"),
        (lambda W, A, B, alpha, r: alpha / r * B @ A, "with B = 0"),
    ],
    "2.3": [
        (lambda w, c: quantise(w, c) / np.abs(w).max(), "in the units that it had"),
        (lambda w, c: c[np.abs(w[:, None] - c).argmin(axis=1)], "come back as"),
        (lambda w, c: c[np.searchsorted(c, w / np.abs(w).max(), "right") - 1] * np.abs(w).max(), "come back as"),
    ],
    "2.5": [
        (4, "a block's constant is stored, too"),
        (4.5, "before the constants are quantised themselves"),
        (4.125, "constants of their own"),
        (0.127, "a block of 64 weights"),
        ("four", "should be a number"),
    ],
    "2.6": [
        ((LOSSES, "learning rate 0.01"), "2 of your settings end lower"),
        ((LOSSES, "modules ffn"), "ends at 2.100, and 1 of"),
        ((LOSSES, 1e-3), "the name of one of your settings"),
        ((LOSSES, "attention"), "modules ffn"),
    ],
    "2.4": [("a", "slide is wrong"), ("c", "nothing is computed in 4 bits"), ("d", "exist for the adapter only")],
}
RIGHT_ANSWERS |= proofs_3.RIGHT
WRONG_ANSWERS |= proofs_3.WRONG


def raising(*_):
    return {}["missing key"]


def test_a_function_that_changes_its_input_does_not_change_the_checker():
    def in_place(logits, temperature):
        logits /= temperature
        return softmax(logits)

    before = LOGITS.copy()
    assert judge("1.3", in_place).outcome == RIGHT
    assert (before == LOGITS).all()


def test_quantiser_reference_is_bitsandbytes_nf4():
    functional = pytest.importorskip("bitsandbytes", reason="no bitsandbytes").functional
    weights = torch.randn(64, generator=torch.Generator().manual_seed(0))
    theirs = functional.dequantize_4bit(*functional.quantize_4bit(weights, blocksize=64, quant_type="nf4"))
    assert np.allclose(theirs.numpy(), quantise(weights.numpy(), NF4), atol=1e-5)


def test_check_never_raises_says_the_outcome_in_words_and_keeps_progress(capsys):
    check("1.3", raising)
    check("1.3", RIGHT_ANSWERS["1.3"][0])
    check("1.3", None)
    check("9.9", 1)
    out = capsys.readouterr().out
    assert "⚠ Your code raised · 1.3" in out and "✓ Right · 1.3" in out and "○ Not attempted · 1.3" in out
    assert "no exercise '9.9'" in out
    assert recorded()["1.3"] == {"tries": 2, "outcome": "right"}  # once right, a later blank does not take it back


def test_check_goes_on_when_progress_cannot_be_saved(capsys, monkeypatch):
    def full(*_, **__):
        raise LabError("cannot write progress.json", "No space left on device", "free space")

    monkeypatch.setattr(exercises, "note", full)
    check("0.1", "b")
    out = capsys.readouterr().out
    assert "✓ Right" in out and "Progress not saved" in out


def test_spoilt_progress_file_is_no_obstacle(home):
    home.mkdir()
    (home / "progress.json").write_text('{"0.1": {"outc')
    check("0.1", "b")
    assert recorded()["0.1"]["outcome"] == "right"


def test_hints_come_one_more_at_each_call(capsys):
    for given in (1, 2, 3, 3):
        hint("1.3")
        out = capsys.readouterr().out
        assert f"Hint {given} of 3" in out
        assert (every_exercise()["1.3"].hints[2] in out) == (given == 3)


def test_every_exercise_has_hints_and_a_title():
    assert all(task.hints and task.title for task in every_exercise().values())


def test_message_escapes_what_the_student_wrote(monkeypatch):
    shown = []
    monkeypatch.setattr(exercises, "show", shown.append)
    check("0.1", "<img src=x onerror=alert(1)>")
    assert "<img" not in shown[0].html and "&lt;img" in shown[0].html


def test_solution_unfolds_the_cells_before_the_check_and_says_so(tmp_path, monkeypatch, capsys):
    block = "def f(x):\n    ### BEGIN SOLUTION\n    return x + {}\n    ### END SOLUTION"
    sources = [block.format(1), 'check("1.3", f)', block.format(2), "helper = 1", 'check("1.4", f)']
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    (tmp_path / "solutions").mkdir()
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "solutions" / "1_test.ipynb")
    monkeypatch.chdir(tmp_path / "notebooks")
    solution("1.4")
    out = capsys.readouterr().out
    assert "Solution unfolded" in out and "x + 2" in out and "x + 1" not in out
    assert recorded()["1.4"]["solution"] is True
    with pytest.raises(LabError, match=r"no solution of 1\.5"):
        solution("1.5")


def test_progress_table_counts_in_words_and_is_exported(home):
    check("0.1", "b")
    check("0.2", lambda d: 0)
    shown = progress(home / "me.csv")
    assert shown.text.startswith(f"1 of {len(every_exercise())} exercises solved. Next: 0.2")
    assert "✓ right" in shown.html and "✗ wrong" in shown.html and "<progress" in shown.html
    lines = (home / "me.csv").read_text().splitlines()
    assert lines[0] == "id,exercise,state,tries,hints,solution" and len(lines) == 1 + len(every_exercise())
    assert "0.2,Count the bot's turns,✗ wrong,1,0," in lines
    progress(home / "me.md")
    assert "| 0.2 | Count the bot's turns | ✗ wrong | 1 | 0 |" in (home / "me.md").read_text()


def test_progress_names_the_training_that_a_dropped_session_left(home):
    for name, finished in (("done", True), ("half", False)):
        (home / "adapters" / name).mkdir(parents=True)
        (home / "adapters" / name / "run.json").write_text("{}")
        if finished:
            (home / "adapters" / name / "result.json").write_text("{}")
    told = progress().text.splitlines()[0]
    assert "it goes on: half" in told and "done" not in told


def test_the_line_of_a_wrong_value_is_the_one_that_ran_and_tracing_is_put_back():
    def two_ways(logits, temperature):
        if temperature == 1:
            return softmax(logits)
        return softmax(logits * temperature)

    before = sys.gettrace()
    message = judge("1.3", two_ways).message
    assert "`return softmax(logits * temperature)`" in message and sys.gettrace() is before
    assert "came from line" not in judge("0.1", "a").message  # a choice has no line
    assert "came from line" not in judge("0.2", len).message  # nor has a function that is not Python's


def test_in_a_notebook_the_line_is_the_cells_own():
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    shell.run_cell("import math")
    shell.run_cell(
        "# a comment\ndef count(dialogue):\n    n = 7\n    return n\n\ndef broken(dialogue):\n    return n / 0"
    )
    assert "line 4 of your cell: `return n`" in judge("0.2", shell.user_ns["count"]).message
    assert "in line 7 of your cell: `return n / 0`" in judge("0.2", shell.user_ns["broken"]).message
