"""Prints every path that can be written from here, as whoever this is; a writable folder stands for what is in it.

Sockets are left out: to talk to one is not to write, and RestrictAddressFamilies is what bounds that.
"""

import os
import stat

SKIPPED = ("/proc/self", "/proc/thread-self", f"/proc/{os.getpid()}")


def walk(top: str) -> None:
    if top in SKIPPED:
        return
    if os.access(top, os.W_OK):
        print(top)
        return
    try:
        entries = sorted(os.scandir(top), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        look(entry)


def look(entry: "os.DirEntry[str]") -> None:
    if entry.is_symlink():
        return
    try:
        kind = entry.stat(follow_symlinks=False).st_mode
    except OSError:
        return
    if stat.S_ISDIR(kind):
        walk(entry.path)
    elif stat.S_ISREG(kind) and os.access(entry.path, os.W_OK):
        print(entry.path)


walk("/")
