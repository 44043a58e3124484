"""This process among those that share a ledger: it tells what it carries, and notices who comes and goes.

On PostgreSQL it does so in a transaction of its own now and then; SQLite's one daemon writes along with its claims.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from vmwatch import __version__
from vmwatch.errors import LedgerError
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Carried, Ledger
from vmwatch.ledger.processes import EVERY, EVERY_ALONG
from vmwatch.models import Duration
from vmwatch.tally import LastMinute, Tally

log = logging.getLogger(__name__)


class Presence:
    """`changed` is called when this process's configuration must be held against the others' again."""

    def __init__(self, ledger: Ledger, clock: Clock, tally: Tally, changed: Callable[[], Awaitable[None]]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tally = tally
        self._changed = changed
        self._since = clock.now()
        self._last_minute = LastMinute()
        self._written: Duration = clock.steady()
        self._others: frozenset[tuple[str, str]] = frozenset()
        self._passed_over: frozenset[str] = frozenset()
        self._said: tuple[str, ...] = ()
        if not ledger.shared:
            ledger.lines.carried = self._due

    def adopted(self, passed_over: frozenset[str], disagreements: tuple[str, ...]) -> None:
        """What this process's configuration met: said once when it begins, and once when it is over."""
        self._passed_over = passed_over
        for sentence in disagreements:
            if sentence not in self._said:
                log.warning("the configurations differ: %s", sentence)
        if self._said and not disagreements:
            log.info("the configurations no longer differ")
        self._said = disagreements

    async def after_round(self) -> None:
        """Raises LedgerError."""
        self._last_minute.note(self._clock.steady(), *self._sums())
        if self._ledger.shared and (carried := self._due()) is not None:
            await self._clock.go_by(self._ledger.time)
            await self._meet(await self._ledger.processes.sign(carried, self._clock.now()))

    async def leave(self) -> None:
        """This process ends; whoever is not told so sees it by the end of its session."""
        if self._ledger.shared:
            with suppress(LedgerError):
                await self._ledger.processes.leave()

    async def _meet(self, others: frozenset[tuple[str, str]]) -> None:
        if others != self._others or await self._is_refused():
            await self._changed()
            self._others = others

    async def _is_refused(self) -> bool:
        """Whether the operator refused a PIN since that was preferred to this process's."""
        return bool(self._passed_over and self._passed_over & await self._ledger.lines.rejected())

    def _due(self) -> Carried | None:
        """What is to be written, unless that was done just now."""
        if self._clock.steady() - self._written < (EVERY if self._ledger.shared else EVERY_ALONG):
            return None
        self._written = self._clock.steady()
        polls, deliveries = self._last_minute.of(*self._sums())
        return Carried(__version__, self._since + self._clock.followed, polls, deliveries)

    def _sums(self) -> tuple[int, int]:
        return self._tally.claims["poll"], self._tally.claims["delivery"]
