"""Moving a ledger from one engine to another: everything or nothing, with every id, verified before it is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from vmwatch.errors import LedgerError
from vmwatch.ledger import engine_of
from vmwatch.ledger.engine import Engine, Row, Transaction
from vmwatch.ledger.migrations import NUMBERED, TABLES, migrate

# Read as at one moment: SQLite's whole transaction is that anyway.
_AT_ONE_MOMENT = "/*+ SET TRANSACTION ISOLATION LEVEL REPEATABLE READ */"
# What is written by the target's own counter later must not have a number that was moved.
_COUNT_ON = """
/*+ SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT MAX(id) FROM {table}))
    WHERE EXISTS (SELECT 1 FROM {table}) */
"""


@dataclass(frozen=True, slots=True)
class Moved:
    rows: Mapping[str, int]
    """How many, by table."""


async def move(source_url: str, target_url: str) -> Moved:
    """Copy a ledger that no daemon runs on into one that is empty; the source stays as it is.

    Raises LedgerError; the target is empty then.
    """
    source = await engine_of(source_url, create=False)
    try:
        await refuse_daemon(source)
        target = await engine_of(target_url, create=True)
        try:
            return await copy(source, target)
        finally:
            await target.close()
    finally:
        await source.close()


async def refuse_daemon(engine: Engine) -> None:
    """Raises LedgerError if a daemon runs on the store."""
    if await engine.daemon_runs():
        raise LedgerError(f"{engine.place}: a vmwatch daemon runs on this store; stop it first")


async def copy(source: Engine, target: Engine, *, over: bool = False) -> Moved:
    """Have the target be as the source is at one moment; `over`: in place of what it has. Raises LedgerError."""

    async def give(read: Transaction) -> Moved:
        await read.run(_AT_ONE_MOMENT)
        await migrate(read)

        async def take(write: Transaction) -> Moved:
            await migrate(write)
            await (_drop_content(write) if over else _refuse_content(write, target))
            return Moved({table: await _copy_table(table, read, write) for table in TABLES})

        return await target.hold(take)

    return await source.hold(give)


async def _refuse_content(transaction: Transaction, engine: Engine) -> None:
    for table in TABLES:
        if await transaction.all(f"SELECT 1 FROM {table} LIMIT 1"):
            raise LedgerError(f"{engine.place}: the store is not empty; nothing was moved: name one that is")


async def _drop_content(transaction: Transaction) -> None:
    for table in TABLES:
        await transaction.run(f"DELETE FROM {table}")


async def _copy_table(table: str, read: Transaction, write: Transaction) -> int:
    names, key = TABLES[table]
    everything = f"SELECT {', '.join(names)} FROM {table} ORDER BY {key}"
    rows = await read.all(everything)
    insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
    await write.many(insert, [dict(zip(names, row, strict=True)) for row in rows])
    if table in NUMBERED:
        await write.run(_COUNT_ON.format(table=table))
    if _digest(await write.all(everything)) != _digest(rows):
        raise LedgerError(f"the moved table {table} differs from what it was made of; nothing was moved")
    return len(rows)


def _digest(rows: list[Row]) -> str:
    return hashlib.sha256(json.dumps([list(row) for row in rows]).encode()).hexdigest()
