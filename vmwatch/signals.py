"""The signals that stop the process, or have it read its configuration again, and who listens to them when.

Between `hold` and `heard` they wait: half a start-up is no state to be stopped in, and the system's own answer
to each of them would be to end the process as if it had failed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

STOP = (signal.SIGTERM, signal.SIGINT)
RELOAD = signal.SIGHUP


def hold() -> None:
    """From here on they wait for `heard`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP, RELOAD))


@contextmanager
def heard(acts: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Call these from the loop when their signals come. Those that waited come at once, later ones wait again."""
    import asyncio  # `hold` must not wait for this to be read: until then a signal ends the process

    loop = asyncio.get_running_loop()
    for number, act in acts.items():
        loop.add_signal_handler(number, act)
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, acts)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in acts:
            loop.remove_signal_handler(number)
