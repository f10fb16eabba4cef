"""A dialogue as pieces of text: the one file that spells `user>`, `bot>` and `state>`."""

from dataclasses import dataclass

from labkit.corpora.types import BOT, Dialogue, State, Turn
from labkit.errors import LabError
from labkit.prompts.text import delexicalise, one_line, state_text

FORMATS = ("turns", "state", "dialogs")

USER_MARK = "user>"
BOT_MARK = "bot>"
STATE_MARK = "state>"


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
    check_format(format)
    check_alternation(dialogue)
    n_exchanges = len(dialogue.turns) // 2
    return [exchange_at(dialogue, index, format, lexical) for index in range(n_exchanges)]


def exchange_at(dialogue: Dialogue, index: int, format: str = "turns", lexical: bool = False) -> Exchange:
    """One exchange of a dialogue as segments; the user turn may be the last turn, and is then answered by nothing."""
    pair = dialogue.turns[2 * index : 2 * index + 2]
    user = pair[0]
    bot = pair[1] if len(pair) == 2 else Turn(BOT, "")
    segments = _segments(user, bot, format, lexical)
    if format == "dialogs" and index == 0:
        n_answered = len(dialogue.turns) // 2
        segments.insert(0, Segment(dialogue_header(2 * n_answered)))
    return segments


def check_format(format: str) -> None:
    """Raises LabError where a format is none of FORMATS."""
    if format not in FORMATS:
        raise LabError(f"unknown prompt format {format!r}", "", f"choose one of {', '.join(FORMATS)}")


def check_alternation(dialogue: Dialogue) -> None:
    """Raises LabError where a speaker has two turns in a row, or the bot the first."""
    for index, turn in enumerate(dialogue.turns):
        bots_turn = index % 2 == 1
        if (turn.speaker == BOT) != bots_turn:
            place = f"dialogue {dialogue.dialogue_id}, turn {index}"
            raise LabError(place, f"the {turn.speaker} speaks out of turn", "mend the corpus file")


def dialogue_header(n_turns: int) -> str:
    """The line that asks for a conversation of a wished length (a control code; Keskar et al. 2019, CTRL)."""
    return f"turns> {n_turns}\n"


def state_line(state: State) -> str:
    """What stands after `state>`: the belief state and the end of its line."""
    return f" {state_text(state)}\n"


def _said_line(said: str) -> str:
    """What stands after `user>` or `bot>`: the words and the end of their line."""
    return f" {said}\n"


def _segments(user: Turn, bot: Turn, format: str, lexical: bool) -> Exchange:
    said, reply = _words(user, bot, lexical)
    if format == "dialogs":
        return [
            Segment(USER_MARK, target=True),
            Segment(_said_line(said), target=True),
            Segment(BOT_MARK, target=True),
            Segment(_said_line(reply), target=True),
        ]
    if format == "state":
        return [
            Segment(f"{USER_MARK} {said}\n{STATE_MARK}"),
            Segment(state_line(user.state), target=True),
            Segment(BOT_MARK),
            Segment(_said_line(reply), target=True),
        ]
    return [
        Segment(f"{USER_MARK} {said}\n{BOT_MARK}"),
        Segment(_said_line(reply), target=True),
    ]


def _words(user: Turn, bot: Turn, lexical: bool) -> tuple[str, str]:
    """The words of an exchange, each turn on one line."""
    said = one_line(user.utterance)
    if lexical:
        return said, one_line(bot.utterance)
    return said, delexicalise(bot, current_domain(bot.state, user))


def spoken(dialogue: Dialogue, lexical: bool = False) -> list[str]:
    """The words of every answered user turn and its reply, in turn, as `exchanges` has them but without the marks."""
    check_alternation(dialogue)
    words: list[str] = []
    for user, bot in zip(dialogue.turns[::2], dialogue.turns[1::2], strict=False):
        words.extend(_words(user, bot, lexical))
    return words


def spoken_lines(dialogue: Dialogue, lexical: bool = False) -> list[str]:
    """The same with `user>` or `bot>` before each turn, to be read."""
    lines = []
    for index, words in enumerate(spoken(dialogue, lexical)):
        mark = USER_MARK if index % 2 == 0 else BOT_MARK
        lines.append(f"{mark} {words}")
    return lines


def current_domain(state: State, user: Turn) -> str:
    """The venue domain that a booking act is about: the user's latest, else the one with a booking slot."""
    for act in user.acts:
        domain = act.split("-")[0].lower()
        if domain in state:
            return domain
    latest_first = list(reversed(state))
    for domain in latest_first:
        if any(slot.startswith("book") for slot in state[domain]):
            return domain
    return latest_first[0] if latest_first else ""
