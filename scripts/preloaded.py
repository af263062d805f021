"""Runs of train.py that need not import anything: processes forked from one that has done so.

    python preloaded.py SOCKET                           waits for runs, with the imports behind it
    python preloaded.py SOCKET train.py ARGUMENT ...     asks it for one, and ends with its exit status

Importing PyTorch, torchvision and open_clip takes seconds of processor time, and a run of the embedded model not many
more. pool.sh starts the first, and the launchers it runs call the second. A run gets the caller's terminal, folder,
environment and signals, so nothing tells it from `python train.py ARGUMENT ...`, which is what the second becomes when
nobody waits at SOCKET.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path

STARTED = b"+"
SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def ask(address, arguments):
    """Exit status of `python ARGUMENT ...`, run by whoever waits at `address`, or in this process's place."""
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    try:
        server = socket.socket(socket.AF_UNIX)
        server.connect(address)
        socket.send_fds(server, [json.dumps(asked).encode() + b"\n"], [0, 1, 2])
        started = server.recv(1) == STARTED
    except OSError:
        started = False
    if not started:
        os.execv(sys.executable, [sys.executable, *arguments])
    # Python's own handlers run between two of its instructions: of a signal that comes just before a system call they
    # would hear when that returns. A number written to a socket is not missed.
    arrived, numbers = socket.socketpair()
    numbers.setblocking(False)
    signal.set_wakeup_fd(numbers.fileno())
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as of nohup
            signal.signal(number, lambda number, _frame: None)
    status = b""
    while True:
        ready, _, _ = select.select([server, arrived], [], [])
        if arrived in ready:
            with contextlib.suppress(ConnectionError):  # it has ended by itself
                server.send(arrived.recv(16))
        if server in ready:
            try:
                more = server.recv(16)
            except ConnectionError:
                more = b""
            if not more:
                return int(status or 1)  # nothing: the run was killed together with the one it came from
            status += more


def serve(address):
    """Wait at `address` until the parent process ends; in a run's own process: return what was asked for."""
    waiting, parent = socket.socket(socket.AF_UNIX), os.getppid()
    waiting.bind(address)
    waiting.listen(128)  # callers may come while this one still imports
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking for a GPU must not start CUDA, which survives no fork
    try:
        os.close(os.pidfd_open(os.getpid()))
        for name in ("datasets", "trainers", "dassl.engine"):
            importlib.import_module(name)
    except (AttributeError, OSError, ImportError):
        return None  # an old kernel, or a Python built for one; or a missing package, which train.py names
    gc.freeze()  # or collecting garbage would copy what all of them share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    waiting.settimeout(2)
    while os.getppid() == parent:
        try:
            caller, _ = waiting.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            waiting.close()
            return attend(caller)
        caller.close()
    return None


def attend(caller):
    """Start what `caller` asks for and pass on signals and exit status; in the new process: return what it is."""
    os.setsid()  # the caller passes signals on; those of the terminal, or of its group of processes, would come twice
    text, terminal, _, _ = socket.recv_fds(caller, 1 << 16, 3)
    while not text.endswith(b"\n"):
        more = caller.recv(1 << 16)
        if not more:
            os._exit(1)  # the caller is gone
        text += more
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    caller.send(STARTED)  # before it is true: a caller that hears nothing begins a run itself
    run = os.fork()
    if run == 0:
        caller.close()
        return json.loads(text), terminal
    ended = os.pidfd_open(run)
    while True:
        ready, _, _ = select.select([ended, caller], [], [])
        if ended in ready:
            _, status = os.waitpid(run, 0)
            code = os.waitstatus_to_exitcode(status)
            caller.sendall(str(code if code >= 0 else 128 - code).encode())  # killed: as a shell has it
            os._exit(0)
        try:
            number = caller.recv(1)
        except ConnectionError:
            number = b""
        os.kill(run, number[0] if number else signal.SIGTERM)
        if not number:
            os._exit(0)


def become(asked, terminal):
    """Turn this process into the run."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(terminal):
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=os.isatty(1) or bool(asked["environment"].get("PYTHONUNBUFFERED")))
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["arguments"]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
    job = serve(sys.argv[1])
    if job is not None:
        become(*job)
