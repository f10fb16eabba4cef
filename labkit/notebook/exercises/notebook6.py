"""Checkers of notebook 6: a user's next act, what a reply says, Success and how sure it is, a trie, a loss."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from labkit.metrics import statistics
from labkit.metrics.agreement import cohens_kappa
from labkit.notebook.exercises.answers import Unreadable, Wrong, array, number, shown, truth
from labkit.notebook.exercises.attempt import ReturnedNone
from labkit.notebook.exercises.texts import cases, texts

_ROUNDED = 0.0006  # a share to three decimals is right
_PER_CENT = 0.0501  # per cent to one decimal are right
Values = Mapping[str, str]


# --- 6.1 --------------------------------------------------------------------------------------------------------------


def next_act(own: Callable) -> str:
    for case in cases("6.1"):
        wanted = case["wanted"]
        said = case["said"]
        asked = case["asked"]
        offered = case["offered"]
        answer = own(wanted, said, asked, offered)
        kind, values = _act(answer)
        expected = (case["expected"][0], case["expected"][1])
        if (kind, values) == expected:
            continue
        why = case["why"]
        after = "something was offered" if offered else "nothing was offered yet"
        told = f"The user wants {wanted}, has said {said}, is asked for {asked}, and {after}"
        mine = shown(answer)
        raise Wrong(f"{told}. {why}: {expected[0]!r} with {expected[1]}; yours is {mine}.")
    return "Schatzmann et al. (2007) keep these acts on a stack; the lab's user has more of them, and patience."


def _act(answer: object) -> tuple[str, dict[str, str]]:
    """A student's act; a list is as good as a tuple.

    Raises:
        Unreadable: it is no pair of a text and a dict.
    """
    advice = 'Return a pair, such as ("give", {"food": "thai"}).'
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Unreadable(answer, advice)
    kind, values = answer
    if not isinstance(kind, str) or not isinstance(values, Mapping):
        raise Unreadable(answer, advice)
    return kind.strip().lower(), dict(values)


# --- 6.2 --------------------------------------------------------------------------------------------------------------


def acts(own: Callable) -> str:
    words = texts()["6.2"]["words"]
    for case in cases("6.2"):
        reply = case["reply"]
        expected = set(case["expected"])
        answer = own(reply, words)
        got = _texts_of(answer, 'Return a set of texts, such as {"ask area"}.')
        if got == expected:
            continue
        why = case["why"]
        right = sorted(expected) or "nothing"
        mine = sorted(got) or "nothing"
        raise Wrong(f"{reply!r}. {why}: {right}; yours is {mine}.")
    return (
        "Placeholders are easy to hear. Questions are not always asked in these words, so the lab's user learns them."
    )


def _texts_of(answer: object, advice: str) -> set[str]:
    """A student's set of texts; a list is as good.

    Raises:
        Unreadable: it is no collection of texts.
    """
    if isinstance(answer, str | bytes) or not isinstance(answer, Iterable):
        raise Unreadable(answer, advice)
    found = set(answer)
    if not all(isinstance(one, str) for one in found):
        raise Unreadable(answer, advice)
    return found


# --- 6.3 and 6.4 ------------------------------------------------------------------------------------------------------


def success(own: Callable) -> str:
    for case in cases("6.3"):
        wishes = case["wishes"]
        left = case["left"]
        expected = case["expected"]
        returned = own(wishes, left)
        answer = truth(returned)
        if answer != expected:
            why = case["why"]
            raise Wrong(f"Wishes {wishes}, left is {left}. Success is {expected} here: {why}.")
    return "mwzeval's rule reads replies and states; this one asks the user."


def faults(own: Callable) -> str:
    exercise = texts()["6.4"]
    wanted = exercise["wanted"]
    venues = exercise["venues"]
    count = _counter(venues)
    by_name = {venue["name"]: venue for venue in venues}
    for case in cases("6.4"):
        turns = [(said, by_name.get(name)) for said, name in case["turns"]]
        expected = case["expected"]
        answer = own(turns, wanted, count)
        got = _listed(answer)
        if got == expected:
            continue
        why = case["why"]
        told = "; then ".join(_told(said, offered, count) for said, offered in turns)
        mine = shown(answer)
        raise Wrong(f"The user wants {wanted}. {told}. {why}: {expected}; yours is {mine}.")
    return "A patient user forgives these, and Success does not see them. Strict Success does."


def _counter(venues: Sequence[Values]) -> Callable[[Values], int]:
    """A look-up: constraints → how many venues meet them all; `dontcare` is met by every one."""

    def count(constraints: Values) -> int:
        needed = {slot: value for slot, value in constraints.items() if value != "dontcare"}
        return sum(needed.items() <= venue.items() for venue in venues)

    return count


def _told(said: Values, offered: Values | None, count: Callable[[Values], int]) -> str:
    """One turn in words."""
    fitting = count(said)
    what = f"a venue with {dict(offered)} is offered" if offered else "nothing is offered"
    return f"After {dict(said)}, which {fitting} venues have, {what}"


def _listed(answer: object) -> list[str]:
    advice = 'Return a list of texts, such as ["early offer"], or an empty list.'
    if isinstance(answer, str | bytes) or not isinstance(answer, Iterable):
        raise Unreadable(answer, advice)
    return list(answer)


# --- 6.5 and 6.6 ------------------------------------------------------------------------------------------------------


def wilson(own: Callable) -> str:
    for case in cases("6.5"):
        passed = case["passed"]
        n = case["n"]
        answer = own(passed, n)
        low, high = array(answer, (2,), "the two ends (low, high) of the interval")
        right_low, right_high = statistics.wilson(passed, n)
        if abs(low - right_low) <= _ROUNDED and abs(high - right_high) <= _ROUNDED:
            continue
        why = _which_interval(low, high, passed, n)
        told = f"{passed} of {n}: from {right_low:.3f} to {right_high:.3f}"
        raise Wrong(f"{told}; yours is from {low:.3f} to {high:.3f}.{why}")
    return "It stays between 0 and 1, and 0 of 20 is not certainty: it can still be 16 %."


def _which_interval(low: float, high: float, passed: int, n: int) -> str:
    """The explanation of the one mistake that gives these ends; empty where none does."""
    share = passed / n
    margin = statistics.Z * math.sqrt(share * (1 - share) / n)
    right_low, right_high = statistics.wilson(passed, n)
    if _are(low, high, share - margin, share + margin):
        return " That is the usual approximation (Wald's): it leaves the range, and 0 of 20 would be certain."
    if _are(low, high, 100 * right_low, 100 * right_high):
        return " Shares from 0 to 1, please, not per cent."
    if _are(low, high, right_high, right_low):
        return " The lower end comes first."
    shrink = 1 + statistics.Z**2 / n
    if _are(low, high, right_low * shrink, right_high * shrink):
        return " Centre and half width are both divided by 1 + z²/n."
    return ""


def _are(low: float, high: float, other_low: float, other_high: float) -> bool:
    return abs(low - other_low) <= _ROUNDED and abs(high - other_high) <= _ROUNDED


def paired_p(own: Callable) -> str:
    for case in cases("6.6"):
        a = [letter == "1" for letter in case["a"]]
        b = [letter == "1" for letter in case["b"]]
        answer = own(a, b)
        got = number(answer, "p")
        only_a, only_b = _discordant(a, b)
        expected = statistics.mcnemar(only_a, only_b)
        if abs(got - expected) <= _ROUNDED:
            continue
        why = _which_p(got, only_a, only_b, len(a))
        told = f"{len(a)} goals, of which only A reaches {only_a} and only B {only_b}"
        raise Wrong(f"{told}: p is {expected:.4f}; yours is {got:.4f}.{why}")
    return "Goals that both bots reach, or neither, say nothing about which one is better."


def _discordant(a: Sequence[bool], b: Sequence[bool]) -> tuple[int, int]:
    """How many goals only A reaches, and how many only B."""
    only_a = 0
    only_b = 0
    for by_a, by_b in zip(a, b, strict=True):
        only_a += by_a and not by_b
        only_b += by_b and not by_a
    return only_a, only_b


def _which_p(got: float, only_a: int, only_b: int, n: int) -> str:
    """The explanation of the one mistake that gives this p; empty where none does."""
    fewer = min(only_a, only_b)
    discordant = only_a + only_b
    one_side = sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2**discordant
    if abs(got - one_side) <= _ROUNDED:
        return " That is one side only: B could as well have been the worse one."
    if got > 1:
        return " A probability is never above 1."
    exactly = math.comb(discordant, fewer) / 2**discordant
    if abs(got - exactly) <= _ROUNDED or abs(got - 2 * exactly) <= _ROUNDED:
        return " Add up all k from 0 to the smaller count: what is more extreme counts, too."
    of_all = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    if abs(got - min(1, 2 * of_all)) <= _ROUNDED:
        return " Leave out the goals on which the two agree."
    return ""


# --- 6.7 --------------------------------------------------------------------------------------------------------------


def allowed(own: Callable) -> str:
    trie = trie_of(texts()["6.7"]["values"])
    for case in cases("6.7"):
        written = case["written"]
        expected = set(case["expected"])
        why = case["why"]
        told = f"After {written} may come {sorted(expected) or 'nothing'}: {why}"
        try:
            answer = own(trie, written)
        except ReturnedNone as error:
            if expected:
                raise
            raise Wrong(f"{told}. Return an empty set there, not None.") from error
        got = _texts_of(answer, "Return a set of tokens.")
        if got != expected:
            mine = sorted(got) or "nothing"
            raise Wrong(f"{told}; yours is {mine}.")
    return "All other tokens get the score minus infinity: that is all that a grammar does to a model."


def trie_of(values: Iterable[Sequence]) -> dict:
    """Sequences of tokens as dicts within dicts: {token: what comes after it}."""
    trie: dict = {}
    for tokens in values:
        node = trie
        for token in tokens:
            node = node.setdefault(token, {})
    return trie


def expected_joint(own: Callable) -> str:
    for case in cases("6.7b"):
        n_slots = case["n_slots"]
        p = case["p"]
        shares = [(1 - p) ** k for k in n_slots]
        expected = 100 * sum(shares) / len(shares)
        answer = own(n_slots, p)
        got = number(answer, "the joint accuracy")
        if abs(got - expected) <= _PER_CENT:
            continue
        scale = ""
        if abs(100 * got - expected) <= _PER_CENT:
            scale = " Per cent, please."
        told = f"Turns with {n_slots} slots, each of which is missing with probability {p}"
        raise Wrong(f"{told}: joint accuracy {expected:.2f}; yours is {got:.4g}.{scale}")
    return "Joint accuracy punishes long states: the more slots, the more chances to miss one."


# --- 6.8 --------------------------------------------------------------------------------------------------------------


def dpo(own: Callable) -> str:
    """Check 6.8: the value of the loss, and that it has a gradient."""
    import torch

    from labkit.training.preferences import dpo_loss

    for case in cases("6.8"):
        names = ("chosen", "rejected", "chosen_reference", "rejected_reference")
        tensors = [torch.tensor(case[name], requires_grad=True) for name in names]
        beta = case["beta"]
        expected = dpo_loss(*tensors, beta).item()
        returned = own(*tensors, beta)
        loss = array(returned, (), "one number, the mean over the pairs")
        got = float(loss)
        told = ", ".join(f"{name} {case[name]}" for name in names)
        if not math.isclose(got, expected, rel_tol=1e-3, abs_tol=1e-4):
            why = _which_loss(got, case, expected)
            name = case["name"].capitalize()
            raise Wrong(f"{name} ({told}, beta {beta}): the loss is {expected:.4f}; yours is {got:.4f}.{why}")
        if not getattr(returned, "requires_grad", False):
            raise Wrong("The value is right, but it has no gradient: stay with torch, without .item() and .numpy().")
    return "The reference keeps the model near what it was: only the gain over it counts, not the likelihood itself."


def _which_loss(got: float, case: Mapping[str, Sequence[float]], expected: float) -> str:
    """The explanation of the one mistake that gives this value; empty where none does."""
    if not math.isfinite(got):
        return " Take logsigmoid in one step: the logarithm of a rounded 0 is minus infinity."
    n = len(case["chosen"])
    if n > 1 and math.isclose(got, n * expected, rel_tol=1e-3):
        return " The mean over the pairs, please, not the sum."
    if math.isclose(got, -expected, rel_tol=1e-3):
        return " A loss falls when the model gets better: the sign is the other way."
    return ""


# --- 6.9 --------------------------------------------------------------------------------------------------------------


def kappa(own: Callable) -> str:
    for case in cases("6.9"):
        first = list(case["first"])
        second = list(case["second"])
        answer = own(first, second)
        got = number(answer, "kappa")
        agreement = cohens_kappa(first, second)
        told = f"first {first}, second {second}"
        if agreement.kappa is None:
            if not math.isnan(got):
                raise Wrong(
                    f"{told}: chance alone would give 1, so nothing can be said: return NaN; yours is {got:.4g}."
                )
            continue
        if not abs(got - agreement.kappa) <= _ROUNDED:
            shares = f"observed {agreement.observed:.3f}, expected {agreement.expected:.3f}"
            why = ""
            if abs(got - agreement.observed) <= _ROUNDED:
                why = " That is the observed agreement: take off what chance would give."
            raise Wrong(f"{told}: kappa is {agreement.kappa:.3f} ({shares}); yours is {got:.4g}.{why}")
    return "Nine of ten alike can be no agreement at all, where one label is chosen nine times out of ten."


CHECKERS = {
    "6.1": next_act,
    "6.2": acts,
    "6.3": success,
    "6.4": faults,
    "6.5": wilson,
    "6.6": paired_p,
    "6.7": allowed,
    "6.7b": expected_joint,
    "6.8": dpo,
    "6.9": kappa,
}
