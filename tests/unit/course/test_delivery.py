"""labkit as it is delivered: the wheel outside the repository, and the set-up cell in images like Colab's and Kaggle's.

An image is a virtual environment that finds what is installed here (or, where `make test-floors` was run, Colab's
versions) through a folder of links: pip sees these packages as preinstalled and cannot change them.  No index can be
reached.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import nbformat
import pytest

from labkit.course.release import set_repository

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow
ABSENT = ("sacrebleu", "rapidfuzz")  # of the image, as on Colab: pip has to fetch these
NOT_LINKED = ("labkit", "__editable__", "pip", *ABSENT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what git knows."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("labkit", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "copy" / name) if name == "labkit" else copy(ROOT / name, folder / "copy")
    here = ["--no-deps", "--no-build-isolation"]  # by the setuptools that torch brings: `make install` fetches its own
    run(sys.executable, "-m", "pip", "wheel", "--quiet", *here, "--wheel-dir", folder, folder / "copy")
    (built,) = folder.glob("labkit-*.whl")
    return built


@pytest.fixture(scope="module")
def attached(wheel, tmp_path_factory):
    """What an instructor attaches for a session without a network: the lab's wheel and those that the image lacks."""
    folder = tmp_path_factory.mktemp("input") / "lab-files"
    folder.mkdir()
    shutil.copy(wheel, folder)
    for name in (*ABSENT, "sacremoses"):
        repack(name, folder)
    return folder.parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment with nothing but pip, to be copied; pip is ours, for ensurepip takes as long as a test."""
    home = tmp_path_factory.mktemp("environment") / "image"
    venv.create(home)
    (site,) = home.glob("lib/python*/site-packages")
    pip = Path(metadata.distribution("pip").locate_file("pip"))
    for part in (pip, *pip.parent.glob("pip-*.dist-info")):
        shutil.copytree(part, site / part.name)
    return home


@pytest.fixture
def image(environment, tmp_path):
    """A function that runs code as a new kernel would, in a folder with nothing but the notebook; the image is new."""
    preinstalled, home = tmp_path / "preinstalled" / "site-packages", tmp_path / "image"  # dill looks for this name
    link(preinstalled)
    shutil.copytree(environment, home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "preinstalled.pth").write_text(f"{preinstalled}\n")
    (tmp_path / "content").mkdir()

    def kernel(code, **variables):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAB_", "PYTHON", "PIP_"))}
        nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/", "HF_HUB_OFFLINE": "1"}
        (tmp_path / "content" / "cell.py").write_text(code)
        return run(home / "bin" / "python", "cell.py", cwd=tmp_path / "content", env=kept | nowhere | variables)

    kernel.site, kernel.preinstalled = site, preinstalled
    return kernel


def run(*command, check=True, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def link(folder):
    """Links to everything that is preinstalled, of Colab's versions where they are here."""
    floors = sorted(ROOT.glob(".venv-floors/lib/python*/site-packages/torch"))
    source = (floors[0] if floors else Path(metadata.distribution("torch").locate_file("torch"))).parent
    folder.mkdir(parents=True)
    for entry in source.iterdir():
        if not entry.name.lower().startswith(NOT_LINKED) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)


def fake(folder, name, version):
    """A package that is nothing but its name and version."""
    for old in (*folder.glob(name), *folder.glob(f"{name}-*")):
        old.unlink()  # a link
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (folder / f"{name}-{version}.dist-info").mkdir()
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(about)


def repack(name, folder):
    """An installed package as a wheel; what it needs is in the image."""
    package = metadata.distribution(name)
    tag = re.search(r"^Tag: (\S+)", package.read_text("WHEEL"), re.MULTILINE)[1]
    with zipfile.ZipFile(folder / f"{package.name}-{package.version}-{tag}.whl", "w") as archive:
        for file in package.files:
            if (
                ".." not in file.parts
                and "__pycache__" not in file.parts
                and file.name not in ("INSTALLER", "REQUESTED")
            ):
                text = re.sub(r"\nRequires-Dist: .*", "", file.read_text()) if file.name == "METADATA" else None
                archive.writestr(str(file), text or file.read_binary())


def cell(path=ROOT / "notebooks" / "0_setup.ipynb"):
    """The set-up cell, as students get it where no repository is set; then a line about where things came from."""
    notebook = nbformat.read(path, as_version=4)
    source = next(cell.source for cell in notebook.cells if cell.id == "setup")
    source = re.sub(r'^REPOSITORY = ".*?"', 'REPOSITORY = ""', source, flags=re.MULTILINE)
    report = "{module.__name__: (module.__version__, module.__file__) for module in (torch, numpy)}"
    return f"{source}\nimport json, numpy, torch\nprint('FROM', json.dumps([labkit.__file__, {report}]))\n"


def test_on_a_fork_with_badges_the_delivery_tests_fail(tmp_path):
    """There a workflow writes the fork's address into the set-up cells."""
    source = tmp_path / "0_setup.ipynb"
    shutil.copy(ROOT / "notebooks" / "0_setup.ipynb", source)
    before = cell(source)
    set_repository([source], "someone/lab", "main")
    assert "someone/lab" in source.read_text(encoding="utf-8") and cell(source) == before


def own(site):
    """The packages in the environment itself: what pip has installed there."""
    return {path.name.split("-")[0].lower() for path in site.glob("*.dist-info")} - {"pip", "setuptools"}


@pytest.mark.long
def test_the_cell_installs_from_attached_files_and_leaves_torch_and_numpy(image, attached):
    stamps = {name: (image.preinstalled / name / "__init__.py").stat().st_mtime for name in ("torch", "numpy")}
    first = image(cell(), LAB_ATTACHED=str(attached))
    place, heavy = json.loads(first.stdout.split("FROM ")[1])
    assert place.startswith(str(image.site)) and "READY (stand-in)" in first.stdout
    assert own(image.site) == {"labkit", *ABSENT}
    assert all(path.startswith(str(image.preinstalled)) for _, path in heavy.values())
    assert {name: (image.preinstalled / name / "__init__.py").stat().st_mtime for name in stamps} == stamps
    before = time.time()  # after a restart, and a second time in the same kernel: nothing is installed again
    again = image(f"{cell()}\n{cell()}", LAB_ATTACHED="/nowhere")
    assert again.stdout.count("READY (stand-in)") == 2
    assert not [path for path in image.site.glob("labkit*") if path.stat().st_mtime > before]


@pytest.mark.long
def test_the_cell_says_when_a_restart_is_needed(image, attached):
    """A preinstalled package that is too old, and that the image has imported before the cell runs."""
    fake(image.preinstalled, "sacremoses", "0.0.9")
    first = image(
        f"import sacremoses\ntry:\n    {indented(cell())}\nexcept Exception as error:\n    print(error)",
        LAB_ATTACHED=str(attached),
    )
    assert "BLOCKED" in first.stdout and "restart the kernel and run the first cell again" in first.stdout
    assert "sacremoses" in own(image.site)
    assert "READY (stand-in)" in image(f"import sacremoses\n{cell()}").stdout


def indented(code):
    return code.replace("\n", "\n    ")


def test_attached_data_are_taken_and_a_clone_needs_no_installation(image, tmp_path):
    """Kaggle's inputs: the repository as a folder, MultiWOZ and the model as data."""
    from labkit.corpora.miniwoz import write

    files = tmp_path / "kaggle" / "input"
    write(files / "multiwoz22", sizes={"train": 3, "dev": 2, "test": 2})
    (files / "models" / "pythia-70m" / "1").mkdir(parents=True)
    shutil.copy(ROOT / "labkit/models/weights/mini-pythia-500k/config.json", files / "models/pythia-70m/1")
    shutil.copytree(ROOT / "labkit", files / "lab" / "clone" / "labkit", ignore=shutil.ignore_patterns("weights"))
    shutil.copy(ROOT / "pyproject.toml", files / "lab" / "clone")
    for name in ABSENT:
        fake(image.preinstalled, name, "9.9")
    shown = image(cell(), LAB_ATTACHED=str(files)).stdout
    assert json.loads(shown.split("FROM ")[1])[0].startswith(str(files / "lab" / "clone"))
    assert str(files / "multiwoz22") in shown and str(files / "models" / "pythia-70m" / "1") in shown
    assert shown.startswith("READY\n") and own(image.site) == set()


def test_without_a_network_and_without_files_the_cell_says_so(image):
    source = cell().replace('REPOSITORY = ""', 'REPOSITORY = "git+http://127.0.0.1:9/some/lab@main"')
    with pytest.raises(AssertionError, match=r"pip could not install labkit.*wheels attached"):
        image(source)
    with pytest.raises(AssertionError, match=r"labkit not found: .*LAB_SOURCE"):
        image(cell())


def test_the_wheel_holds_what_runs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for size in ("500k", "2m", "8m"):
        assert f"labkit/models/weights/mini-pythia-{size}/model.safetensors" in names
    shipped = {
        str(path.relative_to(ROOT)) for path in (ROOT / "labkit").rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert shipped <= set(names) and "labkit/corpora/miniwoz/phrases.toml" in shipped
    assert {name.split("/")[0].split("-")[0] for name in names} == {"labkit"}
    assert not [name for name in names if re.search(r"test|solution|\.ipynb|__pycache__", name)]


@pytest.mark.long
def test_the_wheel_runs_the_lab_outside_the_repository(image, attached, tmp_path):
    wheels = [str(path) for path in sorted(attached.rglob("*.whl"))]
    commands = [
        ["pip", "install", "--quiet", "--no-index", "--no-deps", *wheels],
        *(["labkit", *line.split()] for line in LINES),
    ]
    code = "import subprocess, sys\nfor line in {!r}:\n    subprocess.run([sys.executable, '-m', *line], check=True)"
    shown = image(code.format(commands), LAB_HOME=str(tmp_path / "out"), LAB_PROFILE="smoke").stdout
    assert shown.startswith("READY (stand-in)") and re.search(r"success", shown, re.IGNORECASE)


LINES = [
    "doctor",
    "finetune --model mini-pythia-500k --corpus miniwoz --max-steps 2 --eval-steps 0 --out adapter",
    "generate --model mini-pythia-500k --adapter adapter --corpus miniwoz --limit 2 --out tuned.json",
    "evaluate tuned.json --corpus miniwoz",
]
