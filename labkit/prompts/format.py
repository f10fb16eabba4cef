"""A dialogue as pieces of text: the one file that spells `user>`, `bot>`, `state>` and `db>`."""

from dataclasses import dataclass

from labkit.corpora.search import Database, VenueDatabase
from labkit.corpora.types import BOT, Dialogue, State, Turn
from labkit.errors import LabError
from labkit.prompts.text import changed_state, delexicalise, one_line, parse_state, state_changes, state_text

FORMATS = ("turns", "state", "dialogs", "db", "changes", "changes-db")
STATEFUL = ("state", "db", "changes", "changes-db")  # formats in which a belief state stands before each reply
LOOKING_UP = ("db", "changes-db")  # … and after it what the database has for it
CHANGING = ("changes", "changes-db")  # … in which only what the turn changed is written

USER_MARK = "user>"
BOT_MARK = "bot>"
STATE_MARK = "state>"
DB_MARK = "db>"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text that is tokenised on its own. The loss is on segments with `target` set."""

    text: str
    target: bool = False
    looked_up: bool = False  # it comes from the database: nobody says it, and there is never a loss on it


Exchange = list[Segment]  # a user turn and the bot turn that answers it; the reply is the last target segment


def exchanges(
    dialogue: Dialogue, format: str = "turns", lexical: bool = False, *, database: VenueDatabase | None = None
) -> list[Exchange]:
    """A dialogue as segments, one list for each user turn with its reply.

    Replies are delexicalised, in history and target, since BLEU, Inform and Success are defined on placeholders; a user
    turn stays as the user said it, since nobody marks its values for a system that runs. `lexical` keeps names and
    numbers in the replies too. The `db` format looks each belief state up in `database`.

    Raises:
        LabError: unknown format, two turns in a row by one speaker, or the `db` format without a database.
    """
    check_format(format, database)
    check_alternation(dialogue)
    n_exchanges = len(dialogue.turns) // 2
    return [exchange_at(dialogue, index, format, lexical, database) for index in range(n_exchanges)]


def exchange_at(
    dialogue: Dialogue,
    index: int,
    format: str = "turns",
    lexical: bool = False,
    database: VenueDatabase | None = None,
) -> Exchange:
    """One exchange of a dialogue as segments; the user turn may be the last turn, and is then answered by nothing."""
    pair = dialogue.turns[2 * index : 2 * index + 2]
    user = pair[0]
    bot = pair[1] if len(pair) == 2 else Turn(BOT, "")
    said, reply = _words(user, bot, lexical)
    if format in STATEFUL:
        state = Segment(state_line(format, user.state, state_before(dialogue, index)), target=True)
        looked_up = []
        if format in LOOKING_UP:
            looked_up.append(Segment(database_line(user.state, database), looked_up=True))
        return [
            Segment(f"{USER_MARK} {said}\n{STATE_MARK}"),
            state,
            *looked_up,
            Segment(BOT_MARK),
            Segment(_line(reply), target=True),
        ]
    if format == "dialogs":
        return _whole_dialogue(dialogue, index, said, reply)
    return [
        Segment(f"{USER_MARK} {said}\n{BOT_MARK}"),
        Segment(_line(reply), target=True),
    ]


def _whole_dialogue(dialogue: Dialogue, index: int, said: str, reply: str) -> Exchange:
    """An exchange of the `dialogs` format, in which everything is to be written; the first has the header."""
    segments = [
        Segment(USER_MARK, target=True),
        Segment(_line(said), target=True),
        Segment(BOT_MARK, target=True),
        Segment(_line(reply), target=True),
    ]
    if index == 0:
        n_answered = len(dialogue.turns) // 2
        segments.insert(0, Segment(dialogue_header(2 * n_answered)))
    return segments


def check_format(format: str, database: Database | VenueDatabase | None = None) -> None:
    """Raises LabError where a format is none of FORMATS, or one that looks things up, and there is no database."""
    if format not in FORMATS:
        raise LabError(f"unknown prompt format {format!r}", "", f"choose one of {', '.join(FORMATS)}")
    if format in LOOKING_UP and not database:
        action = "give database=corpus.database of a corpus that has one, or use format='state'"
        raise LabError(f"the {format} format looks belief states up", "there is no database", action)


def searched_in(format: str, database: Database | VenueDatabase | None) -> VenueDatabase | None:
    """The database that a format's states are looked up in, indexed; None for formats without a look-up.

    Raises:
        LabError: see `check_format`; or an entity has no text where text belongs.
    """
    check_format(format, database)
    if format not in LOOKING_UP:
        return None
    return database if isinstance(database, VenueDatabase) else VenueDatabase(database)


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


def state_before(dialogue: Dialogue, index: int) -> State:
    """The belief state before a user turn; nothing before the first."""
    return dialogue.turns[2 * index - 2].state if index else {}


def state_line(format: str, state: State, before: State) -> str:
    """What stands after `state>`: the belief state, or what changed it, and the end of its line."""
    written = state_changes(before, state) if format in CHANGING else state
    return _line(state_text(written))


def read_state(format: str, text: str, before: State) -> State:
    """The belief state that a model means by what it wrote after `state>`."""
    written = parse_state(text)
    return changed_state(before, written) if format in CHANGING else written


def database_line(state: State, database: VenueDatabase) -> str:
    """The line `db> hotel 2 | restaurant 3`: how many entities the state finds in each of its domains."""
    found = [f"{domain} {number}" for domain, number in sorted(database.count(state).items())]
    return DB_MARK + _line(" | ".join(found))


def _line(text: str) -> str:
    """What stands after a mark: the text and the end of its line."""
    return f" {text}\n"


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
