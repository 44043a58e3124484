"""Lines that are not read although nothing is wrong with them: what no other alert would tell.

By the clock that stands still while the computer sleeps: a night's sleep makes no line stale.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from vmwatch import decide
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import FOREVER, SECOND, Alert, Instant, Kind, LineState, Recipient, Standing
from vmwatch.settings import Settings
from vmwatch.tally import Tally

log = logging.getLogger(__name__)

INTERVALS = 3
"""How many intervals a line may go unread."""
UNREAD = 2
"""How many until it is watched. Lines that are well are polled within one, and noted within the next."""
LOOK_S = 10.0
LATE_S = 5.0
"""A look that is later than this begins anew: rounds did not complete meanwhile, which is told elsewhere."""


class Staleness:
    def __init__(self, ledger: Ledger, clock: Clock, tally: Tally, now: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tally = tally
        self._now = now
        self._looked: float | None = None
        self._followed = clock.followed
        self._begin_anew()
        self._stale: dict[str, Standing] = {}

    @property
    def stale(self) -> tuple[str, ...]:
        """The names of the lines that are stale."""
        return tuple(line.name for line in self._stale.values())

    def use(self, settings: Settings) -> None:
        self._settings = settings
        self._shortest = min(map(settings.interval_of, settings.lines), default=FOREVER)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._began = self._now()
        self._watched: dict[str, float] = {}

    async def after_round(self) -> None:
        """Look, if that was not done just now, and owe what there is to tell. Raises LedgerError."""
        if self._looked is not None and self._now() - self._looked < LOOK_S:
            return
        if self._stood_still() or self._clock.followed != self._followed:
            self._begin_anew()
        self._looked, self._followed = self._now(), self._clock.followed
        if not await self._ledger.processes.is_first():  # Each would tell the same.
            self._stale = {}
            self._begin_anew()
            return
        now, within = self._clock.now(), UNREAD * self._shortest
        lines = await self._ledger.lines.unread(now - within, now + within)
        well = await self._well([line for line in lines if self._is_unread(line, now)], now)
        self._watched = {number: self._watched.get(number, self._now()) for number in well}
        await self._tell({number: line for number, line in well.items() if self._is_stale(line)}, now)

    def _stood_still(self) -> bool:
        return self._looked is not None and self._now() - self._looked > LOOK_S + LATE_S

    async def _well(self, lines: Sequence[Standing], now: Instant) -> dict[str, Standing]:
        """Those that are shown as well, by number: a line in trouble has alerts of its own."""
        if not lines:
            return {}
        operator = await self._ledger.lines.operator()
        shown = [decide.shown(line, operator, now) for line in lines]
        return {line.number: line for line in shown if line.state is LineState.OK}

    def _is_unread(self, line: Standing, now: Instant) -> bool:
        if line.name not in self._settings.lines:
            return False
        # A reading far ahead was before the clock was set back.
        ago = min((abs(now - at) for at in self._read_at(line)), default=FOREVER)
        return ago > UNREAD * self._settings.interval_of(line.name)

    def _is_stale(self, line: Standing) -> bool:
        """Whether that lasts; what was paused or blocked until now, and what is looked at since now, has its time."""
        interval_s = self._settings.interval_of(line.name) / SECOND
        watched_s, looking_s = self._now() - self._watched[line.number], self._now() - self._began
        return watched_s > (INTERVALS - UNREAD) * interval_s and looking_s > INTERVALS * interval_s

    def _read_at(self, line: Standing) -> list[Instant]:
        """The ledger hears of a quiet poll minutes later; the tally knows at once."""
        return [at for at in (line.last_success_at, self._tally.last_read.get(line.number)) if at is not None]

    async def _tell(self, stale: Mapping[str, Standing], now: Instant) -> None:
        """Each once when it begins, and once when the line is read again."""
        before = frozenset(self._stale)
        for number, line in stale.items():
            if number not in self._stale:
                log.error("%s: was not read for %d intervals, though nothing is wrong with it", line.name, INTERVALS)
                await self._owe(line, Kind.LINE_STALE, max(self._read_at(line), default=None))
                self._stale[number] = line
        for number in before - stale.keys():
            found = await self._ledger.lines.standing(number)
            if found is not None and found.name in self._settings.lines and await self._well([found], now):
                await self._owe(found, Kind.LINE_RECOVERED, None)
            del self._stale[number]
        if before != frozenset(self._stale):
            await self._ledger.processes.note_stale(self._stale)

    async def _owe(self, line: Standing, kind: Kind, since: Instant | None) -> None:
        """To those who want to know how vmwatch does, whichever lines they want to hear of."""
        wanting: tuple[Recipient, ...] = self._settings.recipients()
        channels = tuple(one.name for one in wanting if one.wants(Kind.LINE_STALE))
        alert = Alert(kind, channels, subject=self._settings.label_of(line.name), number=line.number, since=since)
        await self._ledger.outbox.owe(alert, self._clock.now())
