"""Checkers of what students build of a training: a LoRA layer, the NF4 codebook, the memory of a step, a callback."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from labkit.notebook.exercises.answers import Unreadable, Wrong, array, number, plain, shown, times
from labkit.notebook.exercises.texts import cases

Plan = dict[str, float]  # megabytes of each part
HistoryRow = Mapping[str, float]

# bitsandbytes' NF4 begins at this quantile: the mean of 1 - 1/30 and 1 - 1/32 (Dettmers et al. 2023, appendix E)
OFFSET = 0.9677083
_POSITIVE, _NEGATIVE = 8, 7  # of the 16 entries; one is 0
_ROUNDED = 1e-4
_RELATIVE = 5e-3  # a figure of the plan with two digits after the point


# --- 2.7 --------------------------------------------------------------------------------------------------------------


def lora_layer(own: Callable) -> str:
    """Check 2.7: the forward pass of a LoRA layer."""
    draw = np.random.default_rng(27)
    for case in cases("2.7"):
        T = case["T"]
        out = case["out"]
        into = case["into"]
        r = case["r"]
        alpha = case["alpha"]
        x = draw.normal(size=(T, into))
        W = draw.normal(size=(out, into))
        A = draw.normal(size=(r, into))
        B = draw.normal(size=(out, r))
        zeros = np.zeros_like(B)
        shapes = f"x {x.shape}, W {W.shape}, A {A.shape}, B {B.shape}"
        told = f"{shapes}, alpha {alpha}, r {r}"
        frozen = x @ W.T  # [T, out]
        answer = own(x, W, A, zeros, alpha, r)
        untrained = array(answer, frozen.shape, "outputs, a row for each token")
        if not np.allclose(untrained, frozen):
            raise Wrong(f"{told}: with B = 0 the layer must give what the frozen layer gives, and yours does not.")
        correction = alpha / r * (x @ A.T) @ B.T  # [T, out]
        answer = own(x, W, A, B, alpha, r)
        got = array(answer, frozen.shape, "outputs, a row for each token")
        added = got - frozen
        if not np.allclose(added, correction):
            why = _about_correction(added, correction)
            raise Wrong(f"{told}: {why}")
    return (
        "With B = 0 the first step begins with the model that was there. And only B has a gradient then: "
        "that of A is multiplied by B."
    )


def _about_correction(got: np.ndarray, right: np.ndarray) -> str:
    """How a correction differs from the right one: by a factor, or in its direction."""
    if np.allclose(got, 0):
        return "your layer is the frozen one: A and B add nothing."
    along = (got * right).sum()
    square = (right**2).sum()
    factor = along / square
    scaled = factor * right
    if np.allclose(got, scaled):
        return f"the way through A and B is right; its scale is not: yours is {factor:.3g} times as large."
    return "what A and B add is wrong. First x goes through A, then the result through B."


# --- 2.8 --------------------------------------------------------------------------------------------------------------


def codebook(own: Callable) -> str:
    """Check 2.8: the NF4 codebook from quantiles of the normal distribution."""
    _check_codebook(own, _normal, OFFSET, "the quantiles of a normal distribution")
    _check_codebook(own, _normal, 0.9, "the quantiles of a normal distribution")
    _check_codebook(own, _logistic, OFFSET, "the quantiles of a logistic distribution")
    return "These are bitsandbytes' 16 numbers. The two halves differ by one entry, so that 0 has one of its own."


def _normal(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _logistic(share: float) -> float:
    return math.log(share / (1 - share))


def _check_codebook(own: Callable, quantile: Callable[[float], float], offset: float, told: str) -> None:
    answer = own(quantile, offset)
    got = array(answer, (16,), "the 16 numbers of the codebook")
    expected = _codebook(quantile, offset)
    if np.allclose(got, expected, atol=_ROUNDED):
        return
    why = _about_codebook(got, expected)
    raise Wrong(f"With {told} and offset {offset}: {why}")


def _codebook(quantile: Callable[[float], float], offset: float) -> np.ndarray:
    """The numbers [16], ascending (`create_normal_map` of bitsandbytes)."""
    positive = _half(quantile, offset, _POSITIVE)
    negative = _half(quantile, offset, _NEGATIVE)
    numbers = [*positive, 0.0]
    for number_of_half in negative:
        numbers.append(-number_of_half)
    ascending = np.sort(numbers)
    return ascending / ascending.max()


def _half(quantile: Callable[[float], float], offset: float, n: int) -> list[float]:
    """The quantiles at n places from `offset` down to 0.5, which is left out."""
    places = np.linspace(offset, 0.5, n + 1)
    return [quantile(float(place)) for place in places[:-1]]


def _about_codebook(got: np.ndarray, expected: np.ndarray) -> str:
    ascending = np.sort(got)
    mirrored = -expected[::-1]
    if np.allclose(ascending, expected, atol=_ROUNDED):
        return "the numbers are right; they should ascend."
    if np.allclose(ascending, mirrored, atol=_ROUNDED):
        return f"{_POSITIVE} of the numbers are positive and {_NEGATIVE} negative; yours are the other way round."
    largest = np.abs(got).max()
    if largest > 0 and np.allclose(ascending / largest, expected, atol=_ROUNDED):
        return f"divide by the largest, so that the numbers go from -1 to 1; your largest is {largest:.3f}."
    is_zero = np.isclose(got, 0)
    if not is_zero.any():
        return "one of the numbers is 0, exactly: 0 must come back as 0."
    errors = np.abs(ascending - expected)
    worst = errors.argmax()
    right = expected[worst]
    mine = ascending[worst]
    return f"number {worst} is {right:.4f}; yours is {mine:.4f}."


# --- 2.9 --------------------------------------------------------------------------------------------------------------

_REASONS = {
    "weights": "every parameter of the base takes `bits` bits, and a byte has 8 of them",
    "adapter": "a trained parameter is a float32, of 4 bytes",
    "gradients": "every trained parameter has one gradient, and a frozen one has none",
    "optimiser": "AdamW keeps two moments of 4 bytes for each trained parameter",
    "checkpoints": "each layer keeps its input: batch × length vectors of `hidden` numbers, of 4 bytes each",
}


def step_memory(own: Callable) -> str:
    """Check 2.9: the memory of a training step."""
    for case in cases("2.9"):
        model = case["model"]
        batch = case["batch"]
        length = case["length"]
        answer = own(model, batch, length)
        expected = _step_memory(model, batch, length)
        told = f"{model}, batch {batch}, length {length}"
        _check_bill(answer, expected, told)
    return (
        "`labkit.plan_memory` also counts what one layer keeps while its way back is computed, the logits, and the "
        "constants of the 4-bit blocks."
    )


def _check_bill(answer: object, expected: Plan, told: str) -> None:
    if not isinstance(answer, Mapping):
        parts = ", ".join(_REASONS)
        raise Unreadable(answer, f"Expected a dict with the parts {parts}.")
    for part, reason in _REASONS.items():
        if part not in answer:
            present = ", ".join(map(str, answer))
            raise Wrong(f"The part {part!r} is missing; you have {present}.")
        got = number(answer[part], part)
        right = expected[part]
        if not math.isclose(got, right, rel_tol=_RELATIVE, abs_tol=1e-6):
            why = _unit(got, right) or reason
            raise Wrong(f"{told}: {part} takes {right:,.1f} MB, not {got:,.1f}: {why}.")


def _step_memory(model: Mapping[str, float], batch: int, length: int) -> Plan:
    trained = model["trained"]
    tokens = batch * length
    n_bytes = {
        "weights": model["frozen"] * model["bits"] / 8,
        "adapter": 4 * trained,
        "gradients": 4 * trained,
        "optimiser": 2 * 4 * trained,
        "checkpoints": 4 * tokens * model["hidden"] * model["layers"],
    }
    return {part: size / 1e6 for part, size in n_bytes.items()}


def _unit(got: float, right: float) -> str:
    """What unit a figure is in that is right but for its unit."""
    units = {
        1e6: "that is in bytes",
        1e-3: "that is in GB",
        1e6 / 2**20: "a megabyte has 1,000,000 bytes here",
    }
    for factor, explanation in units.items():
        if math.isclose(got, factor * right, rel_tol=1e-6):
            return explanation
    return ""


# --- 5.1b -------------------------------------------------------------------------------------------------------------


class Control:
    """What a callback may change; transformers' TrainerControl has more of these switches."""

    def __init__(self) -> None:
        self.should_training_stop = False
        self.should_save = False

    def __deepcopy__(self, memory: dict) -> "Control":
        return self  # a callback changes this one, not a copy: the checker looks at it


class State:
    """What a callback sees of the run; transformers' TrainerState has more."""

    def __init__(self, log_history: Sequence[HistoryRow]):
        self.log_history = list(log_history)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.log_history == other.log_history


def callback(own: Callable) -> str:
    """Check 5.1b: a callback that ends a run."""
    for case in cases("5.1b"):
        losses = case["losses"]
        patience = case["patience"]
        control = Control()
        state = State(_log(losses))
        returned = own(state, control, patience)
        if returned is not control:
            raise Wrong(f"Return `control`, which the trainer goes on with; you returned {shown(returned)}.")
        stops = bool(plain(control.should_training_stop))
        expected = _is_stalled(losses, patience)
        if stops != expected:
            validations = times(len(losses), "validation")
            told = f"After {validations} with the losses {losses}, and patience {patience}"
            should = "stop" if expected else "go on"
            did = "stops" if stops else "goes on"
            why = case["why"]
            raise Wrong(f"{told}, the run should {should}; yours {did}. {why}")
        if control.should_save:
            raise Wrong("You asked for a checkpoint; switch only `control.should_training_stop` on.")
    return "labkit's own early stopping is such a callback: see `Follower` in labkit/training/callbacks.py."


def _log(losses: Sequence[float]) -> list[HistoryRow]:
    """A history as the trainer keeps it: rows of the training loss stand between those of the validations."""
    rows: list[HistoryRow] = []
    for number_of_validation, loss in enumerate(losses, 1):
        step = 10 * number_of_validation
        rows.append({"loss": 0.1, "learning_rate": 1e-3, "step": step})
        rows.append({"eval_loss": loss, "step": step})
        rows.append({"loss": 9.0, "step": step + 5})
    return rows


def _is_stalled(losses: Sequence[float], patience: int) -> bool:
    if not losses:
        return False
    lowest = min(losses)
    since_best = len(losses) - 1 - losses.index(lowest)
    return since_best >= patience
