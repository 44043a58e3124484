"""What the page shows, as it is read from the ledger: values only, so that two sights can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from vmwatch import shapes
from vmwatch.book import EMPTY, Book, introduced
from vmwatch.heartbeat import Clock
from vmwatch.ledger import ChannelView, DaemonView, Ledger, MessageView, Owed, Past, Told
from vmwatch.models import DAY, DeliveryState, Instant, Standing
from vmwatch.web.picture import edge

MESSAGES = 25
DELIVERIES = 25
_LOOKED_THROUGH = 200
"""Deliveries among which dead ones are looked for."""


@dataclass(frozen=True, slots=True)
class Concerns:
    """What the daemon knows of itself and no table holds. Sentences, or nothing where all is well."""

    refusal: str = ""
    """Why the configuration in the file is not the one that vmwatch goes by."""
    store: str = ""
    stale: tuple[str, ...] = ()
    """Names of lines."""


@dataclass(frozen=True, slots=True)
class Sight:
    daemon: DaemonView
    lines: tuple[Standing, ...]
    """Those that need somebody first."""
    channels: tuple[ChannelView, ...]
    messages: tuple[MessageView, ...]
    told: Mapping[int, tuple[Told, ...]]
    """Which channels got an alert, by its number."""
    dead: tuple[Owed, ...]
    past: Past
    concerns: Concerns
    disagreements: tuple[str, ...]
    """In what the processes that share the store are configured differently, as sentences."""
    until: Instant
    """Where the pictures end."""


async def see(ledger: Ledger, clock: Clock, concerns: Callable[[], Concerns], book: Book = EMPTY) -> Sight:
    """Raises LedgerError."""
    now = clock.now()
    until = edge(now)
    lines = await shapes.lines_shown(ledger, now)
    views = await ledger.messages.listing(None, new_only=False, most=MESSAGES)
    owed = await ledger.outbox.listing(everything=False, most=_LOOKED_THROUGH)
    return Sight(
        daemon=await ledger.daemon(),
        lines=tuple(sorted(lines, key=lambda line: (line.state not in shapes.IN_TROUBLE, line.label.lower()))),
        channels=await ledger.outbox.channels(),
        messages=tuple(_shown(view, book, now) for view in views),
        told=await ledger.messages.told(MESSAGES),
        dead=tuple(one for one in owed if one.state is DeliveryState.DEAD)[:DELIVERIES],
        past=await ledger.history.since(until - DAY, now),
        concerns=concerns(),
        disagreements=await ledger.processes.disagreements(now),
        until=until,
    )


def _shown(view: MessageView, book: Book, now: Instant) -> MessageView:
    """With the name in one's own book; a snooze that is over is none."""
    snoozed_until = view.snoozed_until if (view.snoozed_until or 0) > now else None
    return replace(view, voicemail=introduced(view.voicemail, book), snoozed_until=snoozed_until)
