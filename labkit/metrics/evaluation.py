"""Predictions against what the corpus holds: both normalised, checked, and added up to scores."""

import re
from collections.abc import Iterable
from functools import cache, cached_property
from itertools import chain
from typing import Any

import numpy as np

from labkit.corpora.types import SPLIT_ALIASES, USER, Corpus, State
from labkit.errors import LabError
from labkit.metrics.bleu import bleu_counts, bleu_score
from labkit.metrics.database import VenueDatabase
from labkit.metrics.dst import state_tracking
from labkit.metrics.normalization import normalise_reply, normalise_state
from labkit.metrics.predictions import Predictions
from labkit.metrics.richness import richness
from labkit.metrics.scores import Explanation, Scores, TurnNote
from labkit.metrics.success import TurnInput, Verdict, active_domains, follow, judge
from labkit.prompts import delexicalise

TELLING = {"name", "phone", "postcode", "trainid", "trainID", "address", "ref"}  # what no delexicalised reply holds
RARE, SIZEABLE = 0.2, 0.2  # placeholders, against the references' share; replies with telling values, of all
_CLASS = re.compile("[A-Z]{2}")  # normalised text has capitals only where a placeholder was


class Gold:
    """References, belief states and goals of a split; each dialogue is normalised when it is first asked for."""

    def __init__(self, corpus: Corpus, split: str):
        self.corpus, self.split, self.source = corpus, split, corpus[split]
        self.dialogues = {dialogue.key: dialogue for dialogue in self.source}
        self.references, self.states = cache(self._references), cache(self._states)

    def _references(self, key: str) -> list[str]:
        return [normalise_reply(delexicalise(turn))[0] for turn in self.dialogues[key].bot_turns]

    def _states(self, key: str) -> list[State]:
        return [normalise_state(_decided(turn.state)) for turn in self.dialogues[key].bot_turns]

    @cached_property
    def database(self) -> VenueDatabase:
        return VenueDatabase(self.corpus.database)

    @cached_property
    def telling_values(self) -> set[str]:
        """Names, numbers and addresses of the database and the split, in lower case, that are long enough to tell."""
        spans = (span for dialogue in self.source for turn in dialogue.bot_turns for span in turn.spans)
        rows = (row for rows in self.corpus.database.values() if isinstance(rows, list) for row in rows)
        values = {span.value for span in spans if span.slot in TELLING}
        values |= {row[column] for row in rows for column in TELLING & set(row) if isinstance(row[column], str)}
        return {value.strip().lower() for value in values if len(value.strip()) > 4}


def _decided(state: State) -> State:
    """The state without "dontcare", which is no constraint."""
    kept = {domain: {s: v for s, v in slots.items() if v != "dontcare"} for domain, slots in state.items()}
    return {domain: slots for domain, slots in kept.items() if slots}


def gold_of(corpus: Corpus, split: str) -> Gold:
    """The split's gold; it is kept on the corpus, as long as that lives."""
    kept, split = corpus.__dict__.setdefault("_gold", {}), SPLIT_ALIASES.get(split, split)
    if split not in kept or kept[split].source is not corpus[split]:
        kept[split] = Gold(corpus, split)
    return kept[split]


class Evaluation:
    """Predictions on a split, normalised: lists by dialogue key with one item a turn.

    Raises:
        LabError: nothing was predicted, or dialogues or turns that the split doesn't have.
    """

    def __init__(self, predictions: Predictions, gold: Gold):
        self.predictions, self.gold = predictions, gold
        self._check_coverage()
        normalised = {key: [normalise_reply(turn["response"]) for turn in turns] for key, turns in predictions.items()}
        self.replies = {key: [text for text, _ in texts] for key, texts in normalised.items()}
        self.unknown = [(key, n, name) for key, ts in normalised.items() for n, t in enumerate(ts) for name in t[1]]
        self.has_states, self.has_active = map(self._everywhere, ("state", "active_domains"))
        self.states = {key: self._states(key) for key in predictions}

    def _check_coverage(self) -> None:
        dialogues, split = self.gold.dialogues, self.gold.split
        if not any(self.predictions.values()):
            raise LabError("there are no predictions", "", f"predict some dialogues of the split {split!r}")
        for key, turns in self.predictions.items():
            if key not in dialogues:
                found = f"the split {split!r} of {self.gold.corpus.name} has no such dialogue"
                raise LabError(f"dialogue {key}", found, "check the corpus, the split and the spelling of the ids")
            if len(turns) > (expected := len(dialogues[key].bot_turns)):
                found = f"the dialogue has only {expected} system turns, and {len(turns)} were predicted"
                raise LabError(f"dialogue {key}, turn {expected}", found, "predict one reply for each system turn")

    def _everywhere(self, field: str) -> bool:
        return all(field in turn for turns in self.predictions.values() for turn in turns)

    def _states(self, key: str) -> list[State]:
        if self.has_states:
            return [normalise_state(turn["state"]) for turn in self.predictions[key]]
        return self.gold.states(key)[: len(self.predictions[key])]

    def _inputs(self, key: str) -> list[TurnInput]:
        states, turns = self.states[key], self.predictions[key]
        active = [turn["active_domains"] for turn in turns] if self.has_active else active_domains(states)
        booked = self.gold.corpus.booked.get(key) or [[]] * len(turns)
        return list(map(TurnInput, self.replies[key], states, active, booked))

    def _verdicts(self, key: str) -> list[Verdict]:
        goal = self.gold.corpus.goals[key]
        *_, offers = follow(goal, self._inputs(key), self.gold.database)
        return judge(goal, offers, self.gold.database)

    def scores(self) -> Scores:
        """All scores, from tallies of the dialogues."""
        keys = list(self.predictions)
        hypotheses, references = list(chain.from_iterable(self.replies.values())), self._references()
        verdicts = {key: self._verdicts(key) for key in keys if key in self.gold.corpus.goals}
        tallies = np.zeros((len(keys), 13), dtype=np.int64)
        np.add.at(
            tallies[:, :10],
            np.repeat(np.arange(len(keys)), [len(turns) for turns in self.replies.values()]),
            bleu_counts(hypotheses, references),
        )
        passed = {key: _passed(found) for key, found in verdicts.items()}
        tallies[:, 10:] = [(*passed[key]["total"], 1) if key in passed else (0, 0, 0) for key in keys]
        rates = _rates(passed.values())
        totals = {name: by_domain.pop("total") for name, by_domain in rates.items()}
        pairs = (pair for key in keys for pair in zip(self.states[key], self.gold.states(key), strict=False))
        return Scores(
            bleu=bleu_score(tallies[:, :10].sum(axis=0)),
            inform=totals.get("inform"),
            success=totals.get("success"),
            per_domain=rates,
            richness=richness(hypotheses),
            dst=state_tracking(pairs) if self.has_states else None,
            n_dialogues=len(keys),
            n_turns=len(hypotheses),
            notes=tuple(self._notes()),
            keys=keys,
            tallies=tallies,
            explain=self.explain,
        )

    def _references(self) -> list[str]:
        return [text for key, turns in self.replies.items() for text in self.gold.references(key)[: len(turns)]]

    def explain(self, dialogue_id: str) -> Explanation:
        """Turn by turn, what was offered and told, and what the goal wanted.

        Raises:
            LabError: the dialogue was not predicted, or it has no goal.
        """
        key = dialogue_id.split(".")[0].lower()
        goal = self.gold.corpus.goals.get(key)
        if key not in self.predictions or goal is None:
            found = "it has no goal" if key in self.predictions else "it is not among the predictions"
            raise LabError(f"dialogue {key} cannot be explained", found, "choose another")
        inputs = self._inputs(key)
        steps = list(follow(goal, inputs, self.gold.database))
        users = [turn.utterance for turn in self.gold.dialogues[key].turns if turn.speaker == USER]
        rows = zip(users, self.predictions[key], inputs, steps, steps[1:], strict=False)
        turns = [self._note(goal, user, turn["response"], *row) for user, turn, *row in rows]
        return Explanation(key, goal, tuple(turns), tuple(judge(goal, steps[-1], self.gold.database)))

    def _note(self, goal: dict, user: str, response: str, turn: TurnInput, before: dict, after: dict) -> TurnNote:
        new = {domain: after[domain].entities for domain in goal if after[domain].entities != before[domain].entities}
        wanted = {domain: self.gold.database.query(domain, goal[domain]["informable"]) for domain in new}
        told = {domain: tuple(sorted(after[domain].told - before[domain].told)) for domain in goal}
        told = {domain: slots for domain, slots in told.items() if slots}
        offered = {domain: (len(ids), len(ids & wanted[domain])) for domain, ids in new.items()}
        return TurnNote(user, response, tuple(filter(None, turn.active)), offered, told)

    def _notes(self) -> Iterable[str]:
        """What a reader of the scores has to know."""
        corpus, dialogues, predicted = self.gold.corpus, self.gold.dialogues, self.predictions
        if corpus.stand_in:
            yield f"{corpus.name} is a stand-in: these scores cannot be compared with published ones"
        if len(predicted) < len(dialogues):
            yield f"scored over the {len(predicted)} dialogues predicted, of {len(dialogues)} in {self.gold.split}"
        short = [key for key, turns in predicted.items() if len(turns) < len(dialogues[key].bot_turns)]
        if short:
            yield f"{len(short)} dialogue(s) end early (first: {short[0]}): scored over the replies that are there"
        empty = [f"{key}, turn {n}" for key, texts in self.replies.items() for n, text in enumerate(texts) if not text]
        if empty:
            yield f"{len(empty)} empty replies (first: dialogue {empty[0]})"
        if self.unknown:
            names = ", ".join(sorted({f"[{name}]" for *_, name in self.unknown})[:5])
            yield "unknown slot names were taken out: {} (first: dialogue {}, turn {})".format(names, *self.unknown[0])
        if without := sum(key not in corpus.goals for key in predicted):
            yield f"{without} dialogue(s) have no goal, or the corpus has no database: no Inform and Success for them"
        if not self.has_states:
            yield "not every reply has a predicted belief state: the annotated states are used, which is optimistic"

    def refuse_lexical(self) -> None:
        """Raise LabError if names and numbers stand where the references have placeholders."""
        ours = list(chain.from_iterable(self.replies.values()))
        if _delexicalised(ours) >= RARE * _delexicalised(self._references()):
            return
        places = [f"dialogue {key}, turn {n}" for key, texts in self.replies.items() for n in range(len(texts))]
        sample = list(zip(places, ours, strict=True))[:: len(ours) // 200 + 1]  # enough to tell, from all over the set
        telling = [place for place, text in sample if any(value in text for value in self.gold.telling_values)]
        if len(telling) >= SIZEABLE * len(sample):
            raise LabError(
                "these replies are lexical",
                f"{len(telling)} of {len(sample)} hold a name, number or address (first: {telling[0]}), but BLEU, "
                "Inform and Success are defined on delexicalised replies like '[restaurant_name] is nice'",
                "predict delexicalised replies, or allow lexical ones if you mean it (allow_lexical=True)",
            )


def _delexicalised(replies: list[str]) -> float:
    """The share of replies with a placeholder."""
    return sum(_CLASS.search(reply) is not None for reply in replies) / len(replies)


def _passed(verdicts: list[Verdict]) -> dict[str, tuple[bool, bool]]:
    """{domain or "total": (Inform, Success)}. Success in a domain presupposes Inform in all of them."""
    inform = all(verdict.inform for verdict in verdicts)
    passed = {verdict.domain: (verdict.inform, inform and not verdict.missing) for verdict in verdicts}
    return passed | {"total": (inform, inform and all(success for _, success in passed.values()))}


def _rates(dialogues: Iterable[dict[str, tuple[bool, bool]]]) -> dict[str, dict[str, float]]:
    """{"inform" | "success": {domain or "total": per cent, rounded to one digit}}; {} of no dialogues."""
    by_domain: dict[str, list[tuple[bool, bool]]] = {}
    for domain, flags in chain.from_iterable(passed.items() for passed in dialogues):
        by_domain.setdefault(domain, []).append(flags)
    rates: dict[str, Any] = {
        name: {domain: round(100 * sum(f[i] for f in flags) / len(flags), 1) for domain, flags in by_domain.items()}
        for i, name in enumerate(("inform", "success"))
    }
    return rates if by_domain else {}
