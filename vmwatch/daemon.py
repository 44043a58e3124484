"""The daemon: wiring, signals, life and death, on one page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import tzinfo

from vmwatch import __version__, signals, systemd
from vmwatch.adopt import adopt
from vmwatch.attempt import Attempts, Observer
from vmwatch.channels import Channel
from vmwatch.config import Loaded
from vmwatch.deliver import Deliverer
from vmwatch.errors import ConfigError, LedgerError
from vmwatch.heartbeat import Clock, Heartbeat
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, Decision, LineState, Standing
from vmwatch.poll import Poller
from vmwatch.settings import Operator, Settings
from vmwatch.store_trouble import StoreTrouble
from vmwatch.tasks import group
from vmwatch.telecomx import Telecomx

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long polls and deliveries under way may take to end once the daemon is told to stop."""

Load = Callable[[], Loaded]


class Daemon:
    """Watches the lines of one configuration until told to stop. `load` reads the configuration again (SIGHUP)."""

    def __init__(
        self,
        loaded: Loaded,
        load: Load,
        zone: tzinfo,
        observe: Observer = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._loaded = loaded
        self._load = load
        self._zone = zone
        self._observe_too = observe
        self._clock = clock or Clock()
        self._bell = asyncio.Event()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._chores = asyncio.Event()
        self._clients: dict[Operator, Telecomx] = {}
        self._troubles: dict[str, str] = {}

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or `stop`. Raises LedgerError if the store can't be had."""
        acts = dict.fromkeys(signals.STOP, self._stop.set) | {signals.RELOAD: self._reload.set}
        async with AsyncExitStack() as stack:
            stack.enter_context(signals.heard(acts))
            self._ledger = await Ledger.open(self._loaded.store_url, create=True, role="daemon")
            stack.push_async_callback(self._ledger.close)
            await self._ledger.become_daemon(__version__, self._clock.now())
            self._stack = stack
            await self._straighten_clock()
            async with group() as tasks:
                attempts = Attempts(self._ledger, self._clock, self._observe)
                self._poller = Poller(self._ledger, self._clock, attempts, tasks, self._bell.set)
                self._deliverer = Deliverer(self._ledger, self._clock, tasks, self._zone, self._bell.set)
                self._store = StoreTrouble(self._ledger, self._clock, tasks, self._zone)
                await self._use(self._loaded.settings)
                await self._live(tasks)

    def stop(self) -> None:
        self._stop.set()

    async def _live(self, tasks: asyncio.TaskGroup) -> None:
        """Start the side tasks, wait for the word to stop, and end everything in order.

        A side task that dies takes the daemon with it, loudly: half alive is worse than restarted.
        """
        heartbeat = Heartbeat(self._bell.set, self._chores.set)
        self._bell.set()
        self._chores.set()
        side = [tasks.create_task(loop) for loop in (heartbeat.run(), self._rounds(), self._reloads(), self._tidy())]
        systemd.notify("READY=1", self._status_line())
        log.info("watching %d line(s), alerting %d channel(s)", *self._counts())
        await self._stop.wait()
        log.info("stopping")
        systemd.notify("STOPPING=1")
        for task in side:
            task.cancel()
        await asyncio.gather(*(part.stop(PATIENCE_S) for part in (self._poller, self._deliverer, self._store)))
        await self._flush()

    # ---- the side tasks ----

    async def _rounds(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self._store.after_round(await self._trouble_of_round())
            # A store that takes nothing is waited out: a restart would not mend it.
            systemd.notify("WATCHDOG=1")

    async def _trouble_of_round(self) -> LedgerError | None:
        try:
            await self._round()
        except LedgerError as error:
            return error
        return None

    async def _round(self) -> None:
        await self._follow_clock()
        await self._deliverer.round()
        await self._poller.round()

    async def _follow_clock(self) -> None:
        """The ledger first: as long as that can't be changed, everything goes on by the time it was written by."""
        step = self._clock.step()
        if step:
            await self._ledger.shift(step)
            self._clock.follow(step)
            log.warning("the clock was set by %+.0f s; every wait is kept as long as it was", step / SECOND)

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            systemd.reloading()
            try:
                await self._reread()
            except (ConfigError, LedgerError) as error:
                log.error("the new configuration is refused, the old one stays: %s", error)  # noqa: TRY400
            systemd.notify("READY=1", self._status_line())
            self._bell.set()

    async def _reread(self) -> None:
        loaded = self._load()
        if loaded.store_url != self._loaded.store_url:
            log.warning("store.url was changed: that takes effect when vmwatch is started again")
        await self._use(loaded.settings)
        self._loaded = loaded
        log.info("the configuration was read again: %d line(s), %d channel(s)", *self._counts())

    async def _tidy(self) -> None:
        while True:
            await self._chores.wait()
            self._chores.clear()
            settings, now = self._loaded.settings, self._clock.now()
            try:
                await self._ledger.outbox.expire(now, settings.delivery.retry.give_up_after)
                await self._ledger.messages.prune(now - settings.store.keep)
            except LedgerError:
                log.debug("the chores are left for the next time")  # The ledger keeps the trouble for the next round.

    # ---- what they share ----

    async def _use(self, settings: Settings) -> None:
        """Watch by these settings from now on. Raises LedgerError; the old ones are kept then."""
        await adopt(self._ledger, settings, self._clock.now())
        self._poller.use(settings, await self._client(settings.operator))
        urls = {name: channel.url.get_secret_value() for name, channel in settings.channels.items()}
        channels = {name: Channel(name, url) for name, url in urls.items()}
        self._deliverer.use(settings, channels)
        self._store.use(channels, settings.delivery.timeout)
        self._troubles = {}
        for standing in await self._ledger.lines.standings():
            self._note_trouble(standing)

    async def _client(self, operator: Operator) -> Telecomx:
        """The client for these settings; one that was replaced serves its polls under way until the end."""
        if self._clients.get(operator) is None:
            client = Telecomx(operator.base_url, operator.timeout, operator.concurrency, self._clock.now)
            self._clients[operator] = await self._stack.enter_async_context(client)
        return self._clients[operator]

    async def _straighten_clock(self) -> None:
        """A computer that starts with its clock behind what the ledger has seen would wait for the difference."""
        now = self._clock.now()
        latest = await self._ledger.latest()
        if latest is not None and latest - now > PATIENCE_S * 1000:
            log.warning("the clock is %d s behind the store's last entry; waits are kept", (latest - now) // 1000)
            await self._ledger.shift(now - latest)

    async def _flush(self) -> None:
        try:
            await self._poller.flush()
        except LedgerError as error:
            log.error("%s; the last quiet polls are not noted", error)  # noqa: TRY400 - a sentence

    def _observe(self, decision: Decision) -> None:
        if decision.alerts:
            self._bell.set()
        if decision.before.state is not decision.after.state:
            self._note_trouble(decision.after)
            systemd.notify(self._status_line())
        self._observe_too(decision)

    def _note_trouble(self, standing: Standing) -> None:
        if standing.state in (LineState.OK, LineState.WAITING):
            self._troubles.pop(standing.number, None)
        else:
            self._troubles[standing.number] = f"; {standing.name}: {standing.reason}"

    def _counts(self) -> tuple[int, int]:
        return len(self._loaded.settings.lines), len(self._loaded.settings.channels)

    def _status_line(self) -> str:
        """What `systemctl status` shows: `2 of 3 lines ok; home: pin_rejected`."""
        lines = len(self._loaded.settings.lines)
        return f"STATUS={lines - len(self._troubles)} of {lines} lines ok{''.join(self._troubles.values())}"
