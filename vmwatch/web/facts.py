"""What there is to tell, read from the ledger and from what the daemon counts; the JSON is the command line's own."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo

from vmwatch import __version__, shapes
from vmwatch.book import EMPTY, Book
from vmwatch.errors import LedgerError
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, Duration, LineState, Standing
from vmwatch.tally import Tally
from vmwatch.tasks import in_turns
from vmwatch.web import exposition
from vmwatch.web.asked import JSON, Answer, as_json, json_pieces
from vmwatch.web.openapi import document
from vmwatch.web.query import NotThereError, Wanted
from vmwatch.web.sight import Concerns

STILL: Duration = 30 * SECOND
"""Rounds come once a second or sooner, and wait five seconds at most for another process that holds the store."""

HEALTH = "/healthz"

Tell = Callable[[Ledger, Wanted], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Facts:
    """`trouble` is what keeps the daemon's own ledger from being written; each method raises LedgerError."""

    url: str
    """The store's."""
    clock: Clock
    tally: Tally
    trouble: Callable[[], LedgerError | None]
    concerns: Callable[[], Concerns] = Concerns
    zone: tzinfo = UTC
    """In which people read times."""
    book: Callable[[], Book] = lambda: EMPTY

    def by_path(self) -> Mapping[str, Tell]:
        return {
            "/api/status": self.status,
            "/api/messages": self.messages,
            "/api/outbox": self.outbox,
            "/api/openapi.json": self.openapi,
            "/metrics": self.metrics,
            HEALTH: self.health,
            "/readyz": self.readiness,
        }

    async def health(self, ledger: Ledger, wanted: Wanted) -> Answer:
        return as_json({"healthy": True, "reason": "the process lives"})

    async def readiness(self, ledger: Ledger, wanted: Wanted) -> Answer:
        checks = {
            "rounds": self._standstill(),
            "ledger": str(self.trouble() or "") or None,
            "lines": _unread(await shapes.lines_shown(ledger, self.clock.now())),
        }
        reason = next(filter(None, checks.values()), "rounds complete, the store is written, and a line is read")
        ready = not any(checks.values())
        return as_json({"ready": ready, "reason": reason, "checks": checks}, 200 if ready else 503)

    def _standstill(self) -> str | None:
        at = self.tally.last_round_at
        if at is None:
            return "no round was completed yet"
        idle = self.clock.now() - at
        return f"no round was completed for {idle // SECOND} s" if idle > STILL else None

    async def status(self, ledger: Ledger, wanted: Wanted) -> Answer:
        shape = await shapes.status(await shapes.seen(ledger, self.clock.now()))
        return Answer(200, JSON, "".join(await in_turns(json_pieces(shape))).encode())

    async def messages(self, ledger: Ledger, wanted: Wanted) -> Answer:
        number = await _number(ledger, wanted.line) if wanted.line is not None else None
        views = await ledger.messages.listing(number, new_only=wanted.new, most=wanted.limit)
        return as_json([shapes.message(view, self.book()) for view in views])

    async def outbox(self, ledger: Ledger, wanted: Wanted) -> Answer:
        owed = await ledger.outbox.listing(everything=wanted.all, most=wanted.limit)
        return as_json([shapes.delivery(delivery) for delivery in owed])

    async def openapi(self, ledger: Ledger, wanted: Wanted) -> Answer:
        return as_json(document(__version__))

    async def metrics(self, ledger: Ledger, wanted: Wanted) -> Answer:
        now, form = self.clock.now(), exposition.OPENMETRICS if wanted.openmetrics else exposition.PLAIN
        families = exposition.families(
            self.tally,
            await shapes.lines_shown(ledger, now),
            await ledger.outbox.channels(),
            await ledger.outbox.oldest_pending(),
            now,
            {"version": __version__, "python": ".".join(map(str, sys.version_info[:3]))},
        )
        return Answer(200, form.content_type, "".join(await in_turns(exposition.text(families, form))).encode())


def _unread(lines: tuple[Standing, ...]) -> str | None:
    if any(line.state is LineState.OK for line in lines):
        return None
    states = ", ".join(f"{line.name}: {line.state}" for line in lines[:3])
    return f"no line is read ({states}{', …' if len(lines) > 3 else ''}); look: vmwatch status"


async def _number(ledger: Ledger, wanted: str) -> str:
    """The number of the line of that name or number. Raises NotThereError."""
    for standing in await ledger.lines.standings():
        if wanted in (standing.name, standing.number):
            return standing.number
    raise NotThereError("line: there is no such line; /api/status has their names")
