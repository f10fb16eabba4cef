"""Where the front end lies."""

from pathlib import Path

MODULE = Path(__file__).with_name("lab.mjs")
STYLE = Path(__file__).with_name("lab.css")
