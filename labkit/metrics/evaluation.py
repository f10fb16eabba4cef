"""Predictions against what the corpus holds: both normalised, checked, and added up to scores."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import chain, pairwise

import numpy as np

from labkit.corpora.slots import CLASS_OF
from labkit.corpora.types import SPLIT_ALIASES, USER, Corpus, State
from labkit.errors import LabError
from labkit.metrics.bleu import bleu_counts, bleu_score
from labkit.metrics.database import VenueDatabase
from labkit.metrics.dst import state_tracking
from labkit.metrics.normalization import normalise_reply, normalise_state, slot_name
from labkit.metrics.predictions import Predictions, checked
from labkit.metrics.richness import richness
from labkit.metrics.scores import Explanation, Scores
from labkit.metrics.success import TurnInput, Verdict, active_domains, change, follow, judge, passed
from labkit.prompts.text import delexicalise

TELLING = {"name", "phone", "postcode", "trainid", "trainID", "address", "ref"}  # what no delexicalised reply holds
RATES = ("inform", "success")
RARE, SIZEABLE = 0.2, 0.2  # placeholders, against the references' share; replies with telling values, of all
_CLASS = re.compile("[A-Z]{2}")  # normalised text has capitals only where a placeholder was


class Gold:
    """References, belief states and goals of a split; each dialogue is normalised when it is first asked for."""

    def __init__(self, corpus: Corpus, split: str):
        self.corpus, self.split, self.source = corpus, split, corpus[split]
        self.dialogues = {dialogue.key: dialogue for dialogue in self.source}
        self.database = VenueDatabase(corpus.database)
        schema = (slot["name"].split("-")[-1] for service in corpus.schema for slot in service.get("slots", ()))
        self.slots = {slot_name(name) for name in (*CLASS_OF, *schema)}  # that a belief state may have
        self.references, self.states = cache(self._references), cache(self._states)

    def _references(self, key: str) -> list[str]:
        return [normalise_reply(delexicalise(turn))[0] for turn in self.dialogues[key].bot_turns]

    def _states(self, key: str) -> list[State]:
        """Without "dontcare", which is no constraint."""
        states = (turn.state.items() for turn in self.dialogues[key].bot_turns)
        kept = ({d: {s: v for s, v in slots.items() if v != "dontcare"} for d, slots in state} for state in states)
        return [normalise_state({d: slots for d, slots in state.items() if slots}) for state in kept]

    @cached_property
    def telling_values(self) -> set[str]:
        """Names, numbers and addresses of the database and the split, in lower case, that are long enough to tell."""
        spans = (span for dialogue in self.source for turn in dialogue.bot_turns for span in turn.spans)
        rows = chain.from_iterable(rows for rows in self.corpus.database.values() if isinstance(rows, list))
        entries = (entry for row in rows for column, entry in row.items() if column in TELLING)
        values = chain(entries, (span.value for span in spans if span.slot in TELLING))
        return {text for value in values if isinstance(value, str) and len(text := value.strip().lower()) > 4}


def gold_of(corpus: Corpus, split: str) -> Gold:
    """The split's gold; it is kept on the corpus, as long as that lives."""
    kept, split = corpus.__dict__.setdefault("_gold", {}), SPLIT_ALIASES.get(split, split)
    if split not in kept or kept[split].source is not corpus[split]:
        kept[split] = Gold(corpus, split)
    return kept[split]


class Evaluation:
    """Predictions on a split, normalised: `texts` by place ("dialogue pmul1, turn 0"), `states` by dialogue key.

    Raises:
        LabError: malformed predictions or none, or dialogues or turns that the split doesn't have.
    """

    def __init__(self, predictions: Predictions, gold: Gold):
        self.predictions, self.gold = checked(predictions), gold
        self._check_coverage()
        turns = list(chain.from_iterable(self.predictions.values()))
        self.has_states, self.has_active = (all(name in turn for turn in turns) for name in ("state", "active_domains"))
        self.places = [f"dialogue {key}, turn {n}" for key, ts in self.predictions.items() for n in range(len(ts))]
        normalised = [normalise_reply(turn["response"]) for turn in turns]
        self.texts = [text for text, _ in normalised]
        self.unknown = [[f"[{name}]" for name in names] for _, names in normalised]
        self.references = [text for key, ts in self.predictions.items() for text in gold.references(key)[: len(ts)]]
        self.states = {key: self._states(key) for key in self.predictions}

    def _check_coverage(self) -> None:
        dialogues, split = self.gold.dialogues, self.gold.split
        if not any(self.predictions.values()):
            raise LabError("there are no predictions", "", f"predict some dialogues of the split {split!r}")
        for key in (key for key in self.predictions if key not in dialogues):
            found = f"the split {split!r} of {self.gold.corpus.name} has no such dialogue"
            raise LabError(f"dialogue {key}", found, "check the corpus, the split and the spelling of the ids")
        for key, turns in self.predictions.items():
            if len(turns) > (expected := len(dialogues[key].bot_turns)):
                found = f"the dialogue has only {expected} system turns, and {len(turns)} were predicted"
                raise LabError(f"dialogue {key}, turn {expected}", found, "predict one reply for each system turn")

    def _states(self, key: str) -> list[State]:
        if self.has_states:
            return [normalise_state(turn["state"]) for turn in self.predictions[key]]
        return self.gold.states(key)[: len(self.predictions[key])]

    def _inputs(self, key: str) -> list[TurnInput]:
        states, turns = self.states[key], self.predictions[key]
        replies = [normalise_reply(turn["response"])[0] for turn in turns]
        active = [turn["active_domains"] for turn in turns] if self.has_active else active_domains(states)
        booked = self.gold.corpus.booked.get(key) or [[]] * len(turns)
        return list(map(TurnInput, replies, states, active, booked))

    def _judged(self, key: str) -> list[Verdict]:
        goal = self.gold.corpus.goals[key]
        *_, offers = follow(goal, self._inputs(key), self.gold.database)
        return judge(goal, offers, self.gold.database)

    def scores(self) -> Scores:
        """All scores, from tallies of the dialogues."""
        flags = {key: passed(self._judged(key)) for key in self.predictions if key in self.gold.corpus.goals}
        rates = _rates(flags.values())
        totals = {name: by_domain.pop("total") for name, by_domain in rates.items()} or dict.fromkeys(RATES)
        tallies = self._tallies({key: (*flags[key]["total"], 1) for key in flags})
        pairs = (pair for key, said in self.states.items() for pair in zip(said, self.gold.states(key), strict=False))
        size = {"n_dialogues": len(self.predictions), "n_turns": len(self.texts)}
        return Scores(
            bleu=bleu_score(tallies[:, :10].sum(axis=0)),
            per_domain=rates,
            richness=richness(self.texts),
            dst=state_tracking(pairs) if self.has_states else None,
            notes=tuple(self._notes()),
            keys=list(self.predictions),
            tallies=tallies,
            explain=self.explain,
            **totals | size,
        )

    def _tallies(self, rated: dict[str, tuple[bool, bool, int]]) -> np.ndarray:
        """What adds up to the scores, by dialogue: [D, 13], see labkit.metrics.intervals."""
        ends = np.cumsum([len(turns) for turns in self.predictions.values()])
        counts = np.split(bleu_counts(self.texts, self.references), ends[:-1])  # [D] of [turns, 10]
        rows = zip(self.predictions, counts, strict=True)
        return np.array([[*block.sum(axis=0), *rated.get(key, (0, 0, 0))] for key, block in rows])

    def explain(self, dialogue_id: str) -> Explanation:
        """Turn by turn, what was offered and told, and what the goal wanted.

        Raises:
            LabError: the dialogue was not predicted, or it has no goal.
        """
        key, goals, database = dialogue_id.split(".")[0].lower(), self.gold.corpus.goals, self.gold.database
        if key not in self.predictions or key not in goals:
            found = "it is not among the predictions, or has no goal"
            raise LabError(f"dialogue {key} cannot be explained", found, "choose another")
        inputs, verdicts = self._inputs(key), self._judged(key)
        users = (turn.utterance for turn in self.gold.dialogues[key].turns if turn.speaker == USER)
        replies = (turn["response"] for turn in self.predictions[key])
        steps = zip(inputs, pairwise(follow(goals[key], inputs, database)), strict=True)
        changes = (change(goals[key], turn, *pair, database) for turn, pair in steps)
        turns = tuple(zip(users, replies, changes, strict=False))
        return Explanation(key, *passed(verdicts)["total"], tuple(verdicts), turns)

    def _notes(self) -> Iterator[str]:
        """What a reader of the scores has to know."""
        corpus, dialogues, predicted = self.gold.corpus, self.gold.dialogues, self.predictions
        if corpus.stand_in:
            yield f"{corpus.name} is a stand-in: these scores cannot be compared with published ones"
        if len(predicted) < len(dialogues):
            yield f"scored over the {len(predicted)} dialogues predicted, of {len(dialogues)} in {self.gold.split}"
        if short := [key for key, turns in predicted.items() if len(turns) < len(dialogues[key].bot_turns)]:
            yield f"{len(short)} dialogue(s) end early (first: {short[0]}): scored over the replies that are there"
        if empty := [place for place, text in zip(self.places, self.texts, strict=True) if not text]:
            yield f"{len(empty)} empty replies (first: {empty[0]})"
        yield from self._told("unknown slot names were taken out", self.unknown)
        if without := sum(key not in corpus.goals for key in predicted):
            yield f"{without} dialogue(s) have no goal, or the corpus has no database: no Inform and Success for them"
        if self.has_states:
            states, known = chain.from_iterable(self.states.values()), self.gold.slots
            odd = [[f"{d} {s}" for d, slots in state.items() for s in slots if s not in known] for state in states]
            yield from self._told("unknown slot names in belief states match nothing", odd)
        else:
            yield "not every reply has a predicted belief state: the annotated states are used, which is optimistic"

    def _told(self, what: str, names: Sequence[Sequence[str]]) -> Iterator[str]:
        """A note on names [turns, any number], if there are any."""
        if found := [(name, place) for place, some in zip(self.places, names, strict=True) for name in some]:
            yield f"{what}: {', '.join(sorted({name for name, _ in found})[:5])} (first: {found[0][1]})"

    def refuse_lexical(self) -> None:
        """Raise LabError if names and numbers stand where the references have placeholders."""
        if _delexicalised(self.texts) >= RARE * _delexicalised(self.references):
            return
        sample = list(zip(self.places, self.texts, strict=True))[:: len(self.texts) // 200 + 1]  # enough to tell
        telling = [place for place, text in sample if any(value in text for value in self.gold.telling_values)]
        if len(telling) >= SIZEABLE * len(sample):
            found = f"{len(telling)} of {len(sample)} hold a name, number or address (first: {telling[0]}), but BLEU, "
            found += "Inform and Success are defined on delexicalised replies like '[restaurant_name] is nice'"
            action = "predict delexicalised replies, or allow lexical ones if you mean it (allow_lexical=True)"
            raise LabError("these replies are lexical", found, action)


def _delexicalised(replies: list[str]) -> float:
    """The share of replies with a placeholder."""
    return sum(_CLASS.search(reply) is not None for reply in replies) / len(replies)


def _rates(dialogues: Iterable[dict[str, tuple[bool, bool]]]) -> dict[str, dict[str, float]]:
    """{"inform" | "success": {domain or "total": per cent, rounded to one digit}}; {} of no dialogues."""
    flags = defaultdict(list)
    for domain, pair in chain.from_iterable(map(dict.items, dialogues)):
        flags[domain].append(pair)
    rates = {d: [round(100 * sum(f) / len(f), 1) for f in zip(*pairs, strict=True)] for d, pairs in flags.items()}
    return {name: {d: pair[i] for d, pair in rates.items()} for i, name in enumerate(RATES)} if rates else {}
