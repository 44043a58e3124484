"""The key that links in alerts are signed with: made once, the same for all that share a store.

It is a key of its own and opens nothing else. A backup has it and a moved store too, or links that were sent would be
good for nothing afterwards.
"""

from __future__ import annotations

import secrets

from vmwatch.ledger.engine import Engine, Transaction
from vmwatch.ledger.notes import NOTE

LINKS = "links"
BYTES = 32
KEEP_KEY = "INSERT INTO meta (key, value) VALUES ('links', :value) ON CONFLICT (key) DO NOTHING"


class Keys:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def made(self) -> bytes:
        """The key, made if there is none yet. Raises LedgerError."""
        return await self.known() or await self._engine.write(_make)

    async def known(self) -> bytes:
        """The key; empty as long as no link was ever made. Raises LedgerError."""
        rows = await self._engine.read(NOTE, key=LINKS)
        return bytes.fromhex(rows[0][0]) if rows else b""


async def _make(transaction: Transaction) -> bytes:
    """Two processes may be at it: what the first one wrote is what both have."""
    await transaction.run(KEEP_KEY, value=secrets.token_hex(BYTES))
    return bytes.fromhex(await link_key(transaction))


async def link_key(transaction: Transaction) -> str:
    """As it is written; empty where there is none."""
    rows = await transaction.all(NOTE, key=LINKS)
    return str(rows[0][0]) if rows else ""
