"""A store that takes nothing (a full disk, a lock held too long): it is told through every channel, once.

Told directly, for what can't be noted can't be owed either: one attempt a channel, in a task of its own, so that
nothing waits for it. That all is well again is owed through the ledger, as any other alert.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from vmwatch.channels import Channel
from vmwatch.errors import LedgerError
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import MINUTE, SECOND, Alert, Duration, Instant, Kind, Outcome
from vmwatch.voice import Voice

log = logging.getLogger(__name__)

HELD: Duration = MINUTE
"""How long trouble that may pass by itself lasts before it is worth an alert."""
CALM: Duration = 15 * SECOND
"""How long nothing must have failed before it is over: a disk that is all but full takes a little now and then.

Whatever could not be written is tried again more often than this.
"""


class StoreTrouble:
    """Told how each round ended. Every attempt to tell people is a task of `tasks`, whose owner ends them."""

    def __init__(self, ledger: Ledger, clock: Clock, tasks: asyncio.TaskGroup) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tasks = tasks
        self._telling: set[asyncio.Task[None]] = set()
        self._latest: LedgerError | None = None
        self._latest_at: Instant = 0
        self._since: Instant = 0
        self._told = False

    @property
    def trouble(self) -> str:
        """A sentence, or nothing when all is well."""
        return str(self._latest or "")

    def use(self, channels: Mapping[str, Channel], voices: Mapping[str, Voice], timeout: Duration) -> None:
        """Tell it through these channels, each in its voice, with so many ms for each."""
        self._channels = channels
        self._voices = voices
        self._timeout = timeout

    async def after_round(self, error: LedgerError | None) -> None:
        """A round ended with this error, or well. Whatever else was to be written meanwhile, the ledger knows of."""
        try:
            trouble = error or self._ledger.trouble
            if trouble is not None:
                self._met(trouble)
            elif self._latest is not None and self._clock.now() - self._latest_at >= CALM:
                await self._over()
        except LedgerError as again:
            self._met(again)

    async def stop(self, patience_s: float) -> None:
        """Let attempts under way end, then cut off what still hangs."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=patience_s)
        for task in self._telling:
            task.cancel()

    def _met(self, trouble: LedgerError) -> None:
        if trouble is self._latest:
            return
        now = self._clock.now()
        if self._latest is None:
            self._since = now
        if str(trouble) != str(self._latest):
            log.error("%s; nothing is polled until it can be noted", trouble)
        self._latest, self._latest_at = trouble, now
        if not self._told and (not trouble.passing or now - self._since >= HELD):
            self._told = True
            self._tell(trouble)

    async def _over(self) -> None:
        if self._told:
            alert = Alert(Kind.STORE_RECOVERED, tuple(self._channels), since=self._since)
            await self._ledger.outbox.owe(alert, self._clock.now())
        log.warning("the store can be written again")
        self._latest, self._told = None, False

    def _tell(self, trouble: LedgerError) -> None:
        alert = Alert(Kind.STORE_FAILING, tuple(self._channels), detail=str(trouble), since=self._since)
        for name, channel in self._channels.items():
            task = self._tasks.create_task(self._send(channel, alert), name=f"tell {name}")
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _send(self, channel: Channel, alert: Alert) -> None:
        receipt = await channel.send(self._voices[channel.name].says(alert).text, self._timeout)
        level = logging.INFO if receipt.outcome is Outcome.SENT else logging.ERROR
        detail = f" ({receipt.detail})" if receipt.detail else ""
        text = "channel %s: %s %s%s"
        log.log(level, text, channel.name, alert.kind, receipt.outcome, detail, extra={"channel": channel.name})
