"""Backups of the ledger, and what a restored one still knows.

A backup has nothing that tells of a PIN: no tag, and not the salt that tags are made with. So the PINs of a
restored store are untrusted once more, and a line that waited for a person goes on waiting. What the store that
is replaced knows of logins is kept, for it is newer: an old backup must not make vmwatch forget a rejected PIN.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path

from vmwatch import decide, pins
from vmwatch.errors import LedgerError
from vmwatch.ledger import engine_of, moving, path_of, place, prepare
from vmwatch.ledger.engine import Engine, Transaction, UnreadableStoreError
from vmwatch.ledger.keys import KEEP_KEY, link_key
from vmwatch.ledger.lines import replace_line, stored
from vmwatch.ledger.sqlite import SqliteEngine, copy_of, fold, told_of_file
from vmwatch.models import Instant, Standing
from vmwatch.settings import is_shared

_NO_SALT = "DELETE FROM meta WHERE key = 'salt'"
_NO_DAEMON = "DELETE FROM daemon"
# An attempt whose verdict was merely not noted yet (a quiet poll's) is none that was lost.
_NO_TAGS = f"""
UPDATE line SET pin_tag = {pins.UNKNOWN}, spent_tags = '', trusted = 0, asked_at = NULL,
    claimed_until = NULL, claimed_by = NULL,
    attempt_at = CASE WHEN trusted = 1 AND doubts = 0 THEN NULL ELSE attempt_at END
"""
_WITHOUT_SECRETS = (_NO_SALT, _NO_DAEMON, _NO_TAGS)

_MAY_HAVE_ARRIVED = "UPDATE delivery SET maybe_repeat = 1 WHERE state = 'pending'"
_KEEP_SALT = "UPDATE meta SET value = :salt WHERE key = 'salt'"
_OPERATOR = "SELECT id, blocked_until, blocked_since, failures, version FROM operator"
_NO_OPERATOR = "DELETE FROM operator"
_KEEP_OPERATOR = """
INSERT INTO operator (id, blocked_until, blocked_since, failures, version)
VALUES (:id, :blocked_until, :blocked_since, :failures, :version)
"""


@dataclass(frozen=True, slots=True)
class Restored:
    aside: Path | None
    """Where the store that was replaced is kept; None if there was none."""
    forgotten: str | None = None
    """Why nothing could be read of the replaced store, as a sentence."""


@dataclass(frozen=True, slots=True)
class _Logins:
    """What a store knows of logins: its lines, whether the operator blocks this machine, and its keys."""

    salt: bytes
    lines: tuple[Standing, ...]
    operator: tuple[dict[str, object], ...]
    link_key: str
    """What links in alerts are signed with; empty where there is none."""


async def backup(url: str, file: Path) -> None:
    """Copy the store, as it is at one moment, to a new file of SQLite's, whatever the store is. Raises LedgerError."""
    if is_shared(url):
        await _backup_shared(url, file)
        return
    engine = await SqliteEngine.open(path_of(url), create=False)
    try:
        await engine.copy(file, _WITHOUT_SECRETS)
    finally:
        await engine.close()


async def restore(url: str, file: Path, now: Instant) -> Restored:
    """Put a backup in the store's place; until the very end, and on any failure, the store stays as it is.

    Raises LedgerError: a daemon or another command has the store open, or `file` is no backup that can be used.
    """
    if is_shared(url):
        return await _restore_shared(url, file, now)
    path = path_of(url)
    with told_of_file(path.parent):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    with _held(path):
        real = place.real(path)
        fresh = real.with_name(f"{real.name}.restoring-{secrets.token_hex(4)}")
        try:
            await _copy(file, fresh)
            logins, forgotten = await _logins(real)
            await _settle(fresh, logins)
            with told_of_file(real):
                aside = _aside(real, now)
                kept = aside if place.put_in_place(fresh, real, aside) else None
        finally:
            place.remove(fresh)
    return Restored(kept, forgotten)


async def _backup_shared(url: str, file: Path) -> None:
    """By way of a file beside it, out of which the tags are taken; it is gone afterwards."""
    fresh = _beside(file)
    try:
        async with _opened(url) as source, _opened_file(fresh) as copy:
            await moving.copy(source, copy)
            await copy.copy(file, _WITHOUT_SECRETS)
    finally:
        place.remove(fresh)


async def _restore_shared(url: str, file: Path, now: Instant) -> Restored:
    """All rows are replaced in one transaction; a backup of them is made first, beside the one that is put back."""
    fresh = _beside(file)
    try:
        await _copy(file, fresh)
        async with _opened(url, create=True) as store:
            await moving.refuse_daemon(store)
            logins = await store.write(_all_logins)
            aside = _aside(file, now) if logins.lines else None
            if aside is not None:
                await _backup_shared(url, aside)
            await _settle(fresh, logins)
            async with _opened_file(fresh) as settled:
                await moving.copy(settled, store, over=True)
    finally:
        place.remove(fresh)
    return Restored(aside)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.copying-{secrets.token_hex(4)}")


@asynccontextmanager
async def _opened(url: str, *, create: bool = False) -> AsyncIterator[Engine]:
    engine = await engine_of(url, create=create)
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def _opened_file(path: Path) -> AsyncIterator[SqliteEngine]:
    engine = await SqliteEngine.open(path, create=True)
    try:
        yield engine
    finally:
        await engine.close()


async def _copy(file: Path, fresh: Path) -> None:
    """A copy of the backup, brought up to this version. Raises LedgerError."""
    await copy_of(file, fresh)
    engine = await SqliteEngine.open(fresh, create=True)
    try:
        await engine.write(prepare)
    except UnreadableStoreError as error:
        raise LedgerError(f"{file}: {error}") from None
    finally:
        await engine.close()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """No daemon may begin meanwhile."""
    with told_of_file(path):
        lock = place.try_lock(place.lock_of(path))
    if lock is None:
        raise LedgerError(f"{path}: a vmwatch daemon runs on this store; stop it first")
    try:
        yield
    finally:
        os.close(lock)


async def _logins(path: Path) -> tuple[_Logins | None, str | None]:
    """What the store that is to be replaced knows, or why that can't be read. Afterwards it is one whole file."""
    if not place.exists(path):
        return None, None
    try:
        logins = await _read_logins(path)
        await fold(path)
    except UnreadableStoreError as error:
        return None, str(error)
    except LedgerError as error:
        if error.passing:
            raise LedgerError(f"{path}: another vmwatch command uses the store; try again when it has ended") from None
        raise
    return logins, None


async def _read_logins(path: Path) -> _Logins:
    engine = await SqliteEngine.open(path, create=True)
    try:
        return await engine.write(_all_logins)
    finally:
        await engine.close()


async def _all_logins(transaction: Transaction) -> _Logins:
    salt = await prepare(transaction)
    names = ("id", "blocked_until", "blocked_since", "failures", "version")
    rows = await transaction.all(_OPERATOR)
    operator = tuple(dict(zip(names, row, strict=True)) for row in rows)
    return _Logins(salt, await stored(transaction), operator, await link_key(transaction))


async def _settle(fresh: Path, logins: _Logins | None) -> None:
    """Have the copy trust no PIN, and know what is known of logins."""

    async def work(transaction: Transaction) -> None:
        for statement in (_NO_DAEMON, _NO_TAGS, _MAY_HAVE_ARRIVED):
            await transaction.run(statement)
        if logins is not None:
            await _keep_logins(transaction, logins)

    engine = await SqliteEngine.open(fresh, create=True)
    try:
        await engine.write(work)
    finally:
        await engine.close()
    await fold(fresh)


async def _keep_logins(transaction: Transaction, logins: _Logins) -> None:
    kept = {standing.number: standing for standing in await stored(transaction)}
    await transaction.run(_KEEP_SALT, salt=logins.salt.hex())
    if logins.link_key:  # where the backup is of before there was one, links that were sent stay good
        await transaction.run(KEEP_KEY, value=logins.link_key)
    for replaced in logins.lines:
        await replace_line(transaction, decide.restored(kept.get(replaced.number), replaced))
    await transaction.run(_NO_OPERATOR)
    await transaction.many(_KEEP_OPERATOR, logins.operator)


def _aside(path: Path, now: Instant) -> Path:
    """A name that nothing has yet, were it the second restore of this second."""
    when = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{path.name}.before-restore-{when}{again}" for again in chain([""], (f"-{n}" for n in count(2))))
    return next(aside for aside in map(path.with_name, names) if not place.exists(aside))
