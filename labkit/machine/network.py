"""Whether the Hub and MultiWOZ's host answer."""

import importlib.util
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Hub:
    """Whether models can be downloaded from the Hugging Face Hub."""

    reachable: bool
    reason: str
    endpoint: str


def hub_status(timeout: float = 3.0) -> Hub:
    """Whether the Hub answers within `timeout` seconds; where it does not, offline mode is set."""
    from huggingface_hub import constants

    endpoint = constants.ENDPOINT
    if constants.is_offline_mode():
        return offline(endpoint)
    return decided(endpoint, probe([(endpoint, {})], timeout)[0])


def offline(endpoint: str) -> Hub:
    """The Hub where the user asked for offline mode."""
    return Hub(False, "offline mode is on (HF_HUB_OFFLINE)", endpoint)


def decided(endpoint: str, answer: int | str) -> Hub:
    """The Hub after its answer; offline mode is set where it is absent."""
    from huggingface_hub import constants

    if isinstance(answer, int) and answer < 500:
        return Hub(True, "answers", endpoint)
    os.environ["HF_HUB_OFFLINE"] = "1"  # else transformers asks an absent Hub for up to 70 s, again and again
    constants.HF_HUB_OFFLINE = True
    return Hub(False, f"{answer}; offline mode is on from here", endpoint)


def probe(targets: list[tuple[str, dict[str, str]]], timeout: float) -> list[int | str]:
    """HEAD each (URL, headers) in its own thread; who has not answered after `timeout` s in all is left behind."""
    import httpx

    answers: list[int | str] = [f"no answer within {timeout:g} s"] * len(targets)
    end = time.monotonic() + timeout

    def ask(index: int, url: str, headers: dict[str, str]) -> None:
        try:
            answers[index] = httpx.head(url, headers=headers, timeout=timeout).status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            answers[index] = f"no answer: {type(error).__name__}"

    threads = [threading.Thread(target=ask, args=(i, *target), daemon=True) for i, target in enumerate(targets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(answers)


def hub_token() -> str | None:
    """From HF_TOKEN, a login or Colab's secrets, where huggingface_hub looks, or from Kaggle's; it is kept nowhere."""
    from huggingface_hub import get_token

    token = get_token()
    if token is None and importlib.util.find_spec("kaggle_secrets"):
        from kaggle_secrets import UserSecretsClient

        with suppress(Exception):  # there is no such secret, or the notebook may not read it
            token = UserSecretsClient().get_secret("HF_TOKEN")
    return token
