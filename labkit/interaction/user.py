"""A simulated user: an agenda that decides, a speaker that words it, and noise on the way to the bot."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from labkit.corpora.miniwoz.database import database
from labkit.corpora.types import USER, Corpus, Dialogue, State, Turn
from labkit.errors import LabError
from labkit.interaction.acts import Heard
from labkit.interaction.agenda import PATIENCE, Agenda
from labkit.interaction.noise import Lexicon, Noise, lexicon_of
from labkit.interaction.progress import UserAct
from labkit.interaction.retrieval import CorpusSpeaker, Phrasebook
from labkit.interaction.speech import GrammarSpeaker, Speaker
from labkit.interaction.venues import Venues
from labkit.interaction.wishes import wishes_of

SPEECH = ("grammar", "corpus")


@dataclass(frozen=True)
class UserConfig:
    """How a simulated user is.

    Args:
        seed: of all chance: with the goal it decides every choice and wording.
        patience: turns in a row that lead nowhere, after which the user leaves; 1 is an impatient one.
        speech: "grammar" (MiniWOZ's), "corpus" (turns of the corpus' own users), or "" for the one that fits.
        noise: typing and recognition errors.

    Raises:
        LabError: a value that cannot be.
    """

    seed: int = 2022
    patience: int = PATIENCE
    speech: str = ""
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        if type(self.patience) is not int or self.patience < 1:
            raise LabError(f"patience cannot be {self.patience!r:.40}", "", "give a whole number from 1 on")
        if self.speech not in ("", *SPEECH):
            raise LabError(f"no way to speak is called {self.speech!r:.40}", "", f"choose {' or '.join(SPEECH)}")


class SimulatedUser:
    """The user of one conversation."""

    def __init__(self, agenda: Agenda, speaker: Speaker, config: UserConfig, lexicon: Lexicon, rng: Random):
        self.agenda = agenda
        self.speaker = speaker
        self.config = config
        self.lexicon = lexicon
        self.rng = rng  # of noise
        self.acts: list[UserAct] = []  # what was meant, turn by turn

    def speak(self) -> Turn | None:
        """The next turn, with its acts and the user's own belief state; None when the conversation is over."""
        act = self.agenda.speak()
        if act is None:
            return None
        is_first = not self.acts
        self.acts.append(act)
        noise = self.config.noise
        heard = replace(act, values=noise.heard(act.values, self.lexicon, self.rng))
        said = noise.typed(self.speaker.say(heard, is_first), self.rng)
        spans = tuple(sorted(said.spans, key=lambda span: span.start))
        return Turn(USER, said.text, self.agenda.state, act.acts(), spans)

    def listen(self, heard: Heard, state: State) -> None:
        """Take in the bot's reply and what it believed."""
        self.agenda.listen(heard, state)


def users_for(
    corpus: Corpus,
    dialogues: Sequence[Dialogue],
    config: UserConfig,
    split: str,
) -> dict[str, SimulatedUser]:
    """A user for the goal of each dialogue, {Dialogue.key: user}; none depends on the others."""
    speech = config.speech or natural_speech(corpus)
    venues = Venues.of(corpus)
    lexicon = lexicon_of(corpus) if config.noise.recognition else {}
    users = {}
    for dialogue in dialogues:
        draws = f"{config.seed}-{dialogue.key}"
        voice = Random(f"{draws}-voice")
        if speech == "grammar":
            speaker: Speaker = GrammarSpeaker(voice)
        else:
            speaker = CorpusSpeaker(Phrasebook.of(corpus, split), voice)
        wishes = wishes_of(corpus.goals[dialogue.key], venues)
        agenda = Agenda(wishes, venues, Random(f"{draws}-agenda"), config.patience)
        users[dialogue.key] = SimulatedUser(agenda, speaker, config, lexicon, Random(f"{draws}-noise"))
    return users


def natural_speech(corpus: Corpus) -> str:
    """MiniWOZ's grammar for its own city, else turns of the corpus."""
    own_city = corpus.database.get("train") == database()["train"]
    return "grammar" if own_city else "corpus"
