"""Networks of all kinds on the loopback address: none, silent, dripping, a log-in page, a redirect without end."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

NOWHERE = "http://127.0.0.1:9"  # a port that nothing listens on
SETTINGS = (
    "HF_HUB_OFFLINE",
    "LABKIT_SET_OFFLINE",
    "HF_TOKEN",
    "LAB_MODEL",
    "LAB_CORPUS",
    "LAB_PROFILE",
    "LAB_ATTACHED",
)


def leave_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No Hub, no code host, empty caches, no overrides; whatever labkit switches is switched back afterwards."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    point_hub_to(NOWHERE, monkeypatch)
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is put back, whatever happens to it
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAB_MULTIWOZ_URL", NOWHERE)
    monkeypatch.setenv("LAB_HOME", str(folder / "out"))
    monkeypatch.setenv("LAB_CACHE", str(folder / "cache"))


def point_hub_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does, which huggingface_hub reads when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


class Handler(BaseHTTPRequestHandler):
    """Answers HEAD and GET alike with what `reply` of a subclass says: (status, headers)."""

    def do_GET(self):
        self.do_HEAD()

    def do_HEAD(self):
        status, headers = self.reply()
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def reply(self) -> tuple[int, dict[str, str]]:
        """Everything is there, but nothing of the owner `nobody`."""
        return (404 if self.path.startswith("/nobody") else 200), {}

    def log_message(self, *_):
        pass


class LogInPage(Handler):
    """A hotel's or a campus' network: every address gives its page."""

    def reply(self):
        return 200, {"Content-Type": "text/html; charset=utf-8"}


class RedirectedLogInPage(Handler):
    """The same, at another host: `localhost` is another name for this machine."""

    def reply(self):
        if self.headers["Host"].startswith("localhost"):
            return 200, {"Content-Type": "text/html"}
        return 302, {"Location": f"http://localhost:{self.server.server_port}/log-in"}


class RedirectLoop(Handler):
    def reply(self):
        return 302, {"Location": self.path}


class UnknownToken(Handler):
    """A Hub that knows no token, and lets in whoever shows none."""

    def reply(self):
        return (401 if "Authorization" in self.headers else 200), {}


class Proxy(Handler):
    def reply(self):
        return 407, {}


@contextmanager
def answering(handler: type[Handler] = Handler) -> Iterator[str]:
    """A server; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def dripping(bytes_in_all: int = 50) -> Iterator[str]:
    """A host that sends a byte every tenth of a second."""
    with _accepting(lambda connection: _drip_to(connection, bytes_in_all)) as address:
        yield address


@contextmanager
def silent() -> Iterator[str]:
    """A host that takes the connection and never says a word."""
    with _accepting(lambda connection: time.sleep(30)) as address:
        yield address


@contextmanager
def _accepting(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, serve), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _accept(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    try:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
    except OSError:
        pass  # the test is over


def _drip_to(connection: socket.socket, bytes_in_all: int) -> None:
    try:
        for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"." * bytes_in_all:
            connection.send(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass  # the client has left
