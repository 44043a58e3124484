"""Telling systemd how the daemon is (sd_notify): a datagram to a socket, and nothing where there is no systemd."""

from __future__ import annotations

import os
import socket
import time


def notify(*assignments: str) -> None:
    """Send `READY=1`, `STATUS=…` and the like in one datagram. Without $NOTIFY_SOCKET it does nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        abstract = "\0" + address[1:] if address.startswith("@") else address
        try:
            channel.sendto("\n".join(assignments).encode(), abstract)
        except OSError:
            return  # A supervisor that does not listen is no reason to stop watching.


def reloading() -> None:
    """A reload begins; it must be followed by READY=1, whatever comes of it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
