"""Jupyter kernels that are forks of one process, which has imported torch and all else that comes from elsewhere.

    python tests/support/warm_kernels.py COMMAND …    # what Jupyter calls "python3" is such a kernel in COMMAND

To import torch, transformers and plotly takes a kernel eight seconds of a core, and each notebook has a kernel of its
own. Here they are imported once. Each notebook still has its own process, with an empty namespace, and imports labkit
itself. `make test-notebooks` and `make test-hub` give them kernels as a student has. Without os.fork, and on macOS,
whose libraries do not bear it, COMMAND runs with those, too.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

FORKS = hasattr(os, "fork") and sys.platform != "darwin"
NEEDED = (  # by notebooks; one that is not installed is left out
    "ipykernel.kernelapp",
    "torch",
    "torch._dynamo",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "transformers.trainer",
    "peft",
    "datasets",
    "sklearn.cluster",
    "sklearn.manifold",
    "sklearn.linear_model",
    "umap",
    "plotly.express",
    "plotly.graph_objects",
    "plotly.io",
    "ipywidgets",
    "anywidget",
    "nbformat",
    "sacrebleu",
)


@contextmanager
def warm(variables: dict[str, str], needed: Sequence[str] = NEEDED) -> Iterator[dict[str, str]]:
    """The environment of a Jupyter client whose kernels are forks of a process that has these variables."""
    if not FORKS:
        yield variables
        return
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        argv = [sys.executable, "-S", "-E", __file__, "--kernel", f"{folder}/socket", "-f", "{connection_file}"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}), encoding="utf-8")
        with socket.socket(socket.AF_UNIX) as listening:  # before anybody can ask
            listening.bind(f"{folder}/socket")
            listening.listen()
            number = listening.fileno()
            command = [sys.executable, __file__, "--serve", str(number), *needed]
            server = subprocess.Popen(command, env=variables, pass_fds=[number])
        others = variables.get("JUPYTER_PATH")
        try:
            yield variables | {"JUPYTER_PATH": os.pathsep.join([folder, *([others] if others else [])])}
        finally:
            server.terminate()
            server.wait()


# --- the process that is forked ---------------------------------------------------------------------------------------


def serve(listening: socket.socket, needed: Sequence[str]) -> None:
    """Fork a kernel for each one that asks at a Unix socket; who asks while all is imported waits."""
    sys.path.remove(str(Path(__file__).parent))  # not for notebooks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the client, which ends this process
    signal.signal(signal.SIGTERM, _end)
    for name in needed:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection in each kernel copies every object
    while True:
        asker, _ = listening.accept()
        if not os.fork():
            listening.close()
            _watch(asker)
        asker.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _end(signum: int, frame: object) -> None:
    """Wait for the kernels, so that the time they took counts as this process's."""
    with suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def _watch(asker: socket.socket) -> None:
    """Fork the kernel, say its process id to who asked, and its exit status when it has ended."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    text, (stdin, stdout, stderr), _, _ = socket.recv_fds(asker, 1 << 20, 3)
    kernel = os.fork()
    if not kernel:
        for number, handed in enumerate((stdin, stdout, stderr)):
            os.dup2(handed, number)
            os.close(handed)
        _be_a_kernel(asker, **json.loads(text))
        os._exit(0)
    asker.sendall(f"{kernel}\n".encode())
    _, status = os.waitpid(kernel, 0)
    with suppress(OSError):  # who asked may be gone
        asker.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _be_a_kernel(asker: socket.socket, words: list[str], variables: dict[str, str], folder: str) -> None:
    """As `python -m ipykernel_launcher WORD …` in a folder, with an environment."""
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with, args=(asker,), daemon=True).start()
    sys.argv = ["ipykernel_launcher", *words]
    importlib.import_module("ipykernel.kernelapp").launch_new_instance()


def _end_with(asker: socket.socket) -> None:
    """Jupyter kills whom it has started, which is who asked for this kernel."""
    if not asker.recv(1):
        os.kill(os.getpid(), signal.SIGKILL)


# --- what Jupyter starts ----------------------------------------------------------------------------------------------


def stand_for_a_kernel(address: str, words: list[str]) -> int:
    """Ask for a kernel, hand it every signal, and end as it ends; without a parent both end."""
    parent = os.getppid()
    asked = {"words": words, "variables": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
        answers = server.makefile()
        kernel = int(answers.readline())
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda signum, frame: os.kill(kernel, signum))
        while not select.select([server], [], [], 1)[0]:
            if os.getppid() != parent:
                os.kill(kernel, signal.SIGKILL)
        return int(answers.readline() or 1)


def main(words: list[str]) -> int:
    if words[0] == "--serve":
        serve(socket.socket(fileno=int(words[1])), words[2:])
    if words[0] == "--kernel":
        return stand_for_a_kernel(words[1], words[2:])
    with warm(dict(os.environ)) as variables:
        return subprocess.run(words, env=variables).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
