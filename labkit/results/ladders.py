"""The shapes of model families as data: what `plan_memory` needs, without a download."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.storage import shipped

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def ladder(family: str) -> "dict[str, PretrainedConfig]":
    """Configurations of a model family, small to large, {name: configuration}; nothing is downloaded.

    Args:
        family: a table of ladders.toml, whose shapes are those that the models were published with.

    Raises:
        LabError: there is no such family.
    """
    from transformers import AutoConfig

    families: Mapping[str, Mapping[str, Mapping[str, Any]]] = shipped(__file__, "ladders.toml")  # Any: what TOML holds
    if family not in families:
        raise LabError(f"no model family {family!r}", "", f"choose one of {', '.join(families)}")
    return {name: AutoConfig.for_model(**shape) for name, shape in families[family].items()}
