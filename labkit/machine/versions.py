"""Packages: required, pinned, installed and imported."""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.machine.paths import clone_root
from labkit.machine.problem import Problem

if TYPE_CHECKING:
    from packaging.requirements import Requirement

MODULES = {"scikit-learn": "sklearn", "umap-learn": "umap"}  # where the import name is not the package's
ON_THE_CARD = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class Version:
    """A package as it is required, pinned, installed and imported by this process ("" where it is not)."""

    package: str
    required: str
    pinned: str
    installed: str
    imported: str


def versions() -> tuple[Version, ...]:
    """Every package that labkit requires, as pinned, installed and already imported."""
    root = clone_root() or Path(__file__).resolve().parents[2]
    pins = _pins(root)
    return tuple(_version(need, pins) for need in _requirements(root))


def _pins(root: Path) -> dict[str, str]:
    """{package: version} of constraints.txt."""
    lines = re.findall(r"^([\w.-]+)==(\S+)", _text(root / "constraints.txt").lower(), re.MULTILINE)
    return dict(lines)


def _requirements(root: Path) -> list["Requirement"]:
    """What labkit needs without its extras, by its metadata or, where it is only on sys.path, by pyproject.toml."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("labkit") or []
    except importlib.metadata.PackageNotFoundError:
        project = tomllib.loads(_text(root / "pyproject.toml")).get("project", {})
        lines = project.get("dependencies", [])
    return [Requirement(line) for line in lines if "extra ==" not in line]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _installed(package: str) -> str:
    """The version that is installed, "" for none; to parse all that a package says of itself takes milliseconds."""
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
    line = re.search(r"^Version: *(\S+)", found.read_text("METADATA") or "", re.MULTILINE)
    return line[1] if line else found.version


def _version(need: "Requirement", pins: dict[str, str]) -> Version:
    module = sys.modules.get(MODULES.get(need.name, need.name))
    return Version(
        package=need.name,
        required=str(need.specifier),
        pinned=pins.get(need.name.lower(), ""),
        installed=_installed(need.name),
        imported=str(getattr(module, "__version__", "")),
    )


def version_line(packages: tuple[Version, ...]) -> str:
    """The versions as the card has them: three by name, and how many are as pinned, or which are not."""
    shown = [f"{v.package} {v.installed}" for v in packages if v.package in ON_THE_CARD]
    pinned = [v for v in packages if v.pinned]
    moved = [f"{v.package} {v.installed} (pin {v.pinned})" for v in pinned if not _same(v.pinned, v.installed)]
    if moved:
        state = f"not as pinned: {', '.join(moved)}"
    elif pinned:
        state = f"{len(pinned)} of {len(packages)} as pinned"
    else:
        state = "no pins here"
    return f"{', '.join(shown)}; {state}"


def version_problems(packages: tuple[Version, ...]) -> Iterator[Problem]:
    """Packages that are too old or too new, and those that were replaced while they were in use."""
    from packaging.specifiers import SpecifierSet

    for v in packages:
        if not SpecifierSet(v.required).contains(v.installed, prereleases=True):
            action = f"make install, or pip install '{v.package}{v.required}'"
            yield Problem(f"{v.package} {v.installed} is installed, {v.required} is needed", action)
        elif v.imported and not _same(v.imported, v.installed):
            what = f"{v.package} {v.installed} is installed, but {v.imported} is imported"
            yield Problem(what, "restart the kernel and run the first cell again")


def _same(left: str, right: str) -> bool:
    """Whether two versions are the same but for a local part: 2.13.0+cpu is 2.13.0."""
    return left.split("+")[0] == right.split("+")[0]
