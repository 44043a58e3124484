"""Bringing the ledger in line with a configuration: new lines, changed PINs, lines and channels that went."""

from __future__ import annotations

from collections.abc import Mapping

from vmwatch import decide
from vmwatch.ledger import Ledger
from vmwatch.models import Instant, Standing
from vmwatch.settings import Settings


async def adopt(ledger: Ledger, settings: Settings, now: Instant) -> None:
    """Keep every configured line and channel, with all that was known of them. Raises LedgerError."""
    wanted = decide.wanted(settings, ledger.salt, now)

    def merge(stored: Mapping[str, Standing]) -> Mapping[str, Standing]:
        return {
            line.number: decide.configured(stored.get(line.number), line, now, settings.interval_of(line.name))
            for line in wanted
        }

    await ledger.configure(merge, settings.channels, now)
