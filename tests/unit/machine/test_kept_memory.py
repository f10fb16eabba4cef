"""Memory that training keeps from step to step goes back."""

import ctypes

import pytest

from labkit.machine import kept_memory


def test_memory_is_given_back_after_a_training_that_fails(monkeypatch):
    """Trap: thresholds that stay for the rest of a notebook, whose memory then only grows."""
    calls = []

    class Libc:
        mallopt = staticmethod(lambda name, value: calls.append((name, value)))
        malloc_trim = staticmethod(lambda kept: calls.append("trimmed"))

    monkeypatch.setattr(kept_memory, "_glibc", Libc)
    with pytest.raises(ZeroDivisionError), kept_memory.memory_kept():
        assert len(calls) == 2
        raise ZeroDivisionError
    assert calls[2:] == [(-3, kept_memory.USUAL_MMAP), (-1, kept_memory.USUAL_KEPT), "trimmed"]
    monkeypatch.setattr(kept_memory, "_glibc", lambda: None)
    with kept_memory.memory_kept():
        pass


def test_glibc_is_found_only_where_it_is(monkeypatch):
    assert isinstance(kept_memory._glibc(), ctypes.CDLL | None)
    monkeypatch.setattr(kept_memory.sys, "platform", "darwin")
    assert kept_memory._glibc() is None
