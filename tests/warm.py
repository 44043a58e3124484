"""vmwatch as real processes that start at once: forked from one that has read all the modules already.

Reading them is most of what a short verb costs, and these tests start hundreds. Everything else is as with
`python -m vmwatch`: a process of its own, with its own environment, folder, output, signals and exit status.

    process = await start(["status", "--json"], cwd, environment, out, err)     # out, err: file descriptors
    await process.wait(); process.returncode
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_LARGEST = 2**20
_ROOT = Path(__file__).parents[1]


class Process:
    """As much of asyncio.subprocess.Process as the tests use."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._writer = writer
        self._end = asyncio.create_task(self._watch(reader), name=f"wait for {pid}")

    async def wait(self) -> int:
        return await asyncio.shield(self._end)

    def send_signal(self, number: int) -> None:
        """ProcessLookupError where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def _watch(self, reader: asyncio.StreamReader) -> int:
        self.returncode = int(await reader.readline())
        self._writer.close()
        await self._writer.wait_closed()
        return self.returncode


async def start(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], out: int, err: int) -> Process:
    order = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "environment": dict(environment)})
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(_template())
    socket.send_fds(connection, [order.encode() + b"\n"], [out, err])
    reader, writer = await asyncio.open_connection(sock=connection)
    return Process(int(await reader.readline()), reader, writer)


# ---- the process that the others are forked from ----


@cache
def _template() -> str:
    """The address it listens on. It ends with this process, by the end of its standard input."""
    address = f"{tempfile.mkdtemp(prefix='vmwatch-warm-')}/socket"
    environment = os.environ | {"PYTHONWARNINGS": "default::ResourceWarning", "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, __file__, address]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    atexit.register(_over, process, address)
    return address


def _over(process: subprocess.Popen[bytes], address: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait(5)
    os.unlink(address)
    os.rmdir(os.path.dirname(address))


def _serve(address: str) -> None:
    from vmwatch.channels import prepare
    from vmwatch.cli import acting, looking, running  # noqa: F401 - read now, so that no fork has to

    prepare()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                _attend(connection, listener)
            connection.close()


def _attend(connection: socket.socket, listener: socket.socket) -> None:
    """A process beside each vmwatch, that tells its number and, at its end, its status."""
    listener.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    order, descriptors = _read(connection)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become_vmwatch(order, *descriptors)
    connection.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _read(connection: socket.socket) -> tuple[dict[str, object], list[int]]:
    data, descriptors, _, _ = socket.recv_fds(connection, _LARGEST, 2)
    while not data.endswith(b"\n"):
        data += connection.recv(_LARGEST)
    order: dict[str, object] = json.loads(data)
    return order, descriptors


def _become_vmwatch(order: Mapping[str, object], out: int, err: int) -> None:
    import random
    import time

    from vmwatch.cli import main

    for number, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(number, target)
        os.close(number)
    os.chdir(str(order["cwd"]))
    os.environ.clear()
    os.environ.update(order["environment"])  # type: ignore[call-overload]
    time.tzset()
    random.seed()
    if wrapper := os.environ.get("VMWATCH_TEST_WRAPPER"):  # a module of the tests, to change what vmwatch does in it
        importlib.import_module(wrapper).install()
    sys.argv = ["vmwatch", *order["arguments"]]  # type: ignore[misc]
    sys.exit(main())


if __name__ == "__main__":
    _serve(sys.argv[1])
