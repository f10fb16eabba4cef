"""Whole conversations to look at, static: what was said, and what the simulated user thought of each reply."""

from collections.abc import Sequence
from html import escape

from labkit.interaction.scores import Account, ConversationScores, Share
from labkit.notebook.view import LabelledText, bubble, bubbles_in_order, marked
from labkit.shown import Shown

HEADING = ("bot", "states", "goals", "Success", "strict Success", "mwzeval's Success", "left by the user")


def show_account(account: Account) -> Shown:
    """`scores.explain(key)` as a dialogue: which wishes were fulfilled, and each fault below its reply."""
    bubbles = []
    for user, reply, thought in account.turns:
        asked: list[LabelledText] = [("user", user)]
        said: list[LabelledText] = [("bot", reply)]
        if thought:
            said.append(("user's thought", thought))
        bubbles.append(bubble(asked, bot=False))
        bubbles.append(bubble(said, bot=True))
    name = escape(account.dialogue_id)
    ending = escape(account.ending)
    success = marked("Success", account.success)
    strict = marked("strict", account.strict_success)
    head = f"<p><b>{name}</b> {success} {strict} {ending}</p>"
    wishes = ""
    for wish in account.wishes:
        safe = escape(wish)
        wishes += f"<li>{safe}</li>"
    listed = f'<ul style="list-style:none;padding-left:0">{wishes}</ul>'
    body = bubbles_in_order(bubbles)
    return Shown(head + listed + body, str(account))


def show_scores(runs: dict[str, ConversationScores]) -> Shown:
    """Scores of several bots side by side, a row for each: {name: scores}."""
    rows: list[Sequence[str]] = [HEADING]
    for name, scores in runs.items():
        row = [name, scores.states, str(scores.n)]
        theirs = scores.by_mwzeval.get("success")
        for share in (scores.success, scores.strict_success, theirs, scores.abandoned):
            row.append(_short(share))
        rows.append(row)
    table = ""
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        cells = ""
        for text in row:
            safe = escape(text)
            cells += f"<{tag}>{safe}</{tag}>"
        table += f"<tr>{cells}</tr>"
    lines = ["  ".join(row) for row in rows]
    return Shown(f"<table>{table}</table>", "\n".join(lines))


def _short(share: Share | None) -> str:
    """ "64 [50, 76]"; "–" where there is none."""
    if share is None or share.interval is None:
        return "–"
    low, high = share.interval
    return f"{share.percent:.0f} [{low:.0f}, {high:.0f}]"
