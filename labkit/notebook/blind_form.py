"""The form of a blind comparison: core widgets that write a file, and a page that does the same without a kernel.

How a notebook calls it (`test` is a `labkit.interaction.blind.blind_test`):

    form(test, lab.home / "blind-1.json", annotator="me")       # in the cell; every choice is saved at once
    write_page(test.swap(), lab.home / "blind-2.html")          # to send to somebody: it gives back a JSON file

Both write what `labkit.interaction.blind.read_answers` reads, and neither says which system wrote what.
"""

import json
import uuid
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.interaction.blind import FIRST, SAME, SECOND, BlindTest, Pair, read_answers, record, write_answers
from labkit.notebook.decoding_lab.twin import display_with_twin
from labkit.shown import Shown
from labkit.storage import writable_file, write_text

if TYPE_CHECKING:
    import ipywidgets

OPTIONS = {FIRST: "the first reply", SECOND: "the second reply", SAME: "both are as good"}
HELP = "Which reply helps the user more? Names and numbers stand as [placeholders]. You are not told who wrote which."

# Collects the choices and hands them over as a file; without a choice nothing is saved.
SAVE = """
(() => {
  const form = document.getElementById("ID");
  const told = RECORD;
  const status = form.querySelector("[role=status]");
  const count = () => form.querySelectorAll("input[type=radio]:checked").length;
  form.addEventListener("change", () => { status.textContent = `${count()} of TOTAL answered`; });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    for (const field of form.querySelectorAll("fieldset")) {
      const chosen = field.querySelector("input:checked");
      if (chosen) told.choices[field.dataset.pair] = chosen.value;
    }
    told.annotator = form.querySelector("input[type=text]").value.trim();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(told, null, 1)], { type: "application/json" }));
    link.download = `blind-${told.test}.json`;
    link.click();
    status.textContent = `${count()} of TOTAL answers are in ${link.download}`;
  });
})();
"""


def form_html(test: BlindTest, annotator: str = "") -> str:
    """The form as HTML with its own script: it needs no kernel, and no network."""
    name = f"blind-{uuid.uuid4().hex[:12]}"
    fields = ""
    for number, pair in enumerate(test.pairs, 1):
        fields += _field(pair, number, f"{name}-{number}")
    who = f'<label>Your name: <input type="text" required value="{escape(annotator)}"></label>'
    total = len(test.pairs)
    status = f'<span role="status">0 of {total} answered</span>'
    button = '<button type="submit">Save the answers</button>'
    told = json.dumps(record(test, {}, annotator)).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    script = SAVE.replace("ID", name, 1).replace("TOTAL", str(total)).replace("RECORD", told, 1)
    form = f'<form id="{name}"><p>{escape(HELP)}</p><p>{who}</p>{fields}<p>{button} {status}</p></form>'
    return f"{form}<script>{script}</script>"


def _field(pair: Pair, number: int, name: str) -> str:
    """One pair with its three choices."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in pair.history)
    first, second = (escape(reply) for reply in pair.shown)
    replies = f"<ol><li><b>{first}</b></li><li><b>{second}</b></li></ol>"
    choices = ""
    for value, words in OPTIONS.items():
        choices += f'<label><input type="radio" name="{name}" value="{value}"> {words}</label> '
    legend = f"<legend>Pair {number}</legend>"
    history = f'<ul style="list-style:none;padding-left:0">{lines}</ul>'
    return f'<fieldset data-pair="{escape(pair.id)}">{legend}{history}{replies}{choices}</fieldset>'


def write_page(test: BlindTest, path: Path | str, annotator: str = "") -> Path:
    """Write the form as a page of its own, whole or not at all.

    Raises:
        LabError: the file cannot be written, or its name does not end in .html.
    """
    writable_file(path, kinds=(".html",))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Which reply?</title>'
    look = "<style>:root{color-scheme:light dark}body{max-width:50em;margin:1em auto;font-family:system-ui}</style>"
    body = f"<main><h1>Which reply is better?</h1>{form_html(test, annotator)}</main>"
    return write_text(path, f'<!doctype html><html lang="en"><head>{head}{look}</head><body>{body}</body></html>\n')


def in_words(test: BlindTest) -> str:
    """The pairs as text, for a terminal."""
    lines = [HELP]
    for number, pair in enumerate(test.pairs, 1):
        first, second = pair.shown
        lines += ["", f"{number}.", *pair.history, f"  first:  {first}", f"  second: {second}"]
    return "\n".join(lines)


def widget(test: BlindTest, path: Path | str, annotator: str) -> "ipywidgets.VBox":
    """The form in core widgets. Every choice is written to `path` at once; what stands there already is shown.

    Raises:
        LabError: the file holds other answers.
    """
    import ipywidgets as w

    choices = dict(read_answers(test, path).choices) if Path(path).exists() else {}
    if choices:
        write_answers(test, choices, path, annotator=annotator)  # of another annotator, or in the other order
    status = w.HTML()

    def tell() -> None:
        status.value = (
            f'<span role="status">{len(choices)} of {len(test.pairs)} answered, in {escape(str(path))}</span>'
        )

    boxes = [w.HTML(f"<p>{escape(HELP)}</p>")]
    for number, pair in enumerate(test.pairs, 1):
        lines = "".join(f"<div>{escape(line)}</div>" for line in pair.history)
        first, second = (escape(reply) for reply in pair.shown)
        text = w.HTML(f"<h4>Pair {number}</h4>{lines}<ol><li><b>{first}</b></li><li><b>{second}</b></li></ol>")
        options = [(words, value) for value, words in OPTIONS.items()]
        buttons = w.RadioButtons(options=options, value=choices.get(pair.id), description=f"pair {number}:")

        def choose(change: dict[str, str], name: str = pair.id) -> None:
            choices[name] = change["new"]
            try:
                write_answers(test, choices, path, annotator=annotator)
            except LabError as error:
                status.value = escape(str(error))
                return
            tell()

        buttons.observe(choose, names="value")
        boxes += [text, buttons]
    tell()
    return w.VBox([*boxes, status])


def form(test: BlindTest, path: Path | str, *, annotator: str) -> None:
    """Display the form; where no kernel runs, the page with its own script stands there instead.

    Raises:
        LabError: the file holds other answers.
    """
    display_with_twin(widget(test, path, annotator), Shown(form_html(test, annotator), in_words(test)))
