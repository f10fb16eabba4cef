"""Whether the Hub and other hosts answer, and what keeps them from it."""

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from labkit.errors import LabError
from labkit.failures import hidden
from labkit.machine.one_line import shortened

if TYPE_CHECKING:
    import httpx

OURS = "LABKIT_SET_OFFLINE"  # set beside HF_HUB_OFFLINE, for this process and its children: labkit did it, not the user
LOG_IN = "as a network does that wants you to log in first: open a web page and log in"
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
TOKEN_ACTION = "mend or unset HF_TOKEN, or log in again (hf auth login)"
PROXY_WANTS_PASSWORD = 407

Answer = int | str  # an HTTP status, or in words why there is none


@dataclass(frozen=True)
class Hub:
    """Whether models can be downloaded from the Hugging Face Hub."""

    reachable: bool
    reason: str
    endpoint: str  # as it may be shown: without user and password


@dataclass(frozen=True)
class Question:
    """An address to ask for, none of which is a web page where it is right, and the headers of the request."""

    address: str
    headers: Mapping[str, str] = field(default_factory=dict)


def hub_status(timeout: float = 3.0) -> Hub:
    """Whether the Hub answers within `timeout` seconds; where it does not, offline mode is set until it does.

    Raises:
        LabError: HF_ENDPOINT is no address, or the Hub answers, but no request can be sent with this user's token.
    """
    check_endpoint()
    if offline_by_user():
        return offline()
    answers = probe({"hub": hub_question()}, timeout)
    hub = decided(answers["hub"])
    problem = token_problem()
    if hub.reachable and problem:
        raise LabError("HF_TOKEN cannot be sent to the Hub", problem, TOKEN_ACTION)
    return hub


def hub_question() -> Question:
    """An address of the Hub's interface for programs: 401 and 404 are answers too, a web page is somebody else's."""
    from huggingface_hub import constants

    return Question(f"{constants.ENDPOINT}/api/whoami-v2")


def check_endpoint() -> None:
    """Before huggingface_hub is imported, which otherwise ends in a traceback of its own.

    Raises:
        LabError: HF_ENDPOINT cannot be read as an address.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "")
    try:
        parts = urlsplit(endpoint)
        _ = parts.hostname, parts.port  # read from the text only now
    except ValueError as error:
        shown = hidden(shortened(endpoint))
        action = (
            "set it to the address of a mirror, such as https://hf-mirror.com, or unset it; then restart the kernel"
        )
        raise LabError(f"HF_ENDPOINT={shown!r} is no address", str(error), action) from error


# --- offline mode -----------------------------------------------------------------------------------------------------


def offline_by_user() -> bool:
    """Whether offline mode is on, and it was not labkit that set it."""
    from huggingface_hub import constants

    by_labkit = OURS in os.environ and "HF_HUB_OFFLINE" in os.environ
    return constants.is_offline_mode() and not by_labkit


def offline() -> Hub:
    """The Hub where the user asked for offline mode."""
    return Hub(reachable=False, reason="offline mode is on (HF_HUB_OFFLINE)", endpoint=_shown_endpoint())


def decided(answer: Answer) -> Hub:
    """The Hub after its answer; offline mode is set where it is absent, and taken back where it is there again."""
    if isinstance(answer, int) and answer < 500 and answer != PROXY_WANTS_PASSWORD:
        _go_online()
        return Hub(reachable=True, reason="answers", endpoint=_shown_endpoint())
    _go_offline()
    reason = f"{in_words(answer)}; offline mode is on until it answers"
    return Hub(reachable=False, reason=reason, endpoint=_shown_endpoint())


def in_words(answer: Answer) -> str:
    """An answer as a message has it."""
    if answer == PROXY_WANTS_PASSWORD:
        return f"HTTP {answer}, the proxy wants a password ({proxies()})"
    return f"HTTP {answer}" if isinstance(answer, int) else answer


def _go_offline() -> None:
    """Else transformers asks an absent Hub for up to 70 s, again and again."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ[OURS] = "1"
    _tell_libraries(is_offline=True)


def _go_online() -> None:
    if OURS not in os.environ:
        return
    del os.environ[OURS]
    os.environ.pop("HF_HUB_OFFLINE", None)
    _tell_libraries(is_offline=False)


def _tell_libraries(is_offline: bool) -> None:
    """They read the environment once, when they are imported; transformers asks huggingface_hub."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = is_offline
    if "datasets" in sys.modules:
        import datasets

        datasets.config.HF_HUB_OFFLINE = is_offline


def _shown_endpoint() -> str:
    from huggingface_hub import constants

    return hidden(shortened(constants.ENDPOINT))


# --- asking -----------------------------------------------------------------------------------------------------------


def probe(questions: Mapping[str, Question], timeout: float) -> dict[str, Answer]:
    """HEAD each address in its own thread; who has not answered after `timeout` s in all is left behind."""
    answers: dict[str, Answer] = dict.fromkeys(questions, f"no answer within {timeout:g} s")
    end = time.monotonic() + timeout
    client = _client(timeout)
    if isinstance(client, str):
        return dict.fromkeys(questions, client)

    def ask(name: str, question: Question) -> None:
        answers[name] = _answer(client, question)

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in questions.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)


def _client(timeout: float) -> "httpx.Client | str":
    """A client that goes through this machine's proxies, or why they cannot be used. It takes no token of others."""
    import httpx

    try:
        return httpx.Client(timeout=timeout, follow_redirects=True)
    except ImportError:
        return f"the proxy {proxies()} needs the package socksio: pip install socksio"
    except (ValueError, httpx.InvalidURL) as error:
        return hidden(f"the proxy {proxies()} cannot be used: {error}")


def proxies() -> str:
    """The variables that name a proxy, as they may be shown."""
    named = []
    for name in PROXIES:
        for spelled in (name, name.lower()):
            address = os.environ.get(spelled)
            if address:
                named.append(f"{spelled}={hidden(shortened(address))}")
    return ", ".join(named) or "of the system settings"


def _answer(client: "httpx.Client", question: Question) -> Answer:
    import httpx

    try:
        response = client.head(question.address, headers=dict(question.headers))
    except httpx.TooManyRedirects:
        return f"redirected without end, {LOG_IN}"
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        return f"{hidden(shortened(question.address))} is no web address"
    except httpx.TransportError as error:
        return _no_answer(error, question)
    except (httpx.HTTPError, OSError, ValueError) as error:
        return f"no answer: {type(error).__name__}"
    is_page = "html" in response.headers.get("Content-Type", "").lower()
    if is_page and response.is_success:
        return f"a web page came instead of an answer, {LOG_IN}"
    return response.status_code


def _no_answer(error: "httpx.TransportError", question: Question) -> str:
    """Why there is none: the host itself, or one that the network sent the request on to."""
    import httpx

    reason = f"no answer: {type(error).__name__}"
    asked = httpx.URL(question.address).host
    try:
        reached = error.request.url.host
    except RuntimeError:  # no request was made
        return reason
    if reached != asked:
        return f"redirected to {shortened(reached)}, which gives {reason}, {LOG_IN}"
    return reason


# --- the token --------------------------------------------------------------------------------------------------------


def hub_token() -> str | None:
    """From HF_TOKEN, a login or Colab's secrets, where huggingface_hub looks, or from Kaggle's; it is kept nowhere."""
    from huggingface_hub import get_token

    token = get_token()
    if token is None and importlib.util.find_spec("kaggle_secrets"):
        from kaggle_secrets import UserSecretsClient

        with suppress(Exception):  # there is no such secret, or the notebook may not read it
            token = UserSecretsClient().get_secret("HF_TOKEN")
    return token


def has_token() -> bool:
    """Whether the Hub's client sends a token with its requests."""
    from huggingface_hub import get_token

    return get_token() is not None


def token_problem() -> str:
    """What keeps the client's token out of an HTTP header (a typographic quote, a space), without the token itself."""
    from huggingface_hub import get_token

    token = get_token() or ""
    for place, character in enumerate(token, start=1):
        if not "!" <= character <= "~":
            return f"character {place} of {len(token)} is {character!a}, which no token has"
    return ""
