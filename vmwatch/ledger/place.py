"""The files of an embedded ledger: made private, held by one daemon, copied aside, put in place of each other."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, and would apply to whatever file then has its name."""


def exists(path: Path) -> bool:
    return path.exists()


def real(path: Path) -> Path:
    """What a link leads to: SQLite names its -wal and -shm after that."""
    return Path(os.path.realpath(path))


def make_private(path: Path, *, create: bool) -> None:
    """SQLite gives its -wal and -shm files the mode of the database, so this one file decides for all three."""
    os.close(_opened(path) if create else os.open(path, os.O_RDWR | os.O_CLOEXEC))


def lock_of(path: Path) -> Path:
    """A file of its own: closing any descriptor of the database itself would drop SQLite's own locks on it."""
    return path.with_name(path.name + ".lock")


def try_lock(lock: Path) -> int | None:
    """Hold the lock until its descriptor, which is returned, is closed; None while another process holds it."""
    descriptor = _opened(lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(lock: Path) -> bool:
    """Whether some process holds it. The file is not made here: there is nobody yet who would use it."""
    if not lock.exists():
        return False
    held = try_lock(lock)
    if held is None:
        return True
    os.close(held)
    return False


def _opened(path: Path) -> int:
    """A file of mode 0600, made if need be."""
    flags = os.O_RDWR | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    descriptor = os.open(path, flags | os.O_CREAT, 0o600)
    _give_to_owner_of(path.parent, descriptor)
    return descriptor


def _give_to_owner_of(folder: Path, descriptor: int) -> None:
    """What root makes in a daemon's folder is the daemon's: a file of root's would keep it out of its own store."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """An empty file of mode 0600 that takes the name `target` at the end, on disk by then; on failure nothing stays.

    Nothing that has the name already is replaced. Raises FileExistsError and other OSErrors.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    part = target.with_name(f"{target.name}.part-{secrets.token_hex(4)}")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield part
        flush(part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        raise
    flush(target.parent)


def put_in_place(fresh: Path, path: Path, aside: Path) -> bool:
    """Have `path` be `fresh`, in one step; what it was until then is kept as `aside`. Returns whether there was any.

    `fresh` is one whole file. What lies beside the old one goes with it, or SQLite would apply it to the new one.
    """
    flush(fresh)
    replaced = path.exists()
    if replaced:
        os.link(path, aside)
    for end in _BESIDE:
        with suppress(FileNotFoundError):
            _beside(path, end).rename(_beside(aside, end))
    fresh.replace(path)
    flush(path.parent)
    return replaced


def remove(path: Path) -> None:
    """A database that is no longer wanted, with all that lies beside it."""
    for end in ("", *_BESIDE):
        _beside(path, end).unlink(missing_ok=True)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def flush(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
