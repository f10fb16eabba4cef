"""Numbers that a model computed, checked before a token or a vector is made of them."""

from typing import TYPE_CHECKING

from labkit.errors import LabError

if TYPE_CHECKING:
    from torch import Tensor

    from labkit.models.language_model import LanguageModel

ADVICE = {  # number type -> what to try
    "float16": "float16 ends at 65,504: load the model with bits=32, or with bits=16 where there is bfloat16",
    "bfloat16": "load the model with bits=32; if that does not help, its weights are damaged: load another",
    "float32": "the weights are damaged, or a training diverged: load the model anew, or train with a lower rate",
}


def check_finite(values: "Tensor", lm: "LanguageModel", what: str = "scores of the next token") -> None:
    """Raise if a row of `values` [..., N] holds NaN or +inf, or nothing but -inf.

    The maximum of a row shows all three: it is NaN where one value is NaN. A single -inf is allowed, since it says
    "never this token".

    Raises:
        LabError: it names the number type that the model computes in, and what to try.
    """
    import torch

    highest = values.detach().amax(dim=-1)  # [...]
    if bool(torch.isfinite(highest).all()):
        return
    number_type = str(lm.base.dtype).removeprefix("torch.")
    found = f"its {what} hold NaN or infinity, computed in {number_type}"
    raise LabError(f"{lm.name} computes numbers that are not finite", found, ADVICE.get(number_type, ADVICE["float32"]))
