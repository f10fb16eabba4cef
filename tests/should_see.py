"""Puts "what you should see" into the notebooks: the picture of a solution's own figure, from a run, with its alt text.

    python tests/should_see.py EXECUTED.ipynb …    # executed copies of solutions/*.ipynb; needs playwright, Chromium

A figure is drawn in Chromium at 700 pixels and put into a Markdown cell after the figure's, as an attachment, folded.
Only figures that do not depend on the machine are in PICTURES; the alt text says what the picture shows.
"""

import base64
import io
import json
import shutil
import sys
from pathlib import Path

import nbformat
import plotly.io
from PIL import Image
from playwright.sync_api import sync_playwright

SOLUTIONS = Path(__file__).parents[1] / "solutions"
PICTURES = {  # cell -> what its picture shows, for who cannot see it
    "lengths": "Histogram of the turns per dialogue of the 1,000 training dialogues of MiniWOZ: from 6 to 30 turns, "
    "the highest bar at 16, half of the dialogues between 12 and 18, few beyond 22.",
    "nf4": "Histogram of the weights of one matrix, each divided by the largest of its block: a bell around 0, thin at "
    "the ends, with one peak each at -1 and 1; the 16 dotted lines of the codebook are close together in the middle.",
    "memory": "Three stacked bars for a model of 7 billion parameters on a T4: full fine-tuning, at more than 100 "
    "GB, is far above the line of 15.8; LoRA on a 16-bit base ends just below it; QLoRA on a 4-bit base at a third.",
}
HEAD = "<details><summary>What you should see (a run of the solution on {setting})</summary>\n\n"


def page(output):
    """An output as HTML that needs no network."""
    if figure := output.get("data", {}).get("application/vnd.plotly.v1+json"):
        figure = plotly.io.from_json(json.dumps({key: figure[key] for key in ("data", "layout")}), skip_invalid=True)
        return plotly.io.to_html(figure.update_layout(width=700), include_plotlyjs=True)
    return f'<meta charset="utf-8"><body style="font-family:sans-serif">{output["data"]["text/html"]}'


def picture(browser, output):
    """PNG of an output: bytes, in 32 colours."""
    tab = browser.new_page(viewport={"width": 720, "height": 300})
    tab.set_content(page(output))
    tab.wait_for_timeout(1500)
    shot = Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
    tab.close()
    small = io.BytesIO()
    shot.quantize(32).save(small, "PNG", optimize=True)
    return small.getvalue()


def illustrate(executed, browser):
    """Put the pictures of an executed notebook into its source."""
    run = nbformat.read(executed, as_version=4)
    path = next(path for path in SOLUTIONS.glob("*.ipynb") if Path(executed).stem.endswith(path.stem))
    source = nbformat.read(path, as_version=4)
    drawn = {f"{id}-seen" for id in PICTURES}
    source.cells = [cell for cell in source.cells if cell.id not in drawn]
    shown = {cell.id: cell.outputs[-1] for cell in run.cells if cell.cell_type == "code" and cell.outputs}
    for id in [cell.id for cell in source.cells if cell.id in PICTURES and cell.id in shown]:
        png, name = picture(browser, shown[id]), f"{id}.png"
        text = HEAD.format(setting="the stand-ins") + f"![{PICTURES[id]}](attachment:{name})\n\n</details>"
        cell = nbformat.v4.new_markdown_cell(text, id=f"{id}-seen")
        cell["attachments"] = {name: {"image/png": base64.b64encode(png).decode()}}
        source.cells.insert(1 + next(n for n, other in enumerate(source.cells) if other.id == id), cell)
        print(f"{path.name}: {name}, {len(png) / 1000:.0f} kB")
    nbformat.write(source, path)


if __name__ == "__main__":
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for executed in sys.argv[1:]:
            illustrate(executed, browser)
