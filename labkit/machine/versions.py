"""Packages: required, pinned, installed and imported."""

import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.machine.paths import clone_root
from labkit.machine.problem import Problem

MODULES = {"scikit-learn": "sklearn", "umap-learn": "umap"}  # where the import name is not the package's


@dataclass(frozen=True)
class Version:
    """A package as it is required, pinned, installed and imported by this process ("" where it is not)."""

    package: str
    required: str
    pinned: str
    installed: str
    imported: str


def _version_line(versions: tuple[Version, ...]) -> str:
    pinned = [v for v in versions if v.pinned]
    moved = ", ".join(f"{v.package} {v.installed} (pin {v.pinned})" for v in pinned if not _same(v.pinned, v.installed))
    shown = ", ".join(f"{v.package} {v.installed}" for v in versions if v.package in ("torch", "transformers", "peft"))
    state = f"{len(pinned)} of {len(versions)} as pinned" if pinned else "no pins here"
    return f"{shown}; " + (f"not as pinned: {moved}" if moved else state)


def versions() -> tuple[Version, ...]:
    """Every package that labkit requires, as pinned, installed and already imported."""
    from packaging.requirements import Requirement

    root = clone_root() or Path(__file__).resolve().parents[2]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", _text(root / "constraints.txt").lower(), re.MULTILINE))
    try:
        lines = importlib.metadata.requires("labkit") or []
    except importlib.metadata.PackageNotFoundError:  # a clone that is only on sys.path
        lines = tomllib.loads(_text(root / "pyproject.toml")).get("project", {}).get("dependencies", [])
    needs = [Requirement(line) for line in lines if "extra ==" not in line]
    return tuple(_version(need.name, str(need.specifier), pins.get(need.name.lower(), "")) for need in needs)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _version(name: str, required: str, pinned: str) -> Version:
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        installed = ""
    imported = str(getattr(sys.modules.get(MODULES.get(name, name)), "__version__", ""))
    return Version(name, required, pinned, installed, imported)


def _version_problems(packages: tuple[Version, ...]) -> Iterator[Problem]:
    from packaging.specifiers import SpecifierSet

    for v in packages:
        if not SpecifierSet(v.required).contains(v.installed, prereleases=True):
            action = f"make install, or pip install '{v.package}{v.required}'"
            yield Problem(f"{v.package} {v.installed} is installed, {v.required} is needed", action)
        elif v.imported and not _same(v.imported, v.installed):
            what = f"{v.package} {v.installed} is installed, but {v.imported} is imported"
            yield Problem(what, "restart the kernel and run the first cell again")


def _same(left: str, right: str) -> bool:
    return left.split("+")[0] == right.split("+")[0]  # 2.13.0+cpu is 2.13.0
