"""Start a notebook's kernel without a network: `python -m labkit.course.no_network ipykernel_launcher -f FILE`.

On Linux the kernel of the operating system refuses internet sockets to this process and to all that it starts (a
seccomp filter, which nothing can take off again and which needs no rights). Elsewhere Python's own sockets are refused,
and other programs are sent to a proxy that is not there: that stops what a student writes by habit, not somebody who
wants to get out.
"""

import ctypes
import errno
import os
import platform
import runpy
import socket
import struct
import sys
from typing import NoReturn

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there
# For each machine: AUDIT_ARCH of <linux/audit.h>, and the numbers of the calls `socket` and `io_uring_setup`
MACHINES = {"x86_64": (0xC000003E, 41, 425), "aarch64": (0xC00000B7, 198, 425)}
X32_CALLS = 0x40000000  # x86-64: the same calls under other numbers begin here

# Codes of a filter's instructions, <linux/filter.h>
LOAD = 0x20
IF_EQUAL = 0x15
IF_AT_LEAST = 0x35
RETURN = 0x06
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EACCES
# Where a call's facts stand in struct seccomp_data
NUMBER = 0
ARCHITECTURE = 4
FIRST_ARGUMENT = 16
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
MODE_FILTER = 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_network() -> str:
    """Cut this process off, and return how: "by the system" or "in Python"."""
    if sys.platform == "linux" and _filtered():
        return "by the system"
    _refuse_in_python()
    return "in Python"


def _filtered() -> bool:
    """Whether the system took the filter."""
    known = MACHINES.get(platform.machine())
    if known is None or sys.maxsize < 2**32:
        return False
    code = _filter(*known)
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0


def _filter(architecture: int, socket_call: int, io_uring_call: int) -> bytes:
    """Refuse `socket` of IPv4, IPv6 and packets, io_uring (it opens sockets, too), and calls of other architectures."""
    refused = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_PACKET", 17))
    steps = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, NUMBER),
        (IF_AT_LEAST, 0, 1, X32_CALLS),
        (RETURN, 0, 0, REFUSE),
        (IF_EQUAL, 0, 1, io_uring_call),
        (RETURN, 0, 0, REFUSE),
        (IF_EQUAL, 1, 0, socket_call),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, FIRST_ARGUMENT),
    ]
    for family in refused:
        steps.append((IF_EQUAL, 0, 1, int(family)))
        steps.append((RETURN, 0, 0, REFUSE))
    steps.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _refuse_in_python() -> None:
    """Of this process: internet sockets; of those that it starts: the way over a proxy."""

    class Refused(socket.socket):
        """A socket that reaches this machine only."""

        def connect(self, address: object) -> None:  # type: ignore[override]
            _check(self, address)
            super().connect(address)  # type: ignore[arg-type]

        def connect_ex(self, address: object) -> int:  # type: ignore[override]
            _check(self, address)
            return super().connect_ex(address)  # type: ignore[arg-type]

        def sendto(self, *arguments: object) -> int:  # type: ignore[override]
            _check(self, arguments[-1])
            return super().sendto(*arguments)  # type: ignore[call-overload]

    socket.socket = Refused  # type: ignore[misc]
    socket.getaddrinfo = _no_names  # type: ignore[assignment]
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ[name] = os.environ[name.upper()] = NOWHERE


def _check(used: socket.socket, address: object) -> None:
    is_internet = used.family in (socket.AF_INET, socket.AF_INET6)
    host = address[0] if isinstance(address, tuple) else ""
    if is_internet and host not in ("127.0.0.1", "::1"):
        raise PermissionError(errno.EACCES, "no network while a notebook is graded")


def _no_names(*arguments: object, **options: object) -> NoReturn:
    raise socket.gaierror(socket.EAI_AGAIN, "no network while a notebook is graded")


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    refuse_network()
    module, *rest = sys.argv[1:]
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
