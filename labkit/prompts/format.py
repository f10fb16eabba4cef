"""A dialogue as pieces of text: the one file that spells `user>`, `bot>` and `state>`."""

from dataclasses import dataclass

from labkit.corpora.types import BOT, Dialogue, State, Turn
from labkit.errors import LabError
from labkit.prompts.text import delexicalise, one_line, state_text

FORMATS = ("turns", "state", "dialogs")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text that is tokenised on its own. The loss is on segments with `target` set."""

    text: str
    target: bool = False


Exchange = list[Segment]  # a user turn and the bot turn that answers it; the reply is the last target segment


def exchanges(dialogue: Dialogue, format: str = "turns", lexical: bool = False) -> list[Exchange]:
    """A dialogue as segments, one list for each user turn with its reply.

    Replies are delexicalised, in history and target, since BLEU, Inform and Success are defined on placeholders; a user
    turn stays as the user said it, since nobody marks its values for a system that runs. `lexical` keeps names and
    numbers in the replies too.

    Raises:
        LabError: unknown format, or two turns in a row by one speaker.
    """
    if format not in FORMATS:
        raise LabError(f"unknown prompt format {format!r}", "", f"choose one of {', '.join(FORMATS)}")
    _check_alternation(dialogue)
    pairs = zip(dialogue.turns[::2], dialogue.turns[1::2], strict=False)
    result = [_exchange(user, bot, format, lexical) for user, bot in pairs]
    if format == "dialogs" and result:
        result[0].insert(0, Segment(dialogue_header(2 * len(result))))
    return result


def dialogue_header(n_turns: int) -> str:
    """The line that asks for a conversation of a wished length (a control code; Keskar et al. 2019, CTRL)."""
    return f"turns> {n_turns}\n"


def _check_alternation(dialogue: Dialogue) -> None:
    for index, turn in enumerate(dialogue.turns):
        if (turn.speaker == BOT) != bool(index % 2):
            place, found = f"dialogue {dialogue.dialogue_id}, turn {index}", f"the {turn.speaker} speaks out of turn"
            raise LabError(place, found, "mend the corpus file")


def _exchange(user: Turn, bot: Turn, format: str, lexical: bool) -> Exchange:
    said = one_line(user.utterance)
    reply = one_line(bot.utterance) if lexical else delexicalise(bot, current_domain(bot.state, user))
    if format == "dialogs":
        return [Segment(text, target=True) for text in ("user>", f" {said}\n", "bot>", f" {reply}\n")]
    if format == "state":
        state = [Segment(f"user> {said}\nstate>"), Segment(f" {state_text(user.state)}\n", True), Segment("bot>")]
        return [*state, Segment(f" {reply}\n", True)]
    return [Segment(f"user> {said}\nbot>"), Segment(f" {reply}\n", True)]


def current_domain(state: State, user: Turn) -> str:
    """The venue domain that a booking act is about: the user's latest, else the one with a booking slot."""
    named = [act.split("-")[0].lower() for act in user.acts if act.split("-")[0].lower() in state]
    booked = [domain for domain, slots in state.items() if any(slot.startswith("book") for slot in slots)]
    return (named or booked[-1:] or list(state)[-1:] or [""])[0]
