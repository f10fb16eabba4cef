"""Install packages as pip is set up, by uv where it can do the same, which is faster.

    python .ci/install.py WORD …    # the words that would follow `pip install`

uv does not read pip's settings. Those that it has a name for are handed on; where pip has any other one, and where uv
fails, pip installs. Nothing of the settings is printed: an address may hold a password.
"""

import ast
import os
import subprocess
import sys

HANDED_ON = {  # pip's setting -> uv's variable
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
}
OF_NO_MATTER = {"disable-pip-version-check", "default-timeout", "timeout", "retries", "quiet", "verbose", "no-input"}
OF_NO_MATTER |= {"progress-bar", "no-color", "cache-dir", "no-cache-dir", "compile", "no-compile"}
OF_NO_MATTER |= {"require-virtualenv", "root-user-action", "break-system-packages"}  # this is a virtual environment
STRONGER = ("global", "install", ":env:")  # sections of pip's settings, each before those that it yields to


def pips_settings() -> dict[str, str] | None:
    """{name: value} of what is set in pip's files and in the environment; None where pip cannot say."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    if listed.returncode:
        return None
    settings: dict[str, dict[str, str]] = {section: {} for section in STRONGER}
    for line in listed.stdout.splitlines():
        where, _, value = line.partition("=")
        section, _, name = where.rpartition(".")
        if section in settings:  # others are of other commands
            settings[section][name] = str(ast.literal_eval(value))
    return {name: value for section in STRONGER for name, value in settings[section].items()}


def for_uv(settings: dict[str, str]) -> tuple[list[str], dict[str, str]] | None:
    """(more words, variables) with which uv takes the same packages from the same places; None where it cannot."""
    words = []
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # the newest of all places, as pip
    for name, value in settings.items():
        if name == "constraint":
            words += [word for path in value.split() for word in ("--constraint", path)]
        elif name in HANDED_ON:
            between = "," if name == "find-links" else " "
            variables[HANDED_ON[name]] = between.join(value.split())
        elif name not in OF_NO_MATTER:
            return None
    return words, variables


def by_uv(packages: list[str]) -> bool:
    """Whether uv has installed them."""
    settings = pips_settings()
    same = None if settings is None else for_uv(settings)
    if same is None:
        return False
    words, variables = same
    own = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
    return subprocess.run([*own, *words, *packages], capture_output=True, env=os.environ | variables).returncode == 0


def main(packages: list[str]) -> int:
    pip = [sys.executable, "-m", "pip", "install"]
    has_uv = subprocess.run([*pip, "--quiet", "--constraint", "constraints.txt", "uv"], capture_output=True)
    if has_uv.returncode == 0 and by_uv(packages):
        return 0
    print("    by pip, which takes minutes", flush=True)
    return subprocess.run([*pip, "--no-compile", *packages]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
