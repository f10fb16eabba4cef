"""A Hub and a code host on the loopback address, of the standard library, for the real clients (HF_ENDPOINT).

What it serves is a folder:

    models/OWNER/NAME/REVISION/…      a model repository, with the revision main
    datasets/OWNER/NAME/REVISION/…    a dataset repository, with the revisions main and refs/convert/parquet
    raw/OWNER/NAME/COMMIT/…           files of the code host, below the address in LAB_MULTIWOZ_URL

Files of LFS_SIZE and more are answered as the Hub answers large files: a redirect to another address, whose ETag is the
content's SHA-256; the ETag of a small one is its git blob id.  What goes wrong is put into `faults` (see `Fault`).

    python tests/hub/server.py FOLDER [PORT]
"""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep  # by its own name: tests shorten the waits of the clients, not the server's
from urllib.parse import unquote

REVISIONS = ("main", "refs/convert/parquet")
LFS_SIZE = 1_000_000


@dataclass
class Fault:
    """What goes wrong in answers for addresses that contain `where`.

    kind: an HTTP status, "cut" (the connection, after `after` bytes), "corrupt" (one byte differs), or "slow" (nothing
    for `seconds`).  times: how often, then it works again.  method: of which requests; "" of all.
    """

    where: str
    kind: int | str
    times: int = 1
    after: int = 0
    seconds: float = 0.0
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


class Hub(ThreadingHTTPServer):
    """The server; `log` holds (method, address, Range) of every request."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.folder, self.faults, self.log, self.lock = Path(folder).resolve(), [], [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fault(self, method: str, address: str) -> Fault | None:
        """The fault of this request, counted down."""
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.where in address and fault.method in ("", method):
                    fault.times -= 1
                    return fault
        return None

    def handle_error(self, request, client_address):
        """A client that hangs up is nobody's error here."""


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[Hub]:
    """The server, running in a thread."""
    hub = Hub(folder, port)
    threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


@cache
def digests(path: Path, stamp: float) -> tuple[str, str]:
    """(git blob id, SHA-256) of a file; `stamp` is its time, so that a changed file is read again."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), hashlib.sha256(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def log_message(self, *_):
        pass

    def answer(self):
        address = self.path.split("?")[0]
        self.server.log.append((self.command, address, self.headers.get("Range")))
        self.broken = self.server.fault(self.command, address)
        if self.broken and self.broken.kind == "slow":
            sleep(self.broken.seconds)
        if self.broken and isinstance(self.broken.kind, int):
            return self.reply(self.broken.kind, b"", dict(self.broken.headers))
        parts = [unquote(part) for part in address.strip("/").split("/")]  # split first: refs%2Fconvert%2Fparquet
        if parts == [""] or parts == ["raw"]:
            return self.reply(200)
        if parts[0] in ("raw", "cdn"):
            return self.file(self.server.folder.joinpath(*parts[parts[0] == "cdn" :]), {})
        if parts[0] == "api":
            return self.api(*parts[1:])
        kind = parts.pop(0) if parts[0] == "datasets" else "models"
        root = self.revision(kind, "/".join(parts[:2]), parts[3] if len(parts) > 4 else "main")
        if root is None:
            return self.missing("RepoNotFound")
        return self.resolve(root, "/".join(parts[4:]))

    def revision(self, kind: str, repository: str, wanted: str) -> Path | None:
        """The folder of a repository at a revision, by its name or commit."""
        roots = {name: self.server.folder / kind / repository / name for name in REVISIONS}
        return next((root for name, root in roots.items() if root.is_dir() and wanted in (name, commit(root))), None)

    def missing(self, code: str):
        self.reply(404, b"", {"X-Error-Code": code, "X-Error-Message": code})

    # --- /api/{models,datasets}/OWNER/NAME[/revision/R | /tree/R[/PATH] | /paths-info/R] ------------------------------

    def api(self, kind: str = "", owner: str = "", name: str = "", verb: str = "revision", revision="main", *path: str):
        if kind not in ("models", "datasets"):
            return self.missing("EntryNotFound")
        root = self.revision(kind, f"{owner}/{name}", revision)
        if root is None:
            return self.missing("RepoNotFound")
        if verb == "revision":
            siblings = [{"rfilename": str(file.relative_to(root))} for file in self.files(root)]
            about = {
                "id": f"{owner}/{name}",
                "sha": commit(root),
                "siblings": siblings,
                "private": False,
                "gated": False,
            }
            return self.json(about | {"disabled": False, "tags": [], "downloads": 0, "likes": 0})
        if verb == "tree":
            folder = root.joinpath(*path)
            entries = folder.rglob("*") if "recursive=true" in self.path.lower() else folder.glob("*")
            return self.json([self.entry(root, entry) for entry in sorted(entries)])
        if verb == "paths-info":
            wanted = [root / name for name in json.loads(self.body)["paths"]]
            return self.json([self.entry(root, entry) for entry in wanted if entry.exists()])
        return self.missing("EntryNotFound")

    def files(self, root: Path) -> list[Path]:
        return sorted(file for file in root.rglob("*") if file.is_file())

    def entry(self, root: Path, path: Path) -> dict:
        name = str(path.relative_to(root))
        if path.is_dir():
            return {"type": "directory", "oid": "", "size": 0, "path": name}
        blob, sha256 = digests(path, path.stat().st_mtime)
        about = {"type": "file", "oid": blob, "size": path.stat().st_size, "path": name}
        return about | ({"lfs": {"oid": sha256, "size": about["size"], "pointerSize": 134}} if large(path) else {})

    def json(self, value):
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    # --- files --------------------------------------------------------------------------------------------------------

    def resolve(self, root: Path, name: str):
        path = (root / name).resolve()
        if not path.is_file() or not path.is_relative_to(root):
            return self.missing("EntryNotFound")
        blob, sha256 = digests(path, path.stat().st_mtime)
        headers = {"X-Repo-Commit": commit(root), "ETag": f'"{sha256 if large(path) else blob}"'}
        if not large(path):
            return self.file(path, headers)
        linked = {"X-Linked-Size": str(path.stat().st_size), "X-Linked-ETag": headers["ETag"]}
        location = f"http://localhost:{self.server.server_port}/cdn/{path.relative_to(self.server.folder)}"
        return self.reply(302, b"", headers | linked | {"Location": location})

    def file(self, path: Path, headers: dict[str, str]):
        if not path.is_file():
            return self.missing("EntryNotFound")
        asked, size = self.headers.get("Range"), path.stat().st_size
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or size), size - 1) + 1
        if asked and start >= size:
            return self.reply(416, b"", {"Content-Range": f"bytes */{size}"})
        content = path.read_bytes()
        if self.broken and self.broken.kind == "corrupt":
            content = content[: size // 2] + bytes([content[size // 2] ^ 1]) + content[size // 2 + 1 :]
        ranges = {"Accept-Ranges": "bytes"} | ({"Content-Range": f"bytes {start}-{end - 1}/{size}"} if asked else {})
        self.reply(206 if asked else 200, content[start:end], headers | ranges)

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.broken and self.broken.kind == "cut"
        if self.command != "HEAD":
            self.wfile.write(body[: self.broken.after] if cut else body)
        self.close_connection = self.close_connection or bool(cut)


def commit(root: Path) -> str:
    """The commit of a revision: 40 hexadecimal digits that stay."""
    return hashlib.sha1(str(root).encode()).hexdigest()


def large(path: Path) -> bool:
    """Whether the Hub keeps a file of this size in its store for large files."""
    return path.stat().st_size >= LFS_SIZE


if __name__ == "__main__":
    with serve(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0) as running:
        print(running.url, flush=True)
        threading.Event().wait()
