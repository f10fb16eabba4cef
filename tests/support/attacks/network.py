"""Point 3: passwords in addresses, tokens, and what a network can answer."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import labkit
from attacks.case import EITHER, RESULT, SECRET, Case, command, expect, written
from labkit.corpora.download import fetch_multiwoz22
from labkit.failures import explain, hidden
from labkit.lab import decide

MALFORMED = (
    "http://[::1", "http://", "://x", "x", "http://a b", "http://127.0.0.1:99999", "http://127.0.0.1:x", "ftp://x",
    "file:///etc/passwd", "http://a\nb", "http://" + "x" * 5000, "javascript:1", "http://.", "http://-",
)  # fmt: skip
PASSWORDS = (
    "http://user:{}@127.0.0.1:9", "https://user:{}@127.0.0.1:9/x?y", "http://{}@127.0.0.1:9", "http://user:a/{}@127.0.0.1:9",
    "http://user:{}@[::1", "socks5://user:{}@127.0.0.1:9",
)  # fmt: skip
TOKENS = {
    "a typographic quote": "hf_abc“{}",
    "an inner newline": "hf_abc\n{}",
    "an inner carriage return": "hf_abc\r{}",
    "half an emoji": "hf_abc\udc80{}",
    "letters of Greek": "hf_αβγ{}",
    "a NUL-like sign": "hf_abc\x01{}",
    "5000 letters": "hf_" + "a" * 5000 + "{}",
    "spaces": "  {}  ",
}
PROXIES = (
    "socks5://127.0.0.1:9",
    "socks://127.0.0.1:9",
    "socks4://u:{}@127.0.0.1:9",
    "moon://x",
    "http://u:{}@127.0.0.1:9",
    "x",
)
PIN = {"x.json": {"repository": "o/n", "commit": "c" * 40, "path": "p", "blob": "0" * 40, "size": 100}}

Answer = tuple[int, Mapping[str, str], bytes]
PAGE = b"<html>please log in</html>"
ANSWERS: dict[str, Answer] = {
    "a log-in page": (200, {"Content-Type": "text/html"}, PAGE),
    "a log-in page without a type": (200, {}, PAGE),
    "a redirect to itself": (302, {"Location": "/again"}, b""),
    "a redirect to nowhere": (302, {"Location": "http://[::1"}, b""),
    "a redirect to a file": (302, {"Location": "file:///etc/passwd"}, b""),
    "401": (401, {}, b""),
    "401 for a gated model": (401, {"X-Error-Code": "GatedRepo"}, b""),
    "403": (403, {}, b""),
    "404": (404, {}, b""),
    "418": (418, {}, b"x"),
    "500": (500, {}, b""),
    "429 with a date": (429, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, b""),
    "more than was pinned": (200, {}, b"x" * 5000),
    "a length that lies": (200, {"Content-Length": "99999999999"}, b"x"),
    "a negative length": (200, {"Content-Length": "-1"}, b"x"),
    "an unknown encoding": (200, {"Content-Encoding": "moon"}, b"x"),
    "broken gzip": (200, {"Content-Encoding": "gzip"}, b"x"),
    "JSON": (200, {"Content-Type": "application/json"}, b"[]"),
    "null": (200, {"Content-Type": "application/json"}, b"null"),
    "nothing": (200, {}, b""),
}


def cases() -> list[Case]:
    """Addresses, passwords, tokens, proxies and answers; to the card, to a corpus and to a model."""
    return [*_addresses(), *_tokens(), *_proxies(), *_answers(), *_texts()]


def _card() -> None:
    """The card in all its forms comes, and soon."""
    begun = time.monotonic()
    lab = decide()
    took = time.monotonic() - begun
    text = str(lab) + lab._repr_html_() + json.dumps(lab.to_json(), default=str)
    os.write(1, text.encode("utf-8", "replace"))  # searched for secrets
    expect(took < 12, f"the card came after {took:.0f} s")


def _corpus() -> None:
    os.environ["LAB_MULTIWOZ_PINS"] = str(written("pins.json", json.dumps(PIN)))
    fetch_multiwoz22()


def _model() -> None:
    labkit.load_model("owner/model")


ASKED: dict[str, Callable[[], None]] = {"the card": _card, "a corpus": _corpus, "a model": _model}


def _with(variables: Mapping[str, str], ask: Callable[[], None]) -> None:
    """Ask with these environment variables, online, and with short waits."""
    from huggingface_hub import constants

    from labkit.corpora import download
    from labkit.machine import retry

    os.environ.update(variables)
    for name in ("HF_HUB_OFFLINE", "LAB_MODEL", "LAB_CORPUS"):
        os.environ.pop(name, None)
    os.environ.setdefault("LAB_MULTIWOZ_URL", "http://127.0.0.1:9")
    constants.HF_HUB_OFFLINE = False
    constants.ENDPOINT = os.environ.get("HF_ENDPOINT", "http://127.0.0.1:9")
    constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    constants.HF_HUB_CACHE = os.environ["LAB_CACHE"]
    retry.BACKOFF = 0.01
    download.TIMEOUT = 2.0
    ask()


def _addresses() -> Iterator[Case]:
    secret = [address.replace("{}", SECRET) for address in PASSWORDS]
    for name, ask in ASKED.items():
        variable = "HF_ENDPOINT" if name == "a model" else "LAB_MULTIWOZ_URL"
        for address in [*MALFORMED, *secret]:
            right = (RESULT,) if name == "the card" else ("clear line",)
            if "\n" in address:
                right = EITHER  # transformers' own client may take it apart
            act = partial(_with, {variable: address}, ask)
            yield Case(3, f"{name} from {variable}={address[:40]!a}", act, right, seconds=30)


def _tokens() -> Iterator[Case]:
    for name, token in TOKENS.items():
        for asked, ask in (("the card", _card), ("a model", _model)):
            with_token = partial(_at, ANSWERS["404"], {"HF_TOKEN": token.format(SECRET)}, ask)
            right = (RESULT,) if asked == "the card" else ("clear line",)
            yield Case(3, f"{asked} with a token that has {name}", with_token, right, seconds=30)
    refused = partial(_at, ANSWERS["401"], {"HF_TOKEN": f"hf_{SECRET}"}, _model)
    yield Case(3, "a model with a token that the Hub refuses", refused, says="HF_TOKEN", seconds=30)


def _proxies() -> Iterator[Case]:
    for proxy in PROXIES:
        proxy = proxy.replace("{}", SECRET)
        variables = {"ALL_PROXY": proxy, "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": ""}
        variables |= {name.lower(): value for name, value in variables.items()}
        variables |= {"LAB_MULTIWOZ_URL": "https://nowhere.invalid", "HF_ENDPOINT": "https://nowhere.invalid"}
        for name, ask in ASKED.items():
            right = (RESULT,) if name == "the card" else ("clear line",)
            yield Case(3, f"{name} through {proxy[:20]}", partial(_with, variables, ask), right, seconds=30)


def _answers() -> Iterator[Case]:
    for answer, content in ANSWERS.items():
        for name, ask in ASKED.items():
            right = (RESULT,) if name == "the card" else ("clear line",)
            act = partial(_at, content, {}, ask)
            yield Case(3, f"{name} from a host that answers {answer}", act, right, seconds=40)
    for name, ask in ASKED.items():
        right = (RESULT,) if name == "the card" else ("clear line",)
        yield Case(3, f"{name} from a silent host", partial(_at, None, {}, ask), right, seconds=40)


def _at(answer: Answer | None, variables: Mapping[str, str], ask: Callable[[], None]) -> None:
    status, headers, body = answer or (200, {}, b"")
    with serving(body, status=status, headers=headers, silent=answer is None) as address:
        _with({"LAB_MULTIWOZ_URL": address, "HF_ENDPOINT": address, **variables}, ask)


@contextmanager
def serving(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None, silent: bool = False
) -> Iterator[str]:
    """A host on the loopback address that answers everything in the same way; `silent`: not at all."""

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if silent:
                time.sleep(60)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if "Content-Length" not in (headers or {}):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"


def _texts() -> Iterator[Case]:
    """What an error of a library repeats."""
    for text in PASSWORDS:
        yield Case(3, f"an error with {text}", partial(_hides, text.format(SECRET)), (RESULT,))
    for form in ("hf_{}", "Bearer {}", "Authorization: Bearer {}"):
        yield Case(3, f"an error with {form}", partial(_hides, form.format("aB3dE6gH" * 4), "aB3dE6gH"), (RESULT,))
    for variable in ("HF_ENDPOINT", "LAB_MULTIWOZ_URL"):
        act = partial(_with, {variable: f"http://user:{SECRET}@127.0.0.1:9"}, _doctor)
        yield Case(3, f"labkit doctor --json with a password in {variable}", act, (RESULT,), seconds=30)


def _hides(text: str, secret: str = SECRET) -> None:
    expect(secret not in hidden(f"cannot connect to {text} (tried 3 times)"), "it is repeated")
    failure = explain(labkit.LabError(f"cannot download {text}", text, f"see {text}"))
    expect(secret not in str(failure), "the card of the error repeats it")


def _doctor() -> None:
    command("doctor", "--json", os.path.join(os.environ["LAB_HOME"], "card.json"))
