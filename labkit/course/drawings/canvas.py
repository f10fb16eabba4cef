"""A sheet to draw on. What is drawn reads on white and on black paper, and at 360 pixels as at 900."""

from collections.abc import Sequence
from html import escape

from labkit.storage import shipped

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
RED = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#888888"
WIDTH = 500  # units; text of 15 units is 11 pixels high on a sheet of 360 pixels
LINE = 19  # units from line to line
SIZE = 15  # of text
SMALL = 13

# The ink is the notebook's: JupyterLab's and VS Code's own variables, Colab's theme, else what the system prefers. The
# class stands twice where JupyterLab has a rule of its own for drawings in outputs.
STYLE = """
.lab-diagram{--lab-ink:var(--jp-content-font-color1,var(--vscode-foreground,#222))}
svg.lab-diagram.lab-diagram{max-width:640px;width:100%;height:auto}
@media (prefers-color-scheme:dark){.lab-diagram{--lab-ink:var(--jp-content-font-color1,var(--vscode-foreground,#eee))}}
html[theme=dark] .lab-diagram{--lab-ink:#eee}
.lab-diagram text{fill:var(--lab-ink);font-family:system-ui,sans-serif}
.lab-diagram .lab-mono{font-family:ui-monospace,Consolas,monospace}
.lab-diagram .lab-bold{font-weight:600}
.lab-diagram .lab-line{stroke:var(--lab-ink);fill:none}
.lab-diagram .lab-head{fill:var(--lab-ink)}
"""

Point = tuple[float, float]


class Canvas:
    """Shapes are added in the order in which they lie on each other."""

    def __init__(self, name: str, height: int):
        """`name` is the diagram's, and its place in words.toml."""
        self.name = name
        self.height = height
        self.words: dict[str, str] = shipped(__file__, "words.toml")[name]
        self._parts: list[str] = []

    def text(
        self, x: float, y: float, words: str, *, size: int = SIZE, at: str = "middle", look: str = "", turn: int = 0
    ) -> None:
        """A line of text; `y` is its baseline, `at` is start, middle or end, `look` is bold or mono."""
        classes = f' class="lab-{look}"' if look else ""
        turned = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
        place = f'x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{at}"'
        self._parts.append(f"<text {place}{classes}{turned}>{escape(words)}</text>")

    def box(self, x: float, y: float, w: float, h: float, *, colour: str = GREY, dashed: bool = False) -> None:
        """A box, filled so lightly that text reads on it."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        place = f'x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6"'
        look = f'fill="{colour}" fill-opacity=".16" stroke="{colour}" stroke-width="1.5"'
        self._parts.append(f"<rect {place} {look}{dash}/>")

    def labelled(self, x: float, y: float, w: float, h: float, lines: Sequence[str], *, colour: str = GREY) -> None:
        """A box with lines of text in its middle; a line that begins with ` is set in a typewriter's letters."""
        self.box(x, y, w, h, colour=colour)
        middle = x + w / 2
        height_of_text = LINE * (len(lines) - 1)
        first = y + (h - height_of_text) / 2 + 5  # the first baseline
        for number, line in enumerate(lines):
            is_code = line.startswith("`")
            size = SMALL if is_code else SIZE
            look = "mono" if is_code else ""
            if number == 0 and len(lines) > 1 and not is_code:
                look = "bold"
            self.text(middle, first + LINE * number, line.lstrip("`"), size=size, look=look)

    def circle(self, x: float, y: float, radius: float, *, colour: str = GREY) -> None:
        """A disc."""
        look = f'fill="{colour}" fill-opacity=".6"'
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" {look}/>')

    def line(self, points: Sequence[Point], *, head: bool = True, width: float = 1.5, dashed: bool = False) -> None:
        """A line through points, with an arrow's head at its end."""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        self.path(path, head=head, width=width, dashed=dashed)

    def path(self, path: str, *, head: bool = True, width: float = 1.5, dashed: bool = False) -> None:
        """A line by SVG's path commands."""
        end = f' marker-end="url(#lab-{self.name}-head)"' if head else ""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<path class="lab-line" d="{path}" stroke-width="{width:g}"{dash}{end}/>')

    def svg(self) -> str:
        """The whole drawing as text."""
        name = self.name
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="lab-diagram" viewBox="0 0 {WIDTH} {self.height}"'
            f' role="img" aria-labelledby="lab-{name}-title lab-{name}-desc">'
        )
        head = (
            f'<defs><marker id="lab-{name}-head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9"'
            ' markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
            '<path class="lab-head" d="M0 0L10 5L0 10z"/></marker></defs>'
        )
        words = (
            f'<title id="lab-{name}-title">{escape(self.words["title"])}</title>'
            f'<desc id="lab-{name}-desc">{escape(self.words["description"])}</desc>'
        )
        return "\n".join([opening, words, f"<style>{STYLE}</style>", head, *self._parts, "</svg>"]) + "\n"
