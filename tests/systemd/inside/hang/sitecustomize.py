"""On SIGUSR1 the event loop hangs, as it would in a library that waits for ever."""

import signal
import threading


def hang(*_: object) -> None:
    threading.Event().wait()


signal.signal(signal.SIGUSR1, hang)
