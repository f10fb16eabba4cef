"""A training step on a CPU as data parallelism in threads: each takes some rows through the model and back by itself.

Threads meet once a step then, and not in every product (labkit.machine.threads). No row is padded to the length of a
longer one, and the activations of a few rows are in memory instead of those of all.

Importing this module imports torch.
"""

import math
from collections.abc import Callable, Sequence

import torch

from labkit.machine.device import device_kind
from labkit.machine.processes import n_processes
from labkit.machine.threads import side_by_side
from labkit.models import LanguageModel
from labkit.models.families import route_of
from labkit.training.config import FinetuneConfig
from labkit.training.embeddings import trains_embeddings

Batch = dict[str, torch.Tensor]
LEAST_NUMBERS = 2**15  # hidden numbers of a part: with fewer, Python's own time counts, which threads cannot share
RANDOM = ("drop", "jitter")  # in the names of settings that make a forward pass random …
OTHER_HEADS = ("classifier", "summary")  # … unless they are of a head that no language model has


def works_in_parts(lm: LanguageModel, config: FinetuneConfig, step_type: str) -> bool:
    """Whether rows can be trained each by itself with the same result, and memory for it is there.

    Not where a pass draws random numbers, which all threads would take from one generator; nor where a thread's own
    gradients would be as large as the model, unless that is a stand-in.
    """
    if device_kind(lm.device) != "cpu" or n_processes() > 1 or step_type != "float32":
        return False
    if (config.full_finetune or trains_embeddings(lm, config)) and not lm.stand_in:
        return False
    return route_of(lm.base).by_tree and not config.lora_dropout and not _draws_numbers(lm)


def rows_at_once(lm: LanguageModel, config: FinetuneConfig, step_type: str) -> int:
    """How many rows of a batch are in memory at the same time."""
    if not works_in_parts(lm, config, step_type):
        return config.batch_size
    n_rows = _rows_of_a_part(config.batch_size, config.max_length, lm.hidden_size)
    return min(config.batch_size, n_rows * torch.get_num_threads())


def _draws_numbers(lm: LanguageModel) -> bool:
    for module in lm.base.modules():
        if isinstance(module, torch.nn.Dropout) and module.p > 0:
            return True
    for name, value in vars(lm.base.config).items():
        is_random = any(part in name for part in RANDOM) and not name.startswith(OTHER_HEADS)
        if is_random and isinstance(value, int | float) and value > 0:
            return True
    return False


def parts_of(batch: Batch, width: int) -> list[Batch]:
    """The rows of a batch {name: [B, T]}, longest first, some at a time, each part as long as its longest row.

    `width`: of the model's hidden states. The parts depend on nothing else, so that more threads add up the same sums
    (but for the last bits of what a part or an optimiser computes on several). Two rows or more are two parts or more.
    """
    lengths = batch["attention_mask"].sum(-1)  # [B]
    order = lengths.argsort(descending=True, stable=True).tolist()
    parts = []
    while order:
        longest = int(lengths[order[0]])
        n_rows = _rows_of_a_part(len(lengths), longest, width)
        rows, order = order[:n_rows], order[n_rows:]
        parts.append({name: values[rows, :longest] for name, values in batch.items()})
    return parts


def _rows_of_a_part(n_rows: int, longest: int, width: int) -> int:
    return min(math.ceil(n_rows / 2), math.ceil(LEAST_NUMBERS / (longest * width)))


def add_gradients(
    loss_of: Callable[[Batch], torch.Tensor], parts: Sequence[Batch], parameters: Sequence[torch.nn.Parameter]
) -> torch.Tensor:
    """Add the gradient of the sum of all parts' losses to the parameters' `grad`; returns that sum, a scalar.

    Gradients are added in the order of the parts, whichever is ready first.
    """

    def work(part: Batch) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        loss = loss_of(part)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return loss.detach(), gradients

    losses = []
    for loss, gradients in side_by_side(work, parts):
        losses.append(loss)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            _add(parameter, gradient)
    return torch.stack(losses).sum()


def _add(parameter: torch.nn.Parameter, gradient: torch.Tensor | None) -> None:
    if gradient is None:
        return
    if parameter.grad is None:
        parameter.grad = gradient.clone(memory_format=torch.contiguous_format)  # autograd may have lent it twice
    else:
        parameter.grad.add_(gradient)
