"""Right and wrong answers to the exercises of notebook 6; test_proofs.py judges them all."""

import itertools
import math
import re

import numpy as np
import torch

from labkit.metrics.statistics import wilson
from labkit.notebook.exercises.notebook6 import trie_of


def next_act(wanted, said, asked, offered):
    known = {slot: wanted[slot] for slot in asked if slot in wanted}
    if known:
        return "give", known
    if asked:
        return "dontcare", {asked[0]: "dontcare"}
    unsaid = [slot for slot in wanted if slot not in said]
    if unsaid:
        return "give", {unsaid[0]: wanted[unsaid[0]]}
    return ("close" if offered else "search"), {}


def next_act_by_pops(wanted, said, asked, offered):
    answers = [(slot, wanted[slot]) for slot in asked if slot in wanted]
    if answers:
        return ["give", dict(answers)]
    for slot in asked:
        return ["dontcare", {slot: "dontcare"}]
    for slot, value in wanted.items():
        if slot not in said:
            return ["give", {slot: value}]
    return ["close", {}] if offered else ["search", {}]


def next_act_without(rule):
    """Rules left out, one at a time."""

    def act(wanted, said, asked, offered):
        known = {slot: wanted[slot] for slot in asked if slot in wanted}
        if rule == "only unsaid":
            known = {slot: value for slot, value in known.items() if slot not in said}
        if rule == "one answer":
            known = dict(list(known.items())[:1])
        if known and rule != "answer":
            return "give", known
        if asked and rule != "dontcare":
            return "dontcare", {(asked[-1] if rule == "last" else asked[0]): "dontcare"}
        unsaid = [slot for slot in wanted if slot not in said]
        if offered and rule == "offer first":
            return "close", {}
        if unsaid:
            return "give", {slot: wanted[slot] for slot in (unsaid if rule == "all" else unsaid[:1])}
        return ("close" if offered and rule != "never closes" else "search"), {}

    return act


TELLS = ("phone", "address", "postcode", "reference")


def acts(reply, words):
    found = set()
    for domain, slot in re.findall(r"\[([a-z]+)_([a-z]+)\]", reply):
        if slot in ("name", "trainid"):
            found.add(f"offer {domain}")
        if slot in TELLS:
            found.add(f"tell {slot}")
    plain = re.sub(r"\[.*?\]", "", reply).lower()
    for question in re.findall(r"[^.!?]*\?", plain):
        found |= {f"ask {words[word]}" for word in re.findall("[a-z]+", question) if word in words}
    return found


def acts_by_splitting(reply, words):
    names = [part.split("]")[0].split("_") for part in reply.split("[")[1:]]
    found = [f"offer {domain}" for domain, slot in names if slot in ("name", "trainid")]
    found += [f"tell {slot}" for _, slot in names if slot in TELLS]
    text = "".join(part.split("]")[-1] for part in reply.split("["))
    sentence = ""
    for letter in text.lower():
        sentence += letter
        if letter in ".!?":
            asked = sentence.replace(",", " ").replace("?", " ? ").split()
            found += [f"ask {words[word]}" for word in asked if word in words and letter == "?"]
            sentence = ""
    return found


def acts_with(
    offers=("name", "trainid"), tells=TELLS, names=False, questions=True, lower=True, parts=False, whole=True
):
    """One thing done otherwise."""

    def own(reply, words):
        found = set()
        for domain, slot in re.findall(r"\[([a-z]+)_([a-z]+)\]", reply):
            if slot in offers:
                found.add(f"offer {domain}")
            if slot in tells:
                found.add(f"tell {slot}")
        text = reply if names else re.sub(r"\[.*?\]", "", reply)
        text = text.lower() if lower else text
        asked = re.findall(r"[^.!?]*\?" if whole else r".*\?", text) if questions else [text]
        for question in asked:
            if parts:
                found |= {f"ask {slot}" for word, slot in words.items() if word in question}
            else:
                found |= {f"ask {words[word]}" for word in re.findall("[a-z]+", question) if word in words}
        return found

    return own


def success(wishes, left):
    for wish in wishes:
        told = set(wish["asks"]) <= set(wish["told"])
        if not (wish["right"] and told and (wish["booked"] or not wish["booking"])):
            return False
    return not left


def success_by_counting(wishes, left):
    failed = [w for w in wishes if not w["right"] or (w["booking"] and not w["booked"])]
    failed += [slot for w in wishes for slot in w["asks"] if slot not in w["told"]]
    return np.bool_(len(failed) == 0 and left is False)


def success_of(fulfilled, join=all, leave=True):
    return lambda wishes, left: join(fulfilled(wish) for wish in wishes) and not (left and leave)


def told_all(wish):
    return set(wish["asks"]) <= set(wish["told"])


def booked(wish):
    return wish["booked"] or not wish["booking"]


def faults(turns, wanted, count):
    found = []
    for said, offered in turns:
        if offered is None:
            continue
        if any(value not in ("dontcare", offered.get(slot)) for slot, value in said.items()):
            found.append("wrong offer")
        elif set(wanted) - set(said) and count(said) > 5:
            found.append("early offer")
    return found


def faults_as_generator(turns, wanted, count):
    for said, offered in turns:
        if offered:
            fits = all(value in (offered[slot], "dontcare") for slot, value in said.items())
            if not fits:
                yield "wrong offer"
            if fits and count(said) >= 6 and any(slot not in said for slot in wanted):
                yield "early offer"


def faults_with(most=5, both=False, careless=False, unsaid=True, any_turn=False):
    def own(turns, wanted, count):
        found = []
        for said, offered in turns:
            if offered is None and not any_turn:
                continue
            offered = offered or {}
            fits = ("dontcare",) if not careless else ()
            wrong = any(value not in (*fits, offered.get(slot)) for slot, value in said.items())
            found += ["wrong offer"] * wrong
            early = count(said) > most and (bool(set(wanted) - set(said)) or not unsaid)
            found += ["early offer"] * (early and (both or not wrong))
        return found

    return own


def own_wilson(passed, n, z=1.96):
    share, shrink = passed / n, 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / shrink
    return centre - half, centre + half


def wilson_by_roots(passed, n):
    """The two shares p whose own deviation is z: (passed / n - p)² = z² p (1 - p) / n, solved for p."""
    z2, share = 1.96**2, passed / n
    return torch.tensor(sorted(np.roots([1 + z2 / n, -2 * share - z2 / n, share**2]).real))


def wald(passed, n):
    share = passed / n
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    return share - half, share + half


def times_shrink(passed, n):
    return tuple(end * (1 + 1.96**2 / n) for end in own_wilson(passed, n))


def counts(a, b):
    return sum(x and not y for x, y in zip(a, b, strict=True)), sum(y and not x for x, y in zip(a, b, strict=True))


def paired_p(a, b):
    only_a, only_b = counts(a, b)
    n = only_a + only_b
    return min(1, 2 * sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1)) / 2**n)


def paired_p_by_all_ways(a, b):
    only_a, only_b = counts(a, b)
    n, lead = only_a + only_b, abs(only_a - only_b)
    ways = [abs(2 * sum(way) - n) >= lead for way in itertools.product((0, 1), repeat=n)]
    return torch.tensor(sum(ways) / len(ways))


def paired_p_with(sides=2, least=0, cut=True, everything=False):
    def own(a, b):
        only_a, only_b = counts(a, b)
        n, fewer = len(a) if everything else only_a + only_b, min(only_a, only_b)
        p = sides * sum(math.comb(n, k) for k in range(fewer if least else 0, fewer + 1)) / 2**n
        return min(1, p) if cut else p

    return own


def allowed(trie, written):
    for token in written:
        if token not in trie:
            return set()
        trie = trie[token]
    return set(trie)


def allowed_by_recursion(trie, written):
    if not written:
        return list(trie)
    first, *rest = written
    return allowed_by_recursion(trie.get(first, {}), rest)


def allowed_or(nothing):
    def own(trie, written):
        for token in written:
            if token not in trie:
                return nothing
            trie = trie[token]
        return set(trie) or nothing

    return own


def stays(trie, written):
    """Goes on where it is when a token is not there."""
    for token in written:
        trie = trie.get(token, trie)
    return set(trie)


def everything_below(trie, written):
    for token in written:
        trie = trie.get(token, {})
    return set(trie).union(*(everything_below(below, []) for below in trie.values()))


def expected_joint(n_slots, p):
    return 100 * sum((1 - p) ** k for k in n_slots) / len(n_slots)


def dpo(chosen, rejected, chosen_reference, rejected_reference, beta):
    return -torch.nn.functional.logsigmoid(beta * (chosen - chosen_reference - rejected + rejected_reference)).mean()


def dpo_by_softplus(chosen, rejected, chosen_reference, rejected_reference, beta):
    ratios = torch.stack([chosen - rejected, chosen_reference - rejected_reference])
    return torch.nn.functional.softplus(beta * (ratios[1] - ratios[0])).sum() / len(chosen)


def dpo_of(margin, last=lambda margin: -torch.nn.functional.logsigmoid(margin).mean()):
    return lambda c, r, cr, rr, beta: last(margin(c, r, cr, rr, beta))


def margin(c, r, cr, rr, beta):
    return beta * ((c - cr) - (r - rr))


def kappa(first, second):
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    expected = sum(first.count(x) * second.count(x) for x in {*first, *second}) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def kappa_by_table(first, second):
    labels = sorted({*first, *second})
    table = np.zeros((len(labels), len(labels)))
    for a, b in zip(first, second, strict=True):
        table[labels.index(a), labels.index(b)] += 1 / len(first)
    by_chance = table.sum(1) @ table.sum(0)
    return (np.trace(table) - by_chance) / (1 - by_chance)


def kappa_of(expected, last=lambda observed, by_chance: (observed - by_chance) / (1 - by_chance)):
    def own(first, second):
        observed = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
        by_chance = expected(first, second)
        return last(observed, by_chance) if by_chance < 1 else float("nan")

    return own


def by_chance(first, second):
    return sum(first.count(x) * second.count(x) for x in {*first, *second}) / len(first) ** 2


def observed_of(first, second):
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


RIGHT = {
    "6.1": [next_act, next_act_by_pops],
    "6.2": [acts, acts_by_splitting, lambda reply, words: frozenset(acts(reply, words))],
    "6.3": [success, success_by_counting],
    "6.4": [faults, faults_as_generator, lambda *args: tuple(faults(*args))],
    "6.5": [own_wilson, wilson_by_roots, wilson, lambda passed, n: np.round(wilson(passed, n), 3)],
    "6.6": [paired_p, paired_p_by_all_ways],
    "6.7": [allowed, allowed_by_recursion, lambda trie, written: dict.fromkeys(allowed(trie, written))],
    "6.8": [dpo, dpo_by_softplus],
    "6.9": [kappa, kappa_by_table],
    "6.7b": [expected_joint, lambda n_slots, p: np.mean([100 * (1 - p) ** k for k in n_slots])],
}

WRONG = {
    "6.1": [
        (next_act_without("answer"), "The bot asks for what the user knows"),
        (next_act_without("dontcare"), "The user has no wish about the price"),
        (next_act_without("only unsaid"), "A patient user answers twice"),
        (next_act_without("one answer"), "Two slots are asked for"),
        (next_act_without("last"), "of two that do not matter, the first"),
        (next_act_without("offer first"), "The offer came too early"),
        (next_act_without("all"), "Nothing is asked"),
        (next_act_without("never closes"), "something was offered"),
        (lambda *args: next_act(*args)[0], "Return a pair"),
        (lambda *args: next_act(*args)[::-1], "Return a pair"),
    ],
    "6.2": [
        (acts_with(names=True), "The name of a placeholder is no word"),
        (acts_with(questions=False), "This is no question"),
        (acts_with(whole=False), "Only the second sentence is a question"),
        (acts_with(parts=True), "Words count whole"),
        (acts_with(lower=False), "Capital letters change nothing"),
        (acts_with(offers=("name",)), "A train is offered by its number"),
        (acts_with(tells=("phone", "postcode", "address")), "A reference number is told"),
        (acts_with(offers=("name", "trainid", "area")), "an area is no offer"),
        (lambda reply, words: " ".join(acts(reply, words)), "Return a set of texts"),
        (lambda reply, words: [act.split() for act in acts(reply, words)], "I could not read"),
    ],
    "6.3": [
        (success_of(lambda wish: wish["right"] and told_all(wish) and wish["booked"]), "no booking was wanted"),
        (success_of(lambda wish: wish["right"] and booked(wish)), "the address was never told"),
        (success_of(lambda wish: told_all(wish) and booked(wish)), "nothing right was offered"),
        (success_of(lambda wish: wish["right"] and told_all(wish)), "the user wanted a booking"),
        (success_of(lambda w: w["right"] and booked(w) and w["asks"] == w["told"]), "more was told"),
        (success_of(lambda w: w["right"] and told_all(w) and w["booked"] == w["booking"]), "a strict one may"),
        (success_of(lambda wish: wish["right"] and told_all(wish) and booked(wish), leave=False), "the user left"),
        (success_of(lambda wish: wish["right"] and told_all(wish) and booked(wish), any), "wish is not fulfilled"),
        (lambda wishes, left: success(wishes[:1], left), "the second wish is not fulfilled"),
        (lambda wishes, left: "yes" if success(wishes, left) else "no", "Return True or False"),
    ],
    "6.4": [
        (faults_with(most=4), "Five fit, which is not above 5"),
        (faults_with(most=0), "so few may be offered"),
        (faults_with(most=6), "Six venues fit"),
        (faults_with(both=True), "not called early as well"),
        (faults_with(careless=True), "`dontcare` fits every venue"),
        (faults_with(unsaid=False), "All is said: the food does not matter"),
        (faults_with(any_turn=True), "nothing is offered"),
        (lambda *args: faults(*args)[::-1], "First an early offer, then a wrong one"),
        (lambda *args: len(faults(*args)), "Return a list of texts"),
    ],
    "6.5": [
        (wald, "That is the usual approximation"),
        (lambda passed, n: [100 * end for end in wilson(passed, n)], "not per cent"),
        (lambda passed, n: wilson(passed, n)[::-1], "The lower end comes first"),
        (times_shrink, "both divided by 1 + z²/n"),
        (lambda passed, n: own_wilson(passed, n, 1.645), "10 of 20"),
        (lambda passed, n: own_wilson(passed, n)[0], "an array of shape (2,)"),
    ],
    "6.6": [
        (paired_p_with(sides=1), "one side only"),
        (paired_p_with(least=1), "Add up all k"),
        (paired_p_with(cut=False), "never above 1"),
        (paired_p_with(everything=True), "on which the two agree"),
        (lambda a, b: abs(sum(a) - sum(b)), "p is"),
        (lambda a, b: "p = 0.07", "p should be a number"),
    ],
    "6.7": [
        (lambda trie, written: set(trie), "three values go on like that"),
        (stays, "no value begins like that"),
        (everything_below, "every value may begin"),
        (allowed_or({";"}), "nothing comes after the end"),
        (allowed_or(None), "an empty set there, not None"),
        (lambda trie, written: allowed(trie, written[-1:]), "yours is nothing"),
        (lambda trie, written: allowed(trie, written[:1]), "the beginning of a longer one"),
        (lambda trie, written: ";", "Return a set of tokens"),
    ],
    "6.7b": [
        (lambda n_slots, p: expected_joint(n_slots, p) / 100, "Per cent, please"),
        (lambda n_slots, p: 100 * (1 - p) ** (sum(n_slots) / len(n_slots)), "joint accuracy 31.25"),
        (lambda n_slots, p: 100 * (1 - p), "joint accuracy 81.00"),
        (lambda n_slots, p: expected_joint(n_slots, 1 - p), "joint accuracy 90.00"),
        (lambda n_slots, p: [expected_joint([k], p) for k in n_slots], "should be a number"),
    ],
    "6.8": [
        (dpo_of(lambda c, r, cr, rr, beta: beta * (c - r)), "Nothing has been learnt yet"),
        (dpo_of(lambda c, r, cr, rr, beta: beta * (c - cr)), "Both have gained"),
        (dpo_of(lambda c, r, cr, rr, beta: (c - cr) - (r - rr)), "The chosen reply has gained"),
        (dpo_of(lambda c, r, cr, rr, beta: beta * ((r - rr) - (c - cr))), "The chosen reply has gained"),
        (dpo_of(margin, lambda m: torch.nn.functional.logsigmoid(m).mean()), "the sign is the other way"),
        (dpo_of(margin, lambda m: -torch.nn.functional.logsigmoid(m).sum()), "not the sum"),
        (dpo_of(margin, lambda m: -torch.log(torch.sigmoid(m)).mean()), "logsigmoid in one step"),
        (dpo_of(margin, lambda m: -torch.nn.functional.logsigmoid(m)), "one number, the mean over the pairs"),
        (dpo_of(margin, lambda m: -torch.nn.functional.logsigmoid(m).mean().item()), "it has no gradient"),
        (dpo_of(margin, lambda m: -m.mean()), "Nothing has been learnt yet"),
    ],
    "6.9": [
        (observed_of, "take off what chance would give"),
        (kappa_of(lambda first, second: 0.5), "kappa is"),
        (kappa_of(lambda first, second: 1 / len({*first, *second})), "kappa is"),
        (kappa_of(by_chance, lambda observed, chance: observed - chance), "kappa is"),
        (kappa_of(lambda first, second: sum((first.count(x) / len(first)) ** 2 for x in {*first})), "kappa is"),
        (lambda first, second: kappa(first, second) if first != second else 1, "return NaN; yours is 1"),
        (lambda first, second: str(kappa(first, second)) + " or so", "kappa should be a number"),
    ],
}


assert trie_of([["a", "b"], ["a"]]) == {"a": {"b": {}}}
