"""One browser and one JupyterLab for all tests of a process: to start them takes as long as some tests."""

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


@pytest.fixture(scope="session")
def miniwoz():
    """The stand-in corpus, as much of it as a page shows."""
    from labkit.corpora import load_corpus

    return load_corpus("miniwoz", sizes={"train": 20, "dev": 20, "test": 20})


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory):
    """The address of a server of JupyterLab and Notebook 7, and its folder."""
    from browser import serving

    home = tmp_path_factory.mktemp("jupyter")
    with serving(home) as address:
        yield address, home
