"""Lines that are not read although nothing is wrong with them: what no other alert would tell.

By the clock that stands still while the computer sleeps: a night's sleep makes no line stale.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vmwatch import decide
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, Alert, Instant, Kind, LineState, Recipient, Standing
from vmwatch.settings import Settings
from vmwatch.tally import Tally

log = logging.getLogger(__name__)

INTERVALS = 3
"""How many intervals a line may go unread."""
LOOK_S = 10.0
LATE_S = 5.0
"""A look that is later than this begins anew: rounds did not complete meanwhile, which is told elsewhere."""


@dataclass(slots=True)
class _Watched:
    """When a line was last read, and since when, by this process's own clock (s), that has been the last time."""

    read_at: Instant | None
    since: float


class Staleness:
    def __init__(self, ledger: Ledger, clock: Clock, tally: Tally, now: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tally = tally
        self._now = now
        self._looked: float | None = None
        self._watched: dict[str, _Watched] = {}
        self._stale: dict[str, Standing] = {}

    @property
    def stale(self) -> tuple[str, ...]:
        """The names of the lines that are stale."""
        return tuple(line.name for line in self._stale.values())

    def use(self, settings: Settings) -> None:
        self._settings = settings
        self._watched = {}

    async def after_round(self) -> None:
        """Look, if that was not done just now, and owe what there is to tell. Raises LedgerError."""
        waited = self._now() - self._looked if self._looked is not None else LOOK_S
        if waited < LOOK_S:
            return
        if waited > LOOK_S + LATE_S:
            self._watched = {}
        self._looked = self._now()
        if not await self._ledger.processes.is_first():  # Each would tell the same.
            self._watched, self._stale = {}, {}
            return
        operator, now = await self._ledger.lines.operator(), self._clock.now()
        shown = [decide.shown(line, operator, now) for line in await self._ledger.lines.standings()]
        well = {line.number: line for line in shown if line.state is LineState.OK and line.name in self._settings.lines}
        self._watched = {number: self._seen(line) for number, line in well.items()}
        await self._tell({number: line for number, line in well.items() if self._is_stale(line)}, well)

    def _seen(self, line: Standing) -> _Watched:
        """The ledger hears of a quiet poll minutes later; the tally knows at once."""
        read_at = max((at for at in (line.last_success_at, self._tally.last_read.get(line.number)) if at), default=None)
        known = self._watched.get(line.number)
        return known if known is not None and known.read_at == read_at else _Watched(read_at, self._now())

    def _is_stale(self, line: Standing) -> bool:
        interval_s = self._settings.interval_of(line.name) / SECOND
        return self._now() - self._watched[line.number].since > INTERVALS * interval_s

    async def _tell(self, stale: Mapping[str, Standing], well: Mapping[str, Standing]) -> None:
        """Each once when it begins, and once when the line is read again; a line in trouble has alerts of its own."""
        before = frozenset(self._stale)
        for number, line in stale.items():
            if number not in self._stale:
                log.error("%s: was not read for %d intervals, though nothing is wrong with it", line.name, INTERVALS)
                await self._owe(line, Kind.LINE_STALE, self._watched[number].read_at)
                self._stale[number] = line
        for number in [number for number in self._stale if number not in stale]:
            line = self._stale[number]
            if number in well:
                await self._owe(line, Kind.LINE_RECOVERED, None)
            del self._stale[number]
        if before != frozenset(self._stale):
            await self._ledger.processes.note_stale(self._stale)

    async def _owe(self, line: Standing, kind: Kind, since: Instant | None) -> None:
        """To those who want to know how vmwatch does, whichever lines they want to hear of."""
        wanting: tuple[Recipient, ...] = self._settings.recipients()
        channels = tuple(one.name for one in wanting if one.wants(Kind.LINE_STALE))
        alert = Alert(kind, channels, subject=self._settings.label_of(line.name), number=line.number, since=since)
        await self._ledger.outbox.owe(alert, self._clock.now())
