"""What is known of a notebook that was run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One executed notebook. `slowest` has (seconds, cell number, first line) of its three slowest cells; memory is the
    peak of its kernel's process (0 where it failed or there is no /proc), download what it added to the caches."""

    notebook: str  # solutions/0_setup.ipynb
    profile: str
    page: str
    seconds: float
    error: str
    slowest: tuple[tuple[float, int, str], ...]
    memory_gib: float
    gpu_gib: float
    download_mb: float
    findings: tuple[str, ...]
