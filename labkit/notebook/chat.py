"""Chat with your bot: what it says, with names and numbers, beside what it believes and what the database has for that.

A conversation needs no widgets; its `box()` only calls methods that tests call too, since a front end swallows what a
callback raises. `show()` is the static twin.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from labkit.corpora.types import BOT, USER, Dialogue, State, Turn
from labkit.decoding.config import DecodingConfig
from labkit.decoding.predict import answer
from labkit.errors import LabError
from labkit.metrics.database import DOMAINS
from labkit.metrics.success import active_domains
from labkit.models import LanguageModel
from labkit.notebook.view import SMALL, Database, bubble, filled, matching
from labkit.notebook.widgets import display_with_twin
from labkit.prompts.text import one_line, state_text
from labkit.shown import Shown

LONGEST = 400  # characters of a user turn: more than anyone says to a clerk, and the history must fit, too


@dataclass(frozen=True)
class Answer:
    """One exchange: what was said, the belief state after it, {domain: entities that meet it}, and the reply."""

    user: str
    state: State
    matches: dict[str, list[dict[str, Any]]]
    reply: str  # as the model wrote it, with placeholders
    text: str  # the same with what the database and the state know

    def lines(self) -> list[str]:
        """The belief state and the matches, in words."""
        found = [f"{domain}: {_named(rows)}" for domain, rows in self.matches.items()]
        return [f"belief state: {state_text(self.state) or 'empty'}", *found]


def _named(rows: list[dict[str, Any]]) -> str:
    names = [str(row.get("name", row.get("trainID"))) for row in rows[:3]] + ["…"] * (len(rows) > 3)
    return f"{len(rows)} in the database" + f" ({', '.join(names)})" * bool(rows)


class Conversation:
    """A conversation with a model that was tuned in the `state` format.

    `track`, where given, makes the belief state from the one before and the user turn, and the model goes on from it.
    """

    def __init__(
        self,
        lm: LanguageModel,
        database: Database,
        config: DecodingConfig | None = None,
        track: Callable[[State, str], State] | None = None,
    ):
        self.lm, self.database, self.config, self.track = lm, database, config or DecodingConfig(), track
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
        text = one_line(text)
        if not text:
            raise LabError("there is nothing to answer", "", "write what you are looking for")
        if len(text) > LONGEST:
            raise LabError(f"{len(text):,} characters are too much for one turn", "", f"say it in at most {LONGEST}")
        heard = Dialogue("CHAT", (), [*self._turns, Turn(USER, text), Turn(BOT, "")])
        before = self.answers[-1].state if self.answers else {}
        said = answer(self.lm, heard, self.config, self.track and self.track(before, text))
        reply, state = said["response"], said["state"]
        *_, active = active_domains([*(one.state for one in self.answers), state])
        matches = {domain: matching(domain, state, self.database) for domain in state if domain in DOMAINS}
        filled_in = filled(reply, state, self.database, "".join(active))
        self._turns += [Turn(USER, text, state), Turn(BOT, reply, state)]
        self.answers.append(Answer(text, state, matches, reply, filled_in))
        return self.answers[-1]

    def play(self, script: Iterable[str]) -> Shown:
        """Say some turns, one after the other; the conversation so far, to look at."""
        for text in script:
            self.say(text)
        return self.show()

    def show(self, note: str = "") -> Shown:
        """The conversation, what the bot believes and finds beside each turn, and a note below it."""
        rows = "".join(map(_row, self.answers)) or "<p>Nothing was said yet.</p>"
        below = f"<p>{escape(note)}</p>" * bool(note)
        html = f'<div role="log" aria-live="polite" style="max-width:70em;line-height:1.4">{rows}{below}</div>'
        told = (f"user> {one.user}\n    " + "\n    ".join(one.lines()) + f"\nbot> {one.text}" for one in self.answers)
        return Shown(html, "\n".join([*told, note]).rstrip())

    def respond(self, text: str) -> Shown:
        """`say` and `show`, for a callback: whatever goes wrong is said below the conversation."""
        try:
            self.say(text)
            return self.show()
        except Exception as error:
            return self.show(f"⚠ {error if isinstance(error, LabError) else repr(error)}")

    def box(self) -> Any:
        """The widgets: Enter sends, and so does leaving the field, for instance to click on Send.

        The field tells its value when it changes for good, and not with every key: an Enter would then overtake the
        last letters, which a slow kernel gets late.
        """
        import ipywidgets as w

        log = w.HTML(self.show().html)
        hint, wide = "i am looking for …", {"width": "34em"}
        line = w.Text(description="you", placeholder=hint, layout=wide, continuous_update=False)
        send, again = w.Button(description="Send"), w.Button(description="Start over")

        def say(_: Any) -> None:
            text, line.value = line.value, ""
            if text:  # it changes once more when it is emptied
                log.value = self.show("The bot is writing …").html
                log.value = self.respond(text).html

        def restart(_: Any) -> None:
            self.restart()
            log.value = self.show().html

        line.observe(say, names="value")
        send.on_click(say)
        again.on_click(restart)
        # turned round, a box keeps its lower end in sight when it grows, and the field below it stays where it is
        newest = w.Box([log], layout={"flex_flow": "column-reverse", "max_height": "34em", "overflow": "auto"})
        return w.VBox([newest, w.HBox([line, send, again])])

    def _ipython_display_(self) -> None:
        display_with_twin(self.box(), self.show())


def _row(one: Answer) -> str:
    written = [("written", one.reply)] if one.reply != one.text else []
    said = bubble([("user", one.user)], False) + bubble([("bot", one.text), *written], True)
    told = "".join(f"<div>{escape(line)}</div>" for line in one.lines())
    left = f'<div style="flex:2 1 22em;display:flex;flex-direction:column">{said}</div>'
    right = f'<div style="flex:1 1 14em;{SMALL};overflow-wrap:anywhere;padding:.4em 0 0 1em">{told}</div>'
    return f'<div style="display:flex;flex-wrap:wrap;border-bottom:1px solid rgba(128,128,128,.3)">{left}{right}</div>'
