"""Telling systemd how the daemon is (sd_notify): a datagram to a socket, and nothing where there is no systemd."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LONGEST = 1000
"""Characters of a status: systemd ignores a whole datagram above 4096 bytes, its READY=1 included."""
PATIENCE_S = 1.0
"""How long a supervisor that is busy itself is waited for, so that a READY=1 is not lost."""
ASK_AGAIN_S = 10.0
MORE_TIME_S = 60.0
"""How much longer than until the next asking a start may take, each time more time is asked for."""
MOST_TIMES = 180
"""Half an hour: what takes longer to start hangs, and may as well be started again."""


def ready(status: str) -> None:
    """What was to be there is there: at the end of the start, and of each reload."""
    _send("READY=1", _status(status))


def reloading() -> None:
    """A reload begins; it must be followed by `ready`, whatever comes of it. systemd 253 asks for the time, too."""
    _send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    _send("STOPPING=1")


def alive(status: str | None = None) -> bool:
    """Feed the watchdog, and tell a status if it changed. False if that was not taken: it is not waited for."""
    return _send("WATCHDOG=1", *([] if status is None else [_status(status)]), patience_s=0)


def tell(status: str) -> None:
    """What `systemctl status` shows, also once the process has ended."""
    _send(_status(status))


@asynccontextmanager
async def starting(doing: str) -> AsyncIterator[None]:
    """Until the block ends, the supervisor is asked again and again not to lose patience (half an hour at most)."""
    _more_time(doing)
    asking = asyncio.create_task(_ask_for_time(doing), name="ask for time")
    try:
        yield
    finally:
        asking.cancel()


async def _ask_for_time(doing: str) -> None:
    for _ in range(MOST_TIMES):
        await asyncio.sleep(ASK_AGAIN_S)
        _more_time(doing)


def _more_time(doing: str) -> None:
    _send(f"EXTEND_TIMEOUT_USEC={int((ASK_AGAIN_S + MORE_TIME_S) * 1_000_000)}", _status(doing))


def _status(text: str) -> str:
    """One line, whatever was in the text: another one would be another assignment."""
    told = " ".join("; ".join(text.splitlines()).encode(errors="replace").decode().split())
    return f"STATUS={told if len(told) <= LONGEST else told[: LONGEST - 1] + '…'}"


def _send(*assignments: str, patience_s: float = PATIENCE_S) -> bool:
    """Whether it was taken, where there is somebody to take it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(patience_s)
        abstract = "\0" + address[1:] if address.startswith("@") else address
        try:
            channel.sendto("\n".join(assignments).encode(), abstract)
        except OSError:
            return False  # A supervisor that does not listen is no reason to stop watching.
    return True
