"""Bringing the ledger in line with a configuration: new lines, changed PINs, lines and channels that went."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from vmwatch import decide
from vmwatch.decide.setup import disagreements, setup_of
from vmwatch.ledger import Kept, Ledger, Others
from vmwatch.models import Alert, Instant, LineState, Standing
from vmwatch.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a configuration meets where several processes share the ledger."""

    passed_over: frozenset[str] = frozenset()
    """Numbers that go on with the PIN that another process has, and not with this one's."""
    disagreements: tuple[str, ...] = ()
    """In what the processes that live are configured differently, as sentences."""


async def adopt(ledger: Ledger, settings: Settings, now: Instant, before: Settings | None = None) -> Adopted:
    """Keep every configured line and channel, with all that was known of them. Raises LedgerError.

    `before` is what was configured until now, where that is known: it tells which channels were renamed.
    """
    wanted = decide.wanted(settings, ledger.salt, now)
    setup = setup_of(settings, ledger.salt) if ledger.shared else None

    def merge(stored: Mapping[str, Standing], others: Others) -> Mapping[str, Standing]:
        return {line.number: merged(stored.get(line.number), line, others) for line in wanted}

    def merged(known: Standing | None, line: Standing, others: Others) -> Standing:
        held = known is not None and any(other.has_pin(known.number, known.pin_tag) for _, other in others)
        return decide.configured(known, line, now, settings.interval_of(line.name), held=held)

    def owed(kept: Kept) -> list[Alert]:
        pairs = ((kept.before.get(number), line) for number, line in kept.after.items())
        rules = decide.rules_by_line(settings)
        return [alert for known, line in pairs for alert in decide.stopped(known, line, rules[line.name])]

    kept = await ledger.configure(merge, settings.channels, now, renamed(before, settings), setup, owed)
    _tell_stopped(kept)
    return Adopted(
        passed_over=frozenset(line.number for line in wanted if kept.after[line.number].pin_tag != line.pin_tag),
        disagreements=disagreements([(ledger.processes.name, setup), *kept.others]) if setup is not None else (),
    )


def _tell_stopped(kept: Kept) -> None:
    for number, line in kept.after.items():
        before = kept.before.get(number)
        if before is not None and before.pin_tag != line.pin_tag and line.state is LineState.REJECTED:
            words = "%s: this PIN was tried before, and is not tried again unless you say so: vmwatch resume %s"
            log.warning(words, line.name, line.name, extra={"line": line.name})


def renamed(before: Settings | None, after: Settings) -> dict[str, str]:
    """Channels that went, with the name of the new one that has their URL: what they are owed goes there."""
    if before is None:
        return {}
    new = {channel.url: name for name, channel in after.channels.items() if name not in before.channels}
    gone = {name: channel.url for name, channel in before.channels.items() if name not in after.channels}
    return {name: new[url] for name, url in gone.items() if url in new}
