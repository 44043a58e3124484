"""Following messages until they are heard: reminders, and others who are told if nobody listens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import tzinfo

from vmwatch import decide, languages
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import MINUTE, Duration, FollowedUp, Unheard
from vmwatch.settings import Settings

log = logging.getLogger(__name__)

PATIENCE: Duration = MINUTE
"""How long what another process may have to do is left to it; each of them looks once a second."""


class Follower:
    """Looks after what was announced and not heard. `ring` is called when there is something to deliver."""

    def __init__(self, ledger: Ledger, clock: Clock, zone: tzinfo, ring: Callable[[], None] = lambda: None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._here = self._zone = zone
        self._ring = ring
        self._settings = Settings()
        self._names: dict[str, str] = {}
        """By number."""

    async def use(self, settings: Settings) -> None:
        """Follow by these settings from now on. Raises LedgerError."""
        self._settings = settings
        self._names = {line.number: name for name, line in settings.lines.items()}
        self._zone = languages.zone_of(settings.alerts.timezone, self._here)
        await self.reckon()

    async def reckon(self) -> None:
        """Have the next round find out what is next: steps or clock may have changed. Raises LedgerError."""
        followed = [line.number for line in self._settings.lines.values() if line.follows]
        await self._ledger.follow_ups.reckon(followed, self._clock.now())

    async def round(self) -> None:
        """Do what is due. Raises LedgerError; what was not written down was not done."""
        due = await self._ledger.follow_ups.lines_due(self._clock.now())
        known = [decide.steps_of(self._settings, self._names[number]) for number in due if number in self._names]
        idle = frozenset(steps.number for steps in known if not steps.are_any)
        left = await self._left(idle) if idle else idle
        for steps in known:
            if steps.are_any or steps.number in left:
                await self._follow(steps)

    async def _left(self, numbers: frozenset[str]) -> frozenset[str]:
        """Of lines that have no steps here, those whose follow-ups no other process looks after."""
        if not self._ledger.shared:
            return numbers
        now = self._clock.now()
        return numbers & await self._ledger.follow_ups.lines_left(now, now - PATIENCE)

    async def _follow(self, steps: decide.Steps) -> None:
        now = self._clock.now()

        def judge(unheard: Sequence[Unheard]) -> FollowedUp:
            return decide.followed_up(unheard, steps, now, self._zone, PATIENCE if self._ledger.shared else 0)

        found = await self._ledger.follow_ups.follow(steps.number, now, judge)
        for alert in found.alerts:
            channels = ", ".join(alert.channels)
            log.info("%s: %s for %d voicemail(s): %s", steps.label, alert.kind, alert.count, channels)
        if found.alerts:
            self._ring()
