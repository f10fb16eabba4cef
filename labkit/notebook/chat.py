"""Chat with your bot: what it says, with names and numbers, beside what it believes and what the database has for that.

A conversation needs no widgets; its `box()` only calls methods that tests call too, since a front end swallows what a
callback raises. `show()` is the static twin.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from labkit.corpora.types import BOT, USER, Dialogue, State, Turn
from labkit.decoding.config import DecodingConfig
from labkit.decoding.predict import answer
from labkit.errors import LabError
from labkit.metrics.database import DOMAINS
from labkit.metrics.success import active_domains
from labkit.models import LanguageModel
from labkit.notebook.view import SMALL, Database, Entity, bubble, filled, matching
from labkit.notebook.widgets import display_with_twin
from labkit.prompts.format import searched_in
from labkit.prompts.text import one_line, state_text
from labkit.shown import Shown

if TYPE_CHECKING:
    import ipywidgets

Tracker = Callable[[State, str], State]  # (belief state before, what the user says) -> belief state
LONGEST = 400  # characters of a user turn: more than anyone says to a clerk, and the history must fit, too


@dataclass(frozen=True)
class Answer:
    """One exchange: what was said, the belief state after it, {domain: entities that meet it}, and the reply."""

    user: str
    state: State
    matches: dict[str, list[Entity]]
    reply: str  # as the model wrote it, with placeholders
    text: str  # the same with what the database and the state know

    def lines(self) -> list[str]:
        """The belief state and the matches, in words."""
        told = [f"belief state: {state_text(self.state) or 'empty'}"]
        for domain, rows in self.matches.items():
            told.append(f"{domain}: {_counted(rows)}")
        return told


def _counted(rows: list[Entity]) -> str:
    """How many entities, and the names of the first three."""
    count = f"{len(rows)} in the database"
    if not rows:
        return count
    names = []
    for row in rows[:3]:
        name = row.get("name", row.get("trainID"))
        names.append(str(name))
    if len(rows) > len(names):
        names.append("…")
    return f"{count} ({', '.join(names)})"


class Conversation:
    """A conversation with a model that was tuned in the `state` format, or in `db`.

    `track`, where given, makes the belief state from the one before and the user turn, and the model goes on from it.
    """

    def __init__(
        self,
        lm: LanguageModel,
        database: Database,
        config: DecodingConfig | None = None,
        track: Tracker | None = None,
        *,
        format: str = "state",
    ):
        venues = searched_in(format, database)
        self.asked: dict[str, object] = {"format": format, "database": venues} if venues else {}
        self.lm = lm
        self.database = database
        self.config = config or DecodingConfig()
        self.track = track
        self.restart()

    def restart(self) -> None:
        """Forget what was said."""
        self.answers: list[Answer] = []
        self._turns: list[Turn] = []

    def say(self, text: str) -> Answer:
        """The bot's answer to one user turn; its state and reply are part of the history from then on.

        Raises:
            LabError: nothing was said, or too much; the conversation is as it was.
        """
        text = self._heard(text)
        asked = [Turn(USER, text), Turn(BOT, "")]  # the reply that is to be written
        dialogue = Dialogue("CHAT", (), [*self._turns, *asked])
        states = [one.state for one in self.answers]
        tracked = None
        if self.track:
            before = states[-1] if states else {}
            tracked = self.track(before, text)
        said = answer(self.lm, dialogue, self.config, tracked, **self.asked)
        reply = said["response"]
        state = said["state"]

        matches = {}
        for domain in state:
            if domain in DOMAINS:
                matches[domain] = matching(domain, state, self.database)
        *_, active = active_domains([*states, state])
        filled_in = filled(reply, state, self.database, "".join(active))
        self._turns.append(Turn(USER, text, state))
        self._turns.append(Turn(BOT, reply, state))
        result = Answer(text, state, matches, reply, filled_in)
        self.answers.append(result)
        return result

    def _heard(self, text: str) -> str:
        """What the user said as one line.

        Raises:
            LabError: it is nothing, or too much.
        """
        text = one_line(text)
        if not text:
            raise LabError("there is nothing to answer", "", "write what you are looking for")
        if len(text) > LONGEST:
            raise LabError(f"{len(text):,} characters are too much for one turn", "", f"say it in at most {LONGEST}")
        return text

    def play(self, script: Iterable[str]) -> Shown:
        """Say some turns, one after the other; the conversation so far, to look at."""
        for text in script:
            self.say(text)
        return self.show()

    def show(self, note: str = "", *, asked: str = "") -> Shown:
        """The conversation, what the bot believes and finds beside each turn, and a note below it.

        `asked` is what the user just said, as long as there is no answer to it.
        """
        rows = [_row(one) for one in self.answers]
        lines = []
        for one in self.answers:
            lines.append(f"user> {one.user}")
            lines.extend(f"    {line}" for line in one.lines())
            lines.append(f"bot> {one.text}")
        if asked:
            rows.append(_column(bubble([("user", asked)], False)))
            lines.append(f"user> {asked}")
        if not rows:
            rows.append("<p>Nothing was said yet.</p>")
        if note:
            rows.append(f"<p>{escape(note)}</p>")
            lines.append(note)
        html = f'<div role="log" aria-live="polite" style="max-width:70em;line-height:1.4">{"".join(rows)}</div>'
        return Shown(html, "\n".join(lines))

    def waiting(self, text: str) -> Shown:
        """The conversation with what the user just said, for as long as the bot writes; see `respond`."""
        return self.show("The bot is writing …", asked=one_line(text))

    def respond(self, text: str) -> Shown:
        """`say` and `show`, for a callback: whatever goes wrong is said below the conversation."""
        try:
            self.say(text)
            return self.show()
        except Exception as error:
            return self.show(f"⚠ {error if isinstance(error, LabError) else repr(error)}")

    def box(self) -> "ipywidgets.VBox":
        """The widgets: Enter sends, and so does leaving the field, for instance to click on Send.

        The field tells its value when it changes for good, and not with every key: an Enter would then overtake the
        last letters, which a slow kernel gets late. All is written by the handler itself: Colab does not redraw a
        widget that a thread changes. So the user's line is shown first, and the answer when it is whole.
        """
        import ipywidgets as w

        log = w.HTML(self.show().html)
        line = w.Text(
            description="you",
            placeholder="i am looking for …",
            layout={"flex": "1 1 20em", "max_width": "34em"},
            continuous_update=False,
        )
        whole = {"flex": "0 0 auto", "width": "auto"}  # else a narrow window cuts both to "S…"
        send = w.Button(description="Send", layout=whole)
        again = w.Button(description="Start over", layout=whole)

        def say(_: object) -> None:
            text = line.value
            if not text:  # it changes once more when it is emptied
                return
            line.value = ""
            log.value = self.waiting(text).html
            log.value = self.respond(text).html

        def restart(_: object) -> None:
            self.restart()
            log.value = self.show().html

        line.observe(say, names="value")
        send.on_click(say)
        again.on_click(restart)
        # turned round, a box keeps its lower end in sight when it grows, and the field below it stays where it is
        newest = w.Box([log], layout={"flex_flow": "column-reverse", "max_height": "34em", "overflow": "auto"})
        return w.VBox([newest, w.HBox([line, send, again], layout={"flex_flow": "row wrap"})])

    def _ipython_display_(self) -> None:
        display_with_twin(self.box(), self.show())


def _row(one: Answer) -> str:
    """An exchange on the left, what the bot believes and finds on the right, or below where there is no room."""
    said = [("bot", one.text)]
    if one.reply != one.text:
        said.append(("written", one.reply))
    asked = bubble([("user", one.user)], False)
    answered = bubble(said, True)
    left = _column(asked + answered)
    facts = [f"<div>{escape(line)}</div>" for line in one.lines()]
    believed = "".join(facts)
    right = f'<div style="flex:1 1 14em;{SMALL};overflow-wrap:anywhere;padding:.4em 0 0 1em">{believed}</div>'
    return f'<div style="display:flex;flex-wrap:wrap;border-bottom:1px solid rgba(128,128,128,.3)">{left}{right}</div>'


def _column(bubbles: str) -> str:
    return f'<div style="flex:2 1 22em;display:flex;flex-direction:column">{bubbles}</div>'
