"""Polling because a person (or cron) says so: by this process, or by the daemon if one runs on the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

from rich.console import Console
from tzlocal import get_localzone

from vmwatch import config, shapes, wishes, wording
from vmwatch.attempt import Attempts
from vmwatch.channels import Channel, prepare
from vmwatch.cli import desk, tables
from vmwatch.contacts import Contacts
from vmwatch.deliver import Deliverer
from vmwatch.follow import Follower
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, ChannelState, Duration, Instant, LineState, Reason, Standing
from vmwatch.poll import Poller
from vmwatch.tasks import group
from vmwatch.telecomx import Telecomx

LOOK_AGAIN_S = 0.1
PATIENCE = 10 * SECOND
"""How much longer than a request may take the daemon's answer is waited for."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of the lines that were asked for; `refused` tells of each that was not polled why."""

    by_daemon: bool
    now: Instant
    lines: tuple[Standing, ...]
    refused: dict[str, Reason]
    unanswered: frozenset[str] = frozenset()
    channels_failing: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        troubled = any(line.state in shapes.IN_TROUBLE for line in self.lines)
        return int(troubled or bool(self.unanswered or self.channels_failing))

    def shape(self) -> list[shapes.Shape]:
        return [
            shapes.line(line) | {"polled": line.number not in self.refused and line.number not in self.unanswered}
            for line in self.lines
        ]

    def show(self) -> None:
        out = desk.out()
        if self.by_daemon:
            out.print("A daemon runs on this store: it was asked to poll now.")
        for line in self.lines:
            out.print(f"{line.name}: {self._sentence(line)}", markup=False)
        for name in self.channels_failing:
            out.print(f"channel {name}: failing; see `vmwatch outbox`", markup=False)

    def _sentence(self, line: Standing) -> str:
        if line.number in self.refused:
            when = tables.relative(line.next_poll_at, self.now) if line.next_poll_at else "not by itself"
            return f"not polled, {wording.REASONS[self.refused[line.number]]}; next poll: {when}"
        if line.number in self.unanswered:
            return "asked, but not answered yet; see `vmwatch status`"
        if line.state is LineState.OK:
            return f"ok, {line.new if line.new is not None else '?'} new"
        return f"{line.state.value}, {tables.why(line)}{tables.advice(line)}"


async def ask(ledger: Ledger, loaded: config.Loaded, wanted: Sequence[str], *, deliver: bool) -> Answers:
    """Poll the wanted lines (all, if none is named) now, as far as the safety of their PINs allows it."""
    chosen = [await wishes.find_line(ledger, name) for name in wanted] or list(await ledger.lines.standings())
    refused = await _wish(ledger, chosen, named=bool(wanted))
    numbers = frozenset(line.number for line in chosen if line.number not in refused)
    by_daemon = (await ledger.daemon()).running
    with Console(stderr=True).status(f"polling {tables.counted(len(numbers), 'line')} …"):
        if by_daemon:
            await _wait(ledger, numbers, loaded.settings.operator.timeout + PATIENCE)
        else:
            await _poll(ledger, loaded, numbers, deliver=deliver)
    return await _answers(ledger, [line.number for line in chosen], refused, by_daemon=by_daemon)


async def _wish(ledger: Ledger, chosen: Sequence[Standing], *, named: bool) -> dict[str, Reason]:
    """Write down that a person waits for these lines; returns why some must not be polled now, by number."""

    def objection(standing: Standing, now: Instant) -> Reason | None:
        backing_off = standing.state in shapes.IN_TROUBLE and (standing.next_poll_at or now) > now
        # Cron asks for all lines, every minute: that is no reason to shorten a back-off. A person names the line.
        return standing.reason if backing_off and not named else None

    now = (await desk.clock(ledger)).now
    asked = [(line.number, await wishes.poll(ledger, line, now, objection)) for line in chosen]
    return {number: obstacle for number, obstacle in asked if obstacle is not None}


async def _poll(ledger: Ledger, loaded: config.Loaded, numbers: frozenset[str], *, deliver: bool) -> None:
    async with workers(ledger, loaded) as (poller, deliverer):
        while (open_ := numbers & await _waiting(ledger)) and await poller.round(only=open_):
            await poller.idle()
        if deliver:
            await poller.flush()  # when the lines were read tells what reminders need to know
            await _follow(ledger, loaded)
            await deliverer.round()
            await deliverer.idle()


async def _follow(ledger: Ledger, loaded: config.Loaded) -> None:
    """Remind and escalate as the daemon would."""
    follower = Follower(ledger, await desk.clock(ledger), get_localzone())
    await follower.use(loaded.settings)
    await follower.round()


@asynccontextmanager
async def workers(ledger: Ledger, loaded: config.Loaded) -> AsyncIterator[tuple[Poller, Deliverer]]:
    """The same poller and deliverer that the daemon has, for as long as a verb needs them."""
    prepare()
    settings, clock = loaded.settings, await desk.clock(ledger)
    operator = settings.operator
    channels = {name: Channel(name, channel.url.get_secret_value()) for name, channel in settings.channels.items()}
    async with (
        Telecomx(operator.base_url, operator.timeout, operator.concurrency, clock.now) as client,
        group() as tasks,
    ):
        contacts = Contacts(clock.wall)
        book = cache(lambda: contacts.read(loaded.contacts))  # not before somebody called
        poller = Poller(ledger, clock, Attempts(ledger, clock, lambda _: None, book=book), tasks)
        deliverer = Deliverer(ledger, clock, tasks, get_localzone(), book=book)
        poller.use(settings, client)
        deliverer.use(settings, channels)
        yield poller, deliverer


async def _wait(ledger: Ledger, numbers: frozenset[str], patience: Duration) -> None:
    """Until the daemon has answered for these lines, or for as long as it may take."""
    clock = Clock()
    deadline = clock.now() + patience
    while numbers & await _waiting(ledger) and clock.now() < deadline:  # noqa: ASYNC110
        # Nothing is sent between processes, so there is no event to wait for: the store is looked at again.
        await asyncio.sleep(LOOK_AGAIN_S)


async def _waiting(ledger: Ledger) -> frozenset[str]:
    return frozenset(line.number for line in await ledger.lines.standings() if line.asked_at is not None)


async def _answers(ledger: Ledger, numbers: Sequence[str], refused: dict[str, Reason], *, by_daemon: bool) -> Answers:
    now = await desk.now(ledger)
    shown = {line.number: line for line in await shapes.lines_shown(ledger, now)}
    failing = [view for view in await ledger.outbox.channels() if view.standing.state is ChannelState.FAILING]
    return Answers(
        by_daemon=by_daemon,
        now=now,
        lines=tuple(shown[number] for number in numbers if number in shown),
        refused=refused,
        unanswered=frozenset(number for number in numbers if number in shown and shown[number].asked_at is not None),
        channels_failing=tuple(view.standing.name for view in failing),
    )
