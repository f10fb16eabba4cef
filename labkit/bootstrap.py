"""The second half of the notebooks' set-up cell, run when labkit is there and what it needs may not be.

Only the standard library is imported: nothing else may be installed yet.
"""

import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = ("torch", "numpy", "nvidia", "triton")  # beginnings of names: replacing one breaks a running Colab or Kaggle


def install_needs(source: str) -> None:
    """Install what labkit needs and this Python does not have; torch, NumPy and CUDA stay as they are.

    Args:
        source: where labkit came from. Beside a wheel there may be wheels of what it needs, where there is no network.

    Raises:
        SystemExit: pip failed; its own last lines say why.
    """
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "keep.txt")
        constraints.write_text("\n".join(_installed()), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *_needs()]
        done = _from_beside(pip, source) or subprocess.run(pip).returncode == 0
    if not done:
        sys.exit("pip could not install labkit; its last lines say why. It needs a network, or wheels attached.")
    importlib.invalidate_caches()


def _from_beside(pip: list[str], source: str) -> bool:
    """Whether the wheels that lie beside labkit's own are enough."""
    if not source.endswith(".whl"):
        return False
    beside = ["--no-index", "--find-links", str(Path(source).parent)]
    return subprocess.run([*pip, *beside], capture_output=True).returncode == 0


def _installed() -> list[str]:
    """The versions that are to stay."""
    found = {}
    for package in importlib.metadata.distributions():
        found[str(package.name)] = package.version
    return [f"{name}=={version}" for name, version in found.items() if name.startswith(KEPT)]


def _needs() -> list[str]:
    """labkit's requirements without its extras."""
    every = importlib.metadata.requires("labkit") or []
    return [need for need in every if "extra ==" not in need]
