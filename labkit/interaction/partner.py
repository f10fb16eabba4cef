"""A simulated user for one conversation, a turn at a time: for the chat, where nobody plays all goals at once.

    partner = partner_of(corpus, "sng0073")               # without an id: the first goal of the split
    while (said := partner.say()) is not None:
        partner.listen(reply_to(said), state)
    print(partner.verdict)

In a notebook: `Conversation(…, partner=partner)` has a button for its next turn, and `meet(partner)` plays to the end.
"""

from labkit.corpora.types import Corpus, Dialogue, State
from labkit.errors import LabError
from labkit.interaction.acts import ActClassifier
from labkit.interaction.user import SimulatedUser, UserConfig, users_for
from labkit.interaction.wishes import playable


class Partner:
    """The user of one goal; `restart` gives the same user at the beginning."""

    def __init__(self, corpus: Corpus, dialogue: Dialogue, config: UserConfig, split: str):
        self._corpus = corpus
        self._dialogue = dialogue
        self._config = config
        self._split = split
        self._classifier = ActClassifier.of(corpus, split)
        self.restart()

    def restart(self) -> None:
        """Forget what was said."""
        users = users_for(self._corpus, [self._dialogue], self._config, self._split)
        self.user: SimulatedUser = users[self._dialogue.key]

    def say(self) -> str | None:
        """What the user says next; None when the conversation is over."""
        turn = self.user.speak()
        return None if turn is None else turn.utterance

    def listen(self, reply: str, state: State) -> list[str]:
        """Take in a delexicalised reply and what the bot believed; what the user finds wrong with it, in words."""
        agenda = self.user.agenda
        n_known = len(agenda.events)
        (heard,) = self._classifier.hear([reply])
        self.user.listen(heard, state)
        return [f"{event.kind}: {event.about}" for event in agenda.events[n_known:]]

    @property
    def wishes(self) -> list[str]:
        """The goal, a line a domain."""
        lines = []
        for progress in self.user.agenda.domains:
            wish = progress.wish
            told = wish.starts_with() | wish.booking
            wanted = ", ".join(f"{slot}={value}" for slot, value in told.items())
            lines.append(f"{wish.domain}: {wanted}")
        return lines

    @property
    def verdict(self) -> str:
        """How the conversation stands for the user."""
        agenda = self.user.agenda
        if agenda.abandoned:
            return "The simulated user left: nothing led anywhere any more."
        if not agenda.success:
            return "The simulated user has not got all that it wants."
        faults = [event for event in agenda.events if event.is_fault]
        if faults:
            return f"Success, with {len(faults)} faults that strict Success does not forgive."
        return "Success, strictly, too."


def partner_of(
    corpus: Corpus, dialogue_id: str = "", *, split: str = "test", user: UserConfig | None = None
) -> Partner:
    """A simulated user with the goal of one dialogue, by default of the first that has one.

    Raises:
        LabError: no goal of this name that can be played; or as `labkit.converse`.
    """
    dialogues = playable(corpus, split)
    for dialogue in dialogues:
        if not dialogue_id or dialogue_id in (dialogue.key, dialogue.dialogue_id):
            return Partner(corpus, dialogue, user or UserConfig(), split)
    found = f"there are {len(dialogues)}, such as {dialogues[0].key}"
    raise LabError(f"no goal {dialogue_id!r:.60} in {split}", found, "take the id of a dialogue with a goal")
