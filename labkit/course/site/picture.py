"""The picture of the decoding lab in the README, and what it shows: `make picture` takes it anew."""

import hashlib
from pathlib import Path

from labkit.notebook.decoding_lab.files import MODULE, STYLE

PICTURE = Path(__file__).parents[1] / "decoding-lab.png"
RECORD = PICTURE.with_suffix(".json")


def shown_files() -> dict[str, str]:
    """{file: SHA-256} of the front end that the picture shows, whatever a checkout does to line ends."""
    hashes = {}
    for path in (MODULE, STYLE):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        hashes[path.name] = hashlib.sha256(content).hexdigest()
    return hashes
