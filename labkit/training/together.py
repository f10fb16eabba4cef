"""Decisions that all processes of one run take together: one that stops alone leaves the others waiting for ever."""

from labkit.machine.processes import n_processes


def any_of_us(answer: bool) -> bool:
    """Whether any process says yes. All of them must ask, and all get the same answer."""
    if n_processes() == 1 or not _are_connected():
        return answer
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather

    said = torch.tensor([int(answer)], device=PartialState().device)
    return bool(gather(said).max())


def first_says(answer: bool) -> bool:
    """What the first process says, in all of them, once it has come so far."""
    if n_processes() == 1:
        return answer
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    _connect()
    said = [answer if PartialState().is_main_process else None]
    broadcast_object_list(said)
    return bool(said[0])


def _are_connected() -> bool:
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _connect() -> None:
    """Meet the other processes, over the GPUs where there are any."""
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
