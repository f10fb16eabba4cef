"""One browser for all tests here: to start it takes as long as a test."""

import pytest


@pytest.fixture(scope="session")
def browser():
    from browser import chromium  # not above: it skips who imports it, and a conftest cannot be skipped

    with chromium() as browser:
        yield browser
