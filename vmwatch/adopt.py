"""Bringing the ledger in line with a configuration: new lines, changed PINs, lines and channels that went."""

from __future__ import annotations

from collections.abc import Mapping

from vmwatch import decide
from vmwatch.ledger import Ledger
from vmwatch.models import Instant, Standing
from vmwatch.settings import Settings


async def adopt(ledger: Ledger, settings: Settings, now: Instant, before: Settings | None = None) -> None:
    """Keep every configured line and channel, with all that was known of them. Raises LedgerError.

    `before` is what was configured until now, where that is known: it tells which channels were renamed.
    """
    wanted = decide.wanted(settings, ledger.salt, now)

    def merge(stored: Mapping[str, Standing]) -> Mapping[str, Standing]:
        return {
            line.number: decide.configured(stored.get(line.number), line, now, settings.interval_of(line.name))
            for line in wanted
        }

    await ledger.configure(merge, settings.channels, now, renamed(before, settings))


def renamed(before: Settings | None, after: Settings) -> dict[str, str]:
    """Channels that went, with the name of the new one that has their URL: what they are owed goes there."""
    if before is None:
        return {}
    new = {channel.url: name for name, channel in after.channels.items() if name not in before.channels}
    gone = {name: channel.url for name, channel in before.channels.items() if name not in after.channels}
    return {name: new[url] for name, url in gone.items() if url in new}
