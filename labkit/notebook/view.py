"""Dialogues to look at: HTML that is safe, readable in light and dark themes, with the same as plain text beside it."""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import BOT, Dialogue, State
from labkit.metrics.database import DOMAINS, VenueDatabase
from labkit.metrics.normalization import normalise_state
from labkit.prompts.format import current_domain
from labkit.prompts.text import delexicalise, lexicalise, state_text
from labkit.shown import Shown

if TYPE_CHECKING:
    from labkit.metrics import Explanation

Database = Mapping[str, list[dict[str, Any]]]  # {domain: entities}
PLACEHOLDER = re.compile(r"\[[\w ]+\]")
# half-transparent greys and blues over whatever colour the theme has; the text colour is inherited
BUBBLE = "max-width:70%;padding:.4em .7em;margin:.2em 0;border-radius:.6em;overflow-wrap:anywhere;"
_USER = BUBBLE + "align-self:flex-start;background:rgba(128,128,128,.18)"
_BOT = BUBBLE + "align-self:flex-end;background:rgba(0,114,178,.18)"
_PASSED, _FAILED = "rgba(0,158,115,.18)", "rgba(213,94,0,.25)"  # told by ✓, ✗ and words, too
SMALL = "font-size:.8em;opacity:.8"
_MARK = "background:rgba(230,159,0,.3);color:inherit;border-radius:.3em;padding:0 .2em"


def highlighted(text: str) -> str:
    """Escaped text with its placeholders marked; only placeholders become markup, whatever the text holds."""
    return PLACEHOLDER.sub(lambda match: f'<mark style="{_MARK}">{match[0]}</mark>', escape(text))


def show_dialogue(
    dialogue: Dialogue,
    predictions: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    delexicalised: bool = False,
    states: bool = False,
) -> Shown:
    """A dialogue with the user on the left and the bot on the right; predicted replies below the references.

    Args:
        predictions: what `labkit.predict` returns; the entry of this dialogue is shown, others are ignored.
        delexicalised: show the bot's turns with placeholders, as the model reads and writes them.
        states: write the belief state below each user turn.
    """
    replies = iter((predictions or {}).get(dialogue.key, ()))
    rows, lines = [], []
    for index, turn in enumerate(dialogue.turns):
        bot = turn.speaker == BOT
        user = dialogue.turns[max(index - 1, 0)]
        text = delexicalise(turn, current_domain(turn.state, user)) if bot and delexicalised else turn.utterance
        shown = [(turn.speaker, text)]
        if states and not bot and turn.state:
            shown.append(("state", state_text(turn.state)))
        if bot and (reply := next(replies, None)) is not None:
            shown = [("reference", text), ("prediction", str(reply["response"]))]
        rows.append(bubble(shown, bot))
        lines += [f"{label}> {said}" for label, said in shown]
    head = f"{dialogue.dialogue_id} ({', '.join(dialogue.services)})"
    body = f'<div role="list" style="display:flex;flex-direction:column;max-width:60em">{"".join(rows)}</div>'
    return Shown(f"<p><b>{escape(head)}</b></p>{body}", "\n".join([head, *lines]))


def bubble(shown: Sequence[tuple[str, str]], bot: bool) -> str:
    """HTML of one turn, [(label, text)], on the user's or the bot's side."""
    said = "".join(f'<div><span style="{SMALL}">{label}:</span> {highlighted(text)}</div>' for label, text in shown)
    return f'<div role="listitem" style="{_BOT if bot else _USER}">{said}</div>'


def show_explanation(explanation: "Explanation") -> Shown:
    """`scores.explain(dialogue_id)` as a dialogue: why it passed or failed, and what each reply offered and told."""
    verdicts = "".join(
        f'<li style="background:{_FAILED if verdict.missing or not verdict.inform else _PASSED}">'
        f"{escape(str(verdict))}</li>"
        for verdict in explanation.verdicts
    )
    turns = "".join(
        bubble([("user", user)], False) + bubble([("bot", reply), ("scored", change)], True)
        for user, reply, change in explanation.turns
    )
    body = f'<div role="list" style="display:flex;flex-direction:column;max-width:60em">{turns}</div>'
    html = f'<p><b>{escape(explanation.heading)}</b></p><ul style="list-style:none">{verdicts}</ul>{body}'
    return Shown(html, str(explanation))


def side_by_side(replies: Mapping[str, str], title: str = "", *, differences: bool = False) -> Shown:
    """Replies of several systems or settings to one prompt, one column each: {name: reply}.

    `differences` underlines the words of later replies that the first one does not have there; *starred* as text.
    """
    first = next(iter(replies.values()), "")
    marked = {name: _changes(first if differences else reply, reply) for name, reply in replies.items()}
    cells = "".join(
        f'<div style="flex:1 1 14em;{BUBBLE}background:rgba(128,128,128,.14)"><b>{escape(name)}</b><br>'
        + " ".join(f"<u>{highlighted(words)}</u>" if new else highlighted(words) for words, new in parts)
        + "</div>"
        for name, parts in marked.items()
    )
    lines = [f"{name}: " + " ".join(f"*{words}*" if new else words for words, new in marked[name]) for name in marked]
    html = f'<p><b>{escape(title)}</b></p><div style="display:flex;flex-wrap:wrap;gap:.6em">{cells}</div>'
    return Shown(html, "\n".join([title, *lines]).strip())


def _changes(first: str, second: str) -> list[tuple[str, bool]]:
    """The second text in runs of words, and whether the first has another run in that place."""
    before, words = first.split(), second.split()
    opcodes = SequenceMatcher(None, before, words, autojunk=False).get_opcodes()
    return [(" ".join(words[start:end]), tag != "equal") for tag, _, _, start, end in opcodes if end > start]


def lexical_view(reply: str, dialogue: Dialogue, turn: int, database: Database) -> str:
    """A reply to user turn `turn`, each placeholder filled from the first entity that meets the annotated state.

    For reading only, never for scoring: what neither an entity nor the state knows stays a placeholder.
    """
    return filled(reply, dialogue.turns[2 * turn].state, database)


def filled(reply: str, state: State, database: Database, domain: str = "") -> str:
    """A reply with names and numbers; `domain` is meant where a placeholder names none (`[bookday]`)."""
    known = normalise_state(state)

    def fill(match: re.Match[str]) -> str:
        named, _, slot = match[0][1:].partition("_")
        owner = named if slot else domain
        if owner not in known:  # any entity would do, and so none is meant
            return match[0]
        fits = matching(owner, state, database)
        return lexicalise(match[0], {"choice": len(fits), **next(iter(fits), {})}, known[owner])

    return PLACEHOLDER.sub(fill, reply)


def matching(domain: str, state: State, database: Database) -> list[dict[str, Any]]:
    """The entities of a domain that meet a belief state, in the order of the database; all where it says nothing."""
    rows = database[domain] if domain in DOMAINS and domain in database else []
    ids = VenueDatabase({domain: rows}).query(domain, normalise_state(state).get(domain, {}))
    return [row for number, row in enumerate(rows) if str(row.get("trainID", row.get("id", number))) in ids]
