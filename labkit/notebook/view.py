"""Dialogues to look at: HTML that is safe, readable in light and dark themes, with the same as plain text beside it."""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import BOT, Dialogue, Reply, State
from labkit.metrics.database import DOMAINS, VenueDatabase
from labkit.metrics.normalization import normalise_state
from labkit.metrics.success import passed
from labkit.prompts.format import Segment, current_domain
from labkit.prompts.text import delexicalise, lexicalise, state_text
from labkit.shown import Shown as Shown
from labkit.shown import show as show

if TYPE_CHECKING:
    from labkit.metrics import Explanation
    from labkit.metrics.success import Verdict

Entity = dict[str, Any]  # a row of a database file: what JSON holds
LabelledText = tuple[str, str]  # (label, text)
Database = Mapping[str, list[Entity]]  # {domain: entities}
PLACEHOLDER = re.compile(r"\[[\w ]+\]")
# half-transparent greys and blues over whatever colour the theme has; the text colour is inherited
BUBBLE = "max-width:70%;padding:.4em .7em;margin:.2em 0;border-radius:.6em;overflow-wrap:anywhere;"
_USER = BUBBLE + "align-self:flex-start;background:rgba(128,128,128,.18)"
_BOT = BUBBLE + "align-self:flex-end;background:rgba(86,180,233,.22)"
_COLUMN = BUBBLE + "flex:1 1 14em;background:rgba(128,128,128,.14)"
_PASSED, _FAILED = "rgba(0,158,115,.18)", "rgba(213,94,0,.25)"  # told by ✓, ✗ and words, too
_TARGET = "background:rgba(86,180,233,.22);border-radius:.3em;padding:0 .2em"
SMALL = "font-size:.8em;opacity:.8"
NOTHING = "–"  # what ends the account of a reply that offered and told nothing, see labkit.metrics.success.change
_PLACE = "background:rgba(230,159,0,.3);color:inherit;border-radius:.3em;padding:0 .2em"


def highlighted(text: str) -> str:
    """Escaped text with its placeholders marked; only placeholders become markup, whatever the text holds."""
    safe = escape(text)
    return PLACEHOLDER.sub(rf'<mark style="{_PLACE}">\g<0></mark>', safe)


def show_dialogue(
    dialogue: Dialogue,
    predictions: Mapping[str, Sequence[Reply]] | None = None,
    *,
    delexicalised: bool = False,
    states: bool = False,
    turns: int = 6,
) -> Shown:
    """A dialogue with the user on the left and the bot on the right; predicted replies below the references.

    Args:
        predictions: what `labkit.predict` returns; the entry of this dialogue is shown, others are ignored.
        delexicalised: show the bot's turns with placeholders, as the model reads and writes them.
        states: write the belief state below each user turn.
        turns: how many turns are seen at once; a click unfolds the rest, and the text has them all.
    """
    own: Sequence[Reply] = ()
    if predictions:
        own = predictions.get(dialogue.key, ())
    replies = iter(own)
    services = ", ".join(dialogue.services)
    head = f"{dialogue.dialogue_id} ({services})"
    bubbles = []
    lines = [head]
    user = None
    for turn in dialogue.turns:
        bot = turn.speaker == BOT
        reply = next(replies, None) if bot else None
        text = turn.utterance
        if bot and delexicalised:
            domain = current_domain(turn.state, user or turn)
            text = delexicalise(turn, domain)
        if reply is None:
            said = [(turn.speaker, text)]
        else:
            response = str(reply["response"])
            said = [("reference", text), ("prediction", response)]
        if states and not bot and turn.state:
            state = state_text(turn.state)
            said.append(("state", state))
        bubbles.append(bubble(said, bot))
        for label, words in said:
            lines.append(f"{label}> {words}")
        user = turn
    title = f"<p><b>{escape(head)}</b></p>"
    body = _folded(bubbles, turns)
    plain_text = "\n".join(lines)
    return Shown(title + body, plain_text)


def show_targets(segments: Sequence[Segment]) -> Shown:
    """A training sequence, what carries the loss bold on a ground of its own; in double brackets as text."""
    parts = []
    words = []
    for segment in segments:
        line = segment.text.removesuffix("\n")
        end = segment.text[len(line) :]
        safe = highlighted(line)
        if segment.target:
            safe = f'<b style="{_TARGET}">{safe}</b>'
            line = f"[[{line}]]"
        parts.append(safe + end)
        words.append(line + end)
    style = "white-space:pre-wrap;overflow-wrap:anywhere;max-width:60em"
    html = "".join(parts)
    return Shown(f'<pre style="{style}">{html}</pre>', "".join(words))


def _folded(bubbles: Sequence[str], first: int) -> str:
    """The first bubbles of a dialogue; the others unfold by a click or by keyboard."""
    rest = bubbles[first:]
    n_more = len(rest)
    if n_more < 2:  # a line that unfolds one turn would be no shorter than the turn
        return bubbles_in_order(bubbles)
    seen = bubbles_in_order(bubbles[:first])
    folded = bubbles_in_order(rest)
    summary = f'<summary style="cursor:pointer;padding:.3em 0">{n_more} more turns</summary>'
    return f"{seen}<details>{summary}{folded}</details>"


def bubbles_in_order(bubbles: Sequence[str]) -> str:
    """HTML of turns, one below the other."""
    items = "".join(bubbles)
    return f'<div role="list" style="display:flex;flex-direction:column;max-width:60em">{items}</div>'


def bubble(shown: Sequence[LabelledText], bot: bool) -> str:
    """HTML of one turn, [(label, text)], on the user's or the bot's side."""
    lines = []
    for label, text in shown:
        safe = escape(label)
        words = highlighted(text)
        name = f'<span style="{SMALL}">{safe}:</span>'
        lines.append(f"<div>{name} {words}</div>")
    said = "".join(lines)
    style = _BOT if bot else _USER
    return f'<div role="listitem" style="{style}">{said}</div>'


def show_explanation(explanation: "Explanation") -> Shown:
    """`scores.explain(dialogue_id)` as a dialogue: why it passed or failed, and what each reply offered and told."""
    marks = passed(explanation.verdicts)
    verdicts = []
    for verdict in explanation.verdicts:
        inform, success = marks[verdict.domain]
        first = marked("Inform", inform)
        second = marked("Success", success)
        told = _reason(verdict, success)
        safe = escape(told)
        verdicts.append(f'<li style="margin:.3em 0">{first} {second}{safe}</li>')
    bubbles = []
    for user, reply, change in explanation.turns:
        asked = [("user", user)]
        said = [("bot", reply)]
        if change and not change.endswith(NOTHING):
            said.append(("scored", change))
        bubbles.append(bubble(asked, bot=False))
        bubbles.append(bubble(said, bot=True))
    heading = escape(explanation.heading)
    head = f"<p><b>{heading}</b></p>"
    items = "".join(verdicts)
    domains = f'<ul style="list-style:none;padding-left:0">{items}</ul>'
    body = bubbles_in_order(bubbles)
    return Shown(head + domains + body, str(explanation))


def _reason(verdict: "Verdict", success: bool) -> str:
    """Why a domain passed or failed, in words."""
    told = f" {verdict.domain} (wanted {verdict.wanted}): {verdict.reason}"
    if verdict.missing:
        missing = ", ".join(verdict.missing)
        return f"{told}; never told {missing}"
    if not success:  # nothing is missing here: an Inform failed, in this domain or in another
        return f"{told}; Success needs Inform in every domain"
    return told


def marked(name: str, good: bool) -> str:
    """Inform ✓ or Success ✗, each on its own ground: one of the two may have passed."""
    colour = _FAILED
    sign = "✗"
    if good:
        colour = _PASSED
        sign = "✓"
    style = f"background:{colour};border-radius:.3em;padding:.1em .4em"
    return f'<span style="{style}">{name} {sign}</span>'


def side_by_side(
    replies: Mapping[str, str],
    title: str = "",
    *,
    differences: bool = False,
) -> Shown:
    """Replies of several systems or settings to one prompt, one column each: {name: reply}.

    `differences` underlines the words of later replies that the first one does not have there; *starred* as text.
    """
    first = next(iter(replies.values()), "")
    cells = []
    lines = [title]
    for name, reply in replies.items():
        before = first if differences else reply
        in_html, in_text = _underlined(before, reply)
        safe = escape(name)
        cells.append(f'<div style="{_COLUMN}"><b>{safe}</b><br>{in_html}</div>')
        lines.append(f"{name}: {in_text}")
    columns = "".join(cells)
    row = f'<div style="display:flex;flex-wrap:wrap;gap:.6em">{columns}</div>'
    head = f"<p><b>{escape(title)}</b></p>"
    plain_text = "\n".join(lines)
    return Shown(head + row, plain_text.strip())


def _underlined(before: str, reply: str) -> tuple[str, str]:
    """A reply as HTML and as text, with the words marked that the one before does not have there."""
    marked = []
    starred = []
    for words, new in _changes(before, reply):
        in_html = highlighted(words)
        in_text = words
        if new:
            in_html = f"<u>{in_html}</u>"
            in_text = f"*{words}*"
        marked.append(in_html)
        starred.append(in_text)
    return " ".join(marked), " ".join(starred)


def _changes(first: str, second: str) -> list[tuple[str, bool]]:
    """The second text in runs of words, and whether the first has another run in that place."""
    before = first.split()
    words = second.split()
    matcher = SequenceMatcher(None, before, words, autojunk=False)
    runs = []
    for tag, _, _, start, end in matcher.get_opcodes():
        run = " ".join(words[start:end])
        is_new = tag != "equal"
        if run:
            runs.append((run, is_new))
    return runs


def lexical_view(
    reply: str,
    dialogue: Dialogue,
    turn: int,
    database: Database,
) -> str:
    """A reply to user turn `turn`, each placeholder filled from the first entity that meets the annotated state.

    For reading only, never for scoring: what neither an entity nor the state knows stays a placeholder.
    """
    user_turn = dialogue.turns[2 * turn]
    return filled(reply, user_turn.state, database)


def filled(reply: str, state: State, database: Database, domain: str = "") -> str:
    """A reply with names and numbers; `domain` is meant where a placeholder names none (`[bookday]`)."""
    known = normalise_state(state)

    def fill(match: re.Match[str]) -> str:
        placeholder = match[0]  # "[restaurant_name]", or "[bookday]" without a domain
        named, _, slot = placeholder[1:].partition("_")
        owner = named if slot else domain
        if owner not in known:  # any entity would do, and so none is meant
            return placeholder
        fits = matching(owner, state, database)
        entity = {"choice": len(fits)}
        if fits:
            entity.update(fits[0])
        return lexicalise(placeholder, entity, known[owner])

    return PLACEHOLDER.sub(fill, reply)


def matching(domain: str, state: State, database: Database) -> list[Entity]:
    """The entities of a domain that meet a belief state, in the order of the database; all where it says nothing."""
    if domain not in DOMAINS or domain not in database:
        return []
    rows = database[domain]
    constraints = normalise_state(state).get(domain, {})
    venues = VenueDatabase({domain: rows})
    ids = venues.query(domain, constraints)
    found = []
    for number, row in enumerate(rows):
        own = row.get("id", number)
        own = row.get("trainID", own)
        if str(own) in ids:
            found.append(row)
    return found
