"""`make install` takes packages by uv only where it takes the same ones from the same places as pip."""

import importlib.util
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "install.py"
SECRET = "passw0rd"
if not SCRIPT.is_file():
    pytest.skip("a copy without the repository's hidden folders", allow_module_level=True)


@pytest.fixture
def install():
    spec = importlib.util.spec_from_file_location("install", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(install, monkeypatch):
    """pip is set up as `machine.settings` says; commands are kept, and those with the word `machine.bad` fail."""
    machine = SimpleNamespace(settings="", commands=[], environments=[], bad=None)

    def run(command, *, env=None, **_):
        machine.commands.append([str(word) for word in command[1:]])
        machine.environments.append(env or {})
        failed = machine.bad is not None and machine.bad in command
        return SimpleNamespace(returncode=int(failed), stdout=machine.settings)

    monkeypatch.setattr(subprocess, "run", run)
    return machine


def by(machine):
    """The tool that was asked last."""
    return machine.commands[-1][1]


def test_pips_own_index_is_asked_by_uv_too(install, machine, capsys):
    machine.settings = (
        f"global.index-url='https://me:{SECRET}@index/simple'\n"
        "global.extra-index-url='https://one/simple https://two/simple'\n"
        "global.find-links='/wheels /more'\n"
        "global.constraint='/etc/caps.txt'\n"
        "install.find-links='/mine'\n"
        ":env:.cert='/etc/own.crt'\n"
        "wheel.no-binary='x'\n"
        "global.disable-pip-version-check='1'\n"
    )
    assert install.main(["--quiet", "package"]) == 0
    assert by(machine) == "uv"
    assert machine.commands[-1][-4:] == ["--constraint", "/etc/caps.txt", "--quiet", "package"]
    given = machine.environments[-1]
    assert given["UV_DEFAULT_INDEX"] == f"https://me:{SECRET}@index/simple"
    assert given["UV_INDEX"] == "https://one/simple https://two/simple" and given["UV_FIND_LINKS"] == "/mine"
    assert given["SSL_CERT_FILE"] == "/etc/own.crt" and given["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err + str(machine.commands)


@pytest.mark.parametrize("setting", ["proxy='http://there'", "trusted-host='there'", "no-binary=':all:'"])
def test_a_setting_that_uv_is_not_given_leaves_it_to_pip(install, machine, setting):
    machine.settings = f"global.{setting}\n"
    assert install.main(["package"]) == 0
    assert by(machine) == "pip" and machine.commands[-1][-2:] == ["--no-compile", "package"]


@pytest.mark.parametrize("bad", ["uv", "config"])
def test_where_uv_cannot_be_had_or_fails_pip_installs(install, machine, bad):
    machine.bad = bad
    assert install.main(["package"]) == 0
    assert by(machine) == "pip" and machine.commands[-1][-1] == "package"


def test_what_pip_cannot_install_either_is_an_error(install, machine):
    machine.bad = "package"
    assert install.main(["package"]) == 1
