"""Chat with your bot: what it says, with names and numbers, beside what it believes and what the database has for that.

A conversation needs no widgets. `show()` is what stays of it without a kernel; on the screen it is `chat_box`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from labkit.corpora.types import BOT, USER, Dialogue, State, Turn
from labkit.decoding.config import DecodingConfig
from labkit.decoding.grammar import StateGrammar
from labkit.decoding.predict import answer
from labkit.decoding.streamed import AnswerSoFar, stream_answer
from labkit.errors import LabError
from labkit.interaction.partner import Partner
from labkit.metrics.database import DOMAINS
from labkit.metrics.success import active_domains
from labkit.models import LanguageModel
from labkit.notebook.chat_box.exchange import Answer as Answer
from labkit.notebook.view import SMALL, Database, bubble, filled, matching
from labkit.prompts.format import searched_in
from labkit.prompts.text import one_line
from labkit.shown import Shown

if TYPE_CHECKING:
    import ipywidgets

Tracker = Callable[[State, str], State]  # (belief state before, what the user says) -> belief state
LONGEST = 400  # characters of a user turn: more than anyone says to a clerk, and the history must fit, too


class Conversation:
    """A conversation with a model that was tuned in a format with states: `state`, `changes`, or one that looks up.

    With a `grammar` (`labkit.state_grammar(corpus)`) every state that the model writes is one that the corpus can have.
    `track`, where given, makes the belief state from the one before and the user turn, and the model goes on from it.
    `partner` is a simulated user (`labkit.interaction.partner_of`) that can take a turn in place of the person.
    """

    partner_is_silent = False  # it has said goodbye, or left
    _unanswered: str | None = None  # the partner's turn, where its answer failed or was stopped

    def __init__(
        self,
        lm: LanguageModel,
        database: Database,
        config: DecodingConfig | None = None,
        track: Tracker | None = None,
        *,
        format: str = "state",
        grammar: StateGrammar | None = None,
        partner: Partner | None = None,
    ):
        venues = searched_in(format, database)
        asked: dict[str, object] = {"format": format, "database": venues, "grammar": grammar}
        self._how = {
            name: value for name, value in asked.items() if value not in (None, "state")
        }  # else `answer`'s own
        self.lm = lm
        self.database = database
        self.config = config or DecodingConfig()
        self.track = track
        self.partner = partner
        self.restart()

    def restart(self) -> None:
        """Forget what was said; the partner begins anew, too."""
        self.answers: list[Answer] = []
        self.partner_is_silent = False
        self._unanswered = None
        if self.partner:
            self.partner.restart()

    def say(self, text: str) -> Answer:
        """The bot's answer to one user turn; its state and reply are part of the history from then on.

        Raises:
            LabError: nothing was said, or too much; the conversation is as it was.
        """
        text = self._heard(text)
        dialogue = self._asked(text)
        said = answer(self.lm, dialogue, self.config, self._tracked(text), **self._how)
        result = self._answer(self.answers, text, said["state"], said["response"])
        self.answers.append(result)
        return result

    def write(self, text: str) -> Iterator[Answer]:
        """`say`, token by token: the answer as far as it is written.

        It is part of the conversation from its first token on. Who stops asking leaves it there as it is; one that was
        stopped before its first word is forgotten with the next turn.

        Raises:
            LabError: as `say`.
        """
        text = self._heard(text)
        parts = stream_answer(self.lm, self._asked(text), self.config, self._tracked(text), **self._how)
        return self._written(text, parts)

    def _written(self, text: str, parts: Iterator[AnswerSoFar]) -> Iterator[Answer]:
        before = list(self.answers)
        number = len(before)
        try:
            for part in parts:
                so_far = self._answer(before, text, part.state, part.response or "")
                so_far = replace(so_far, finished=False)
                self.answers[number:] = [so_far]
                yield so_far
        except Exception:
            del self.answers[number:]
            raise
        whole = replace(so_far, finished=True)
        self.answers[number:] = [whole]
        yield whole

    def _asked(self, text: str) -> Dialogue:
        """The conversation so far, with a user turn and the reply that is to be written."""
        if self.answers and not self.answers[-1].finished and not self.answers[-1].reply:
            self.answers.pop()
        turns = []
        for one in self.answers:
            turns.append(Turn(USER, one.user, one.state))
            turns.append(Turn(BOT, one.reply, one.state))
        turns.append(Turn(USER, text))
        turns.append(Turn(BOT, ""))
        return Dialogue("CHAT", (), turns)

    def _tracked(self, text: str) -> State | None:
        """The state after a user turn by `track`; None where the model writes it."""
        if self.track is None:
            return None
        before = self.answers[-1].state if self.answers else {}
        return self.track(before, text)

    def _answer(self, before: Sequence[Answer], text: str, state: State, reply: str) -> Answer:
        matches = {}
        for domain in state:
            if domain in DOMAINS:
                matches[domain] = matching(domain, state, self.database)
        states = [one.state for one in before]
        *_, active = active_domains([*states, state])
        filled_in = filled(reply, state, self.database, "".join(active))
        return Answer(text, state, matches, reply, filled_in)

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

    def meet(self, partner: Partner) -> Shown:
        """Let a simulated user lead a conversation from its beginning to its end; the conversation, and how it went."""
        self.partner = partner
        self.restart()
        while True:
            shown = self.let_partner_speak()
            if self.partner_is_silent:
                return shown

    def let_partner_speak(self) -> Shown:
        """Say the partner's next turn and let it hear the answer; the conversation, and what the partner finds wrong.

        Raises:
            LabError: there is no partner.
        """
        if self.partner is None:
            raise LabError("there is no simulated user", "", "Conversation(…, partner=partner_of(corpus))")
        text = self._unanswered or self.partner.say()
        self.partner_is_silent = text is None
        if text is None:
            return self.show(self.partner.verdict)
        self._unanswered = text
        answer = self.say(text)
        self._unanswered = None
        faults = self.partner.listen(answer.reply, answer.state)
        return self.show("; ".join(faults))

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
        """The chat in core widgets, for a front end where custom widgets are off."""
        from labkit.notebook.chat_box.core import box

        return box(self)

    def _ipython_display_(self) -> None:
        from labkit.notebook.chat_box.display import display_chat

        display_chat(self)


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
