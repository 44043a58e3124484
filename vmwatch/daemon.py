"""The daemon: wiring, signals, life and death, on one page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import tzinfo

from vmwatch import __version__, languages, signals, systemd
from vmwatch.adopt import adopt, renamed
from vmwatch.attempt import Attempts, Observer
from vmwatch.book import Book
from vmwatch.channels import Channel
from vmwatch.condition import Condition
from vmwatch.config import Loaded
from vmwatch.contacts import Contacts
from vmwatch.deliver import Deliverer
from vmwatch.errors import ConfigError, LedgerError, ListenError
from vmwatch.follow import Follower
from vmwatch.heartbeat import Clock, Heartbeat
from vmwatch.ledger import Ledger
from vmwatch.lifesign import LifeSign
from vmwatch.models import DAY, SECOND, Decision, Duration
from vmwatch.poll import Poller
from vmwatch.presence import Presence
from vmwatch.settings import Operator, Settings
from vmwatch.stale import Staleness
from vmwatch.store_trouble import StoreTrouble
from vmwatch.tally import Tally
from vmwatch.tasks import group
from vmwatch.telecomx import Telecomx
from vmwatch.web import Beside, Concerns, Facts, Hands, Web

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long polls and deliveries under way may take to end once the daemon is told to stop."""

DRIFT: Duration = 10 * SECOND
"""A steady clock departs from a database's by seconds within days; more than this, and somebody set it."""

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
        beside: Beside | None = None,
    ) -> None:
        self._loaded = loaded
        self._load = load
        self._zone = zone
        self._observe_too = observe
        self._beside = beside
        self._clock = clock or Clock()
        self._bell = asyncio.Event()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._chores = asyncio.Event()
        self._adopting = asyncio.Lock()
        self._clients: dict[Operator, Telecomx] = {}
        self._condition = Condition()
        self._tally = Tally()
        self._contacts = Contacts(self._clock.wall)
        self._told = ""

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or `stop`. Raises LedgerError, ListenError if store or address can't be had."""
        acts = dict.fromkeys(signals.STOP, self._stop.set) | {signals.RELOAD: self._reload.set}
        async with AsyncExitStack() as stack:
            stack.enter_context(signals.heard(acts))
            async with systemd.starting("opening the store"):
                self._ledger = await Ledger.open(self._loaded.store_url, create=True, role="daemon")
            stack.push_async_callback(self._ledger.close)
            await self._clock.go_by(self._ledger.time)
            await self._ledger.become_daemon(__version__, self._clock.now())
            self._presence = Presence(self._ledger, self._clock, self._tally, self._adopt_again)
            self._stack = stack
            self._ledger.measure(self._tally.commit_time.add)
            await self._straighten_clock()
            self._web = await stack.enter_async_context(self._window())
            await self._web.use(self._loaded.settings.web)  # before the first poll: where it can't, none is spent
            await self._ledger.note_page(self._web.address)
            async with group() as tasks:
                attempts = Attempts(self._ledger, self._clock, self._observe, self._tally, self._book)
                self._poller = Poller(self._ledger, self._clock, attempts, tasks, self._bell.set)
                self._deliverer = Deliverer(
                    self._ledger,
                    self._clock,
                    tasks,
                    self._zone,
                    self._bell.set,
                    self._condition.channel,
                    self._tally,
                    self._book,
                )
                self._follower = Follower(self._ledger, self._clock, self._zone)
                self._store = StoreTrouble(self._ledger, self._clock, tasks)
                self._stale = Staleness(self._ledger, self._clock, self._tally)
                self._life = LifeSign(tasks)
                await self._contacts.use(self._loaded.contacts)
                await self._use(self._loaded.settings, None)
                await self._live(tasks)

    def stop(self) -> None:
        self._stop.set()

    def reload(self) -> None:
        """Have the configuration read again, as SIGHUP does."""
        self._reload.set()

    def _window(self) -> Web:
        url, trouble = self._loaded.store_url, lambda: self._ledger.trouble
        facts = Facts(url, self._clock, self._tally, trouble, self._concerns, self._zone, self._book)
        return Web(facts, Hands(self._ledger, self._clock.now, self._bell.set), self._beside)

    def _book(self) -> Book:
        return self._contacts.book

    def _concerns(self) -> Concerns:
        condition = self._condition
        return Concerns(condition.refusal, condition.store, condition.stale)

    async def _live(self, tasks: asyncio.TaskGroup) -> None:
        """Start the side tasks, wait for the word to stop, and end everything in order.

        A side task that dies takes the daemon with it, loudly: half alive is worse than restarted.
        """
        heartbeat = Heartbeat(self._bell.set, self._chores.set)
        self._bell.set()
        self._chores.set()
        loops = (heartbeat.run(), self._rounds(), self._reloads(), self._tidy(), self._contacts.run())
        side = [tasks.create_task(loop) for loop in loops]
        systemd.ready(self._status())
        log.info("watching %d line(s), alerting %d channel(s)", *self._counts())
        await self._stop.wait()
        log.info("stopping")
        systemd.stopping()
        for task in side:
            task.cancel()
        # A store that another process holds would be waited for again by each transaction that is under way.
        asyncio.get_running_loop().call_later(PATIENCE_S, self._ledger.hurry)
        await asyncio.gather(*(part.stop(PATIENCE_S) for part in (self._poller, self._deliverer, self._store)))
        await self._life.stop()
        await self._flush()
        await self._presence.leave()

    # ---- the side tasks ----

    async def _rounds(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            trouble = await self._trouble_of_round()
            await self._store.after_round(trouble)
            self._condition.store, self._condition.stale = self._store.trouble, self._stale.stale
            self._life.round_ended(well=trouble is None and not self._store.trouble and not self._stale.stale)
            # A store that takes nothing is waited out: a restart would not mend it.
            if not systemd.alive(self._status_if_changed()):
                self._told = ""

    async def _trouble_of_round(self) -> LedgerError | None:
        try:
            await self._round()
        except LedgerError as error:
            return error
        return None

    async def _round(self) -> None:
        await self._follow_clock()
        await self._follower.round()
        await self._deliverer.round()
        await self._poller.round()
        await self._presence.after_round()
        await self._stale.after_round()
        self._tally.round_ended(self._clock.now())

    async def _follow_clock(self) -> None:
        """The ledger first: as long as that can't be changed, everything goes on by the time it was written by."""
        step = self._clock.step()
        if step:
            kept = await self._ledger.shift(step)
            self._clock.follow(step)
            if kept or abs(step) > DRIFT:
                await self._follower.reckon()
                await self._ledger.holding.judge_anew(self._clock.now())
            if kept:
                log.warning("the clock was set by %+.0f s; every wait is kept as long as it was", step / SECOND)
            elif abs(step) > DRIFT:
                log.warning("the database's clock was set by %+.0f s; waits end by its new time", step / SECOND)
                await self._adopt_again()  # a line that is well does not wait longer than its interval

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            systemd.reloading()
            self._condition.refusal = await self._refusal()
            systemd.ready(self._status())
            await self._note_reload()  # after READY: whoever waits for this in ExecReload= ends after it, too
            self._bell.set()

    async def _refusal(self) -> str:
        """Read the configuration again; returns why the old one stays, or nothing."""
        try:
            await self._reread()
        except (ConfigError, LedgerError, ListenError) as error:
            log.error("the new configuration is refused, the old one stays: %s", error)  # noqa: TRY400
            return str(error)
        return ""

    async def _note_reload(self) -> None:
        try:
            await self._ledger.note_reload(self._condition.refusal)
        except LedgerError:
            log.debug("what came of the reload is not noted")  # `vmwatch reload` says so after a while.

    async def _reread(self) -> None:
        # In a thread: 50,000 lines take seconds, and a file may lie on a disk that does not answer.
        loaded = await asyncio.to_thread(self._load)
        if loaded.store_url != self._loaded.store_url:
            log.warning("store.url was changed: that takes effect when vmwatch is started again")
        await self._web.use(loaded.settings.web)
        await self._contacts.use(loaded.contacts)  # first: groups of callers must not be judged by an older book
        try:
            await self._use(loaded.settings, self._loaded.settings)
        except LedgerError:
            await self._web.use(self._loaded.settings.web)
            await self._contacts.use(self._loaded.contacts)
            raise
        await self._ledger.note_page(self._web.address)
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
                await self._ledger.history.prune(now - DAY)
            except LedgerError:
                log.debug("the chores are left for the next time")  # The ledger keeps the trouble for the next round.

    # ---- what they share ----

    async def _use(self, settings: Settings, before: Settings | None) -> None:
        """Watch by these settings from now on. Raises LedgerError; the old ones (`before`) are kept then."""
        await self._adopt(settings, before)
        troubled, views = await self._ledger.lines.in_trouble(), await self._ledger.outbox.channels()
        client = await self._client(settings.operator)
        urls = {name: channel.url.get_secret_value() for name, channel in settings.channels.items()}
        channels = {name: Channel(name, url) for name, url in urls.items()}
        self._poller.use(settings, client)
        self._deliverer.use(settings, channels)
        await self._follower.use(settings)
        self._store.use(channels, languages.voices(settings, self._zone), settings.delivery.timeout)
        self._stale.use(settings)
        self._life.use(ping.get_secret_value() if (ping := settings.heartbeat.url) is not None else None)
        numbers = (line.number for line in settings.lines.values())
        self._condition.watch(numbers, troubled, (view.standing for view in views))
        await self._rename_again(renamed(before, settings))
        await self._judge_anew(before)

    async def _adopt(self, settings: Settings, before: Settings | None) -> None:
        async with self._adopting:
            met = await adopt(self._ledger, settings, self._clock.now(), before)
            self._adopted = settings
        self._presence.adopted(met.passed_over, met.disagreements)

    async def _adopt_again(self) -> None:
        """Who else is there, or what they are configured to do, has changed."""
        async with self._adopting:
            met = await adopt(self._ledger, self._adopted, self._clock.now())
        self._presence.adopted(met.passed_over, met.disagreements)

    async def _rename_again(self, channels: Mapping[str, str]) -> None:
        """What a poll owed to an old name between the ledger's change of it and the poller's."""
        if channels:
            with suppress(LedgerError):  # nearly always there is nothing; `adopt` moved the rest
                await self._ledger.outbox.rename(channels)

    async def _judge_anew(self, before: Settings | None) -> None:
        """What was held by the old configuration meanwhile."""
        if before is not None:
            with suppress(LedgerError):  # the same
                await self._ledger.holding.judge_anew(self._clock.now())

    async def _client(self, operator: Operator) -> Telecomx:
        """The client for these settings; one that was replaced serves its polls under way until the end."""
        if self._clients.get(operator) is None:
            client = Telecomx(operator.base_url, operator.timeout, operator.concurrency, self._clock.now)
            self._clients[operator] = await self._stack.enter_async_context(client)
        return self._clients[operator]

    async def _straighten_clock(self) -> None:
        """A computer that starts with its clock behind what the ledger has seen would wait for the difference."""
        now = self._clock.now()
        behind = (await self._ledger.latest() or now) - now
        if behind > PATIENCE_S * 1000 and await self._ledger.shift(-behind, after=now):
            log.warning("the clock is %d s behind the store's last entry; waits are kept", behind // 1000)

    async def _flush(self) -> None:
        try:
            await self._poller.flush()
        except LedgerError as error:
            log.error("%s; the last quiet polls are not noted", error)  # noqa: TRY400 - a sentence

    def _observe(self, decision: Decision) -> None:
        if decision.alerts:
            self._bell.set()
        self._condition.line(decision.after)
        self._observe_too(decision)

    def _counts(self) -> tuple[int, int]:
        return len(self._loaded.settings.lines), len(self._loaded.settings.channels)

    def _status(self) -> str:
        self._told = str(self._condition)
        return self._told

    def _status_if_changed(self) -> str | None:
        return self._status() if str(self._condition) != self._told else None
