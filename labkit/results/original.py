"""The three tables that the 2023 lab asked for."""

from typing import Any

from labkit.decoding.config import FILTERS
from labkit.results.row import SCORES, _short, label


def _belongs(row: dict[str, Any]) -> str:
    return "speed" if row.get("task") == "speed" else "tuned" if row.get("adapter") else "untuned"


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    """Cells of the original's tables that need more than one field."""
    where = f"{row.get('task')}: {row.get('dialogues')} dialogues of {row.get('corpus')} {row.get('split')}"
    metrics = [name for name in SCORES[:3] if row.get(name) is not None]
    near = {name: " [{:.1f}, {:.1f}]".format(*interval) for name, interval in (row.get("intervals") or {}).items()}
    said = [f"{name} {row[name]:.1f}{near.get(name, '')}" for name in metrics]
    said += [f"{name} {value:.4g}" for name, value in list((row.get("richness") or {}).items())[:1]]
    chosen = row.get("decoding") or {}
    names = {name for name, off in FILTERS.items() if chosen.get(name, off) != off} | {"strategy", "max_new_tokens"}
    names |= {{"beam": "num_beams", "contrastive": "penalty_alpha"}.get(chosen.get("strategy"), "strategy")}
    return {"llm": f"{label(row)} ({where})", "params": _short(chosen, names), "metrics": ", ".join(said)}
