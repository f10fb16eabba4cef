"""One browser for all tests here: to start it takes as long as a test."""

import pytest

LONG = ("test_notebook1", "test_front_ends", "test_chat", "test_site")  # a Jupyter server or a whole site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, so that no process waits for the other at the end."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def browser():
    from browser import chromium  # not above: it skips who imports it, and a conftest cannot be skipped

    with chromium() as browser:
        yield browser
