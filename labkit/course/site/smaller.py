"""What the theme brings twice, or for its own developers, is left out: the site is a folder to copy and to open."""

import base64
import re
import shutil
from pathlib import Path

from labkit.storage import write_text

STYLE = "styles/pydata-sphinx-theme.css"
ICONS = "scripts/fontawesome.js"  # draws each icon of a page anew; the style has all of them as letters of a font
FONTS = "vendor/fontawesome/webfonts"
BRANDS = "fa-brands"  # the class of a firm's mark, and the beginning of the font's name
_FONT = re.compile(rf"url\(\.\./{FONTS}/([\w-]+\.woff2)\)")
_SCRIPT = re.compile(r'\s*<script\b[^>]*\bsrc="[^"]*scripts/fontawesome\.js[^"]*"[^>]*></script>')


def leave_out(folder: Path, static: str) -> None:
    """Remove source maps, words of other languages, and icons that are there twice, from a site that Sphinx has built.

    Args:
        static: the folder of the theme's files, seen from `folder`.
    """
    for path in folder.rglob("*.map"):
        path.unlink()
    translations = folder / static / "locales"  # of the theme's buttons; the course is in English
    if translations.is_dir():
        shutil.rmtree(translations)
    _draw_icons_by_font(folder, folder / static)


def _draw_icons_by_font(folder: Path, static: Path) -> None:
    style = static / STYLE
    script = static / ICONS
    if not style.is_file() or not script.is_file():
        return  # another version of the theme
    text = style.read_text(encoding="utf-8")
    if not _FONT.search(text):
        return
    script.unlink()
    shows_brands = False
    for page in folder.rglob("*.html"):
        with_script = page.read_text(encoding="utf-8")
        shows_brands = shows_brands or BRANDS in with_script
        write_text(page, _SCRIPT.sub("", with_script))

    def within(found: re.Match[str]) -> str:
        """The font as a part of the style: some browsers load none beside a page that was opened as a file."""
        font = static / FONTS / found[1]
        is_used = shows_brands or not font.name.startswith(BRANDS)
        content = base64.b64encode(font.read_bytes()).decode() if is_used else ""
        font.unlink()
        return f"url(data:font/woff2;base64,{content})"

    write_text(style, _FONT.sub(within, text))
