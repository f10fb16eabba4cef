"""Several replies at every turn of a conversation, and what the user would think of each: what a bot can learn from.

How a notebook calls it:

    bot = model_bot(lm, corpus, "train", config=DecodingConfig(strategy="sample"), states="user")
    lessons = try_replies(bot, corpus, split="train", dialogues=100, tries=4)
    own = lessons.successes()                  # a corpus with the split "train", for labkit.finetune (expert iteration)
                                               # give_best=True: the expert is the bot that may choose among its tries
    pairs = lessons.preferences()              # asked first, preferred to offered too early, for labkit.prefer (DPO)
"""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labkit.corpora.types import BOT, USER, Corpus, Dialogue, Reply, Turn
from labkit.errors import LabError
from labkit.interaction.acts import ActClassifier, Heard
from labkit.interaction.bots import Bot, Talk
from labkit.interaction.play import Conversation, play
from labkit.interaction.progress import EARLY_OFFER, FAULTS
from labkit.interaction.records import as_corpus
from labkit.interaction.user import SimulatedUser, UserConfig, users_for
from labkit.interaction.wishes import playable
from labkit.prompts.preferences import Preference

TRAIN = "train"


@dataclass(frozen=True)
class Tried:
    """A reply that the bot could give at a turn, and what the user would think of it."""

    context: Dialogue  # ends with the user turn, which has the bot's belief state
    reply: str
    heard: Heard
    events: tuple[str, ...]  # kinds of `labkit.interaction.progress`: "early offer", "asked again", …
    helped: bool  # it brings the user a step towards the goal

    @property
    def asks(self) -> bool:
        return bool(self.heard.asked)

    @property
    def is_good(self) -> bool:
        """Nothing is wrong with it, and it asks for something new or brings the user on."""
        return not self.events and (self.helped or self.asks)

    @property
    def asks_first(self) -> bool:
        """It asks for something new, and offers nothing yet."""
        return self.is_good and self.asks and not self.heard.offers

    @property
    def worth(self) -> tuple[bool, bool, bool, bool]:
        """The larger, the better: no fault, nothing else wrong, a step towards the goal, a question."""
        has_fault = any(kind in FAULTS for kind in self.events)
        return not has_fault, not self.events, self.helped, self.asks


@dataclass
class Branching:
    """A bot that tries several replies at every turn, and gives the first. It looks into the users' minds for that.

    The first is what the bot would give alone, so the conversations are those that it leads itself. With `give_best` it
    gives the best one in the user's eyes: a better bot, which cannot be had without the user's mind, but learnt from.
    """

    bot: Bot
    users: Mapping[str, SimulatedUser]
    classifier: ActClassifier
    tries: int
    give_best: bool = False
    turns: list[list[Tried]] = field(default_factory=list)  # one list a turn: replies that differ

    @property
    def states(self) -> str:
        return self.bot.states

    def reply(self, talks: Sequence[Talk]) -> list[Reply]:
        """See `labkit.interaction.Bot`."""
        asked = []
        for talk in talks:
            asked.append(talk)
            for number in range(1, self.tries):
                asked.append(Talk(f"{talk.key}/try {number}", talk.users, talk.replies))  # other random numbers
        replies = self.bot.reply(asked)
        heard = self.classifier.hear([reply["response"] for reply in replies])
        given = []
        for number, talk in enumerate(talks):
            first = number * self.tries
            here = slice(first, first + self.tries)
            tried = self._tried(talk, replies[here], heard[here])
            self.turns.append(tried)
            chosen = replies[first]
            if self.give_best:
                best = max(tried, key=lambda one: one.worth)  # the first of those that are as good
                chosen = next(reply for reply in replies[here] if reply["response"] == best.reply)
            given.append(chosen)
        return given

    def _tried(self, talk: Talk, replies: Sequence[Reply], heard: Sequence[Heard]) -> list[Tried]:
        """The replies that differ, each heard by a copy of the user."""
        agenda = self.users[talk.key].agenda
        tried = {}
        for reply, meant in zip(replies, heard, strict=True):
            listener = copy.deepcopy(agenda, {id(agenda.venues): agenda.venues})  # the database is everybody's
            known = len(listener.events)
            listener.listen(meant, reply.get("state", {}))
            kinds = tuple(event.kind for event in listener.events[known:])
            one = Tried(_context(talk, reply), reply["response"], meant, kinds, listener.helped)
            tried.setdefault(one.reply, one)
        return list(tried.values())


def _context(talk: Talk, reply: Reply) -> Dialogue:
    """The conversation up to the user's last turn as the bot knows it; nothing that the user meant."""
    turns = []
    for user, earlier in zip(talk.users, talk.replies, strict=False):
        state = earlier.get("state", {})
        turns += [Turn(USER, user.utterance, state), Turn(BOT, earlier["response"], state)]
    turns.append(Turn(USER, talk.users[-1].utterance, reply.get("state", {})))
    return Dialogue(talk.key, (), turns)


@dataclass(frozen=True)
class Lessons:
    """Conversations of a bot, and all replies that it tried in them; `print` it."""

    conversations: Sequence[Conversation]
    turns: Sequence[Sequence[Tried]]
    corpus: Corpus  # that the goals are of

    def successes(self, *, strict: bool = True) -> Corpus:
        """The conversations that succeeded (strictly), as the training split of a corpus, with the user's states.

        Raises:
            LabError: there is none.
        """
        kept = []
        for one in self.conversations:
            passed = one.strict_success if strict else one.success
            if passed:
                kept.append(one)
        if not kept:
            found = f"none of {len(self.conversations)} conversations"
            raise LabError("there is no success to learn from", found, "play more goals, or take a better bot")
        played = as_corpus(kept, self.corpus)
        (dialogues,) = played.splits.values()
        played.splits = {TRAIN: dialogues}
        return played

    def preferences(self, faults: Sequence[str] = (EARLY_OFFER,)) -> list[Preference]:
        """A pair for each turn at which one try was good and another had one of the faults.

        What is preferred to an early offer asks first: it is a question, and offers nothing. Where a question always
        wins, a model can learn to ask and nothing else; with ASKED_AGAIN among the faults, questions lose, too.

        Raises:
            LabError: there is none.
        """
        pairs = []
        for tries in self.turns:
            pair = _pair(tries, faults)
            if pair:
                pairs.append(pair)
        if not pairs:
            found = f"{len(self.turns)} turns, faults {', '.join(faults)}"
            action = "sample, try more replies, play more goals, or name more faults"
            raise LabError("there are no two replies of which one is better", found, action)
        return pairs

    def __str__(self) -> str:
        n_successes = sum(one.success for one in self.conversations)
        n_strict = sum(one.strict_success for one in self.conversations)
        n_tries = 0
        kinds: Counter[str] = Counter()
        for tries in self.turns:
            n_tries += len(tries)
            for one in tries:
                kinds.update(set(one.events))
        lines = [f"{len(self.conversations)} conversations: {n_successes} with Success, {n_strict} strictly"]
        lines.append(f"{len(self.turns)} turns, {n_tries} replies that differ")
        lines += [f"{kind:<23s} {count:5d} replies" for kind, count in kinds.most_common()]
        return "\n".join(lines)


def _pair(tries: Sequence[Tried], faults: Sequence[str]) -> Preference | None:
    """The first reply with a fault, and the first better one after the same belief state; None where there are none."""
    for worse in tries:
        wrong = [kind for kind in worse.events if kind in faults]
        if not wrong:
            continue
        for better in tries:
            is_better = better.asks_first if EARLY_OFFER in wrong else better.is_good
            if is_better and better.context == worse.context:
                return Preference(worse.context, better.reply, worse.reply, wrong[0])
    return None


def try_replies(
    bot: Bot,
    corpus: Corpus,
    *,
    split: str = TRAIN,
    dialogues: int | None = 100,
    skip: int = 0,
    tries: int = 4,
    give_best: bool = False,
    user: UserConfig | None = None,
) -> Lessons:
    """Play the goals of a split, trying several replies at every turn; the bot has to sample, or they are all the same.

    Args:
        dialogues: play the goals of the first so many dialogues that have one; None: all.
        skip: leave out so many before them, to play in parts.
        tries: replies at every turn, the one that is given included.
        give_best: give the best of them instead of the first. Successes are then those of a better bot, which expert
            iteration (Anthony et al. 2017) lets this one imitate.
        user: what the users are like; they hear with what `converse` on the test split hears with.

    Raises:
        LabError: a number that cannot be; or as `converse`.
    """
    for name, value in {"dialogues": dialogues, "tries": tries}.items():
        if value is not None and (type(value) is not int or value < 1):
            raise LabError(f"{name} cannot be {value!r:.40}", "", "give a whole number from 1 on")
    if type(skip) is not int or skip < 0:
        raise LabError(f"skip cannot be {skip!r:.40}", "", "give a whole number from 0 on")
    chosen = playable(corpus, split)[skip:][:dialogues]
    users = users_for(corpus, chosen, user or UserConfig(), split)
    branching = Branching(bot, users, ActClassifier.of(corpus, "test"), tries, give_best)
    conversations = play(branching, users, branching.classifier)
    return Lessons(conversations, branching.turns, corpus)
