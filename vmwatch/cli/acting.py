"""The verbs that do something: check, poll, pause, resume, test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tzlocal import get_localzone

from vmwatch import config, decide, shapes
from vmwatch.adopt import adopt
from vmwatch.cli import addressed, desk, tables
from vmwatch.cli.asking import Answers, ask
from vmwatch.cli.parser import Options
from vmwatch.contacts import Contacts
from vmwatch.errors import UsageError
from vmwatch.ledger import Ledger, Owed
from vmwatch.models import FOREVER, Alert, DeliveryState, Instant, Kind, Standing
from vmwatch.settings import duration


async def check(options: Options) -> int:
    loaded = desk.load(options.config)
    contacts = Contacts(desk.now)
    contacts.read(loaded.contacts)
    if not options.online:
        _show_check(options, loaded, contacts, None)
        return 0
    async with whole_store(loaded) as ledger:
        answers = await ask(ledger, loaded, (), deliver=False)
        await contacts.synchronise()
    _show_check(options, loaded, contacts, answers)
    return answers.status


def _show_check(options: Options, loaded: config.Loaded, contacts: Contacts, answers: Answers | None) -> None:
    if options.json:
        online = {} if answers is None else {"lines": answers.shape()}
        found = addressed.shape(contacts, loaded.contacts)
        desk.print_json({"config": config.redacted(loaded), "store": loaded.store_shown, "contacts": found, **online})
        return
    out = desk.out()
    out.print_json(data=config.redacted(loaded))
    settings = loaded.settings
    lines, channels = tables.counted(len(settings.lines), "line"), tables.counted(len(settings.channels), "channel")
    for sentence in addressed.found(contacts, loaded.contacts):
        out.print(sentence, markup=False)
    out.print(f"{loaded.path}: accepted: {lines}, {channels}.", markup=False)
    if answers is not None:
        answers.show()


async def poll(options: Options) -> int:
    loaded = desk.load(options.config)
    async with whole_store(loaded) as ledger:
        answers = await ask(ledger, loaded, tuple(options.lines), deliver=True)
        if not answers.by_daemon:
            await addressed.synchronise_if_due(loaded)
    if options.json:
        desk.print_json(answers.shape())
    else:
        answers.show()
    return answers.status


async def pause(options: Options) -> int:
    now = desk.now()
    until = now + _span(options.span) if options.span else FOREVER
    standing = await _change(options, lambda line: decide.paused(line, until, now))
    when = f"until {tables.clock(until, get_localzone())}" if options.span else "until `vmwatch resume`"
    _show_change(options, standing, f"{standing.name}: paused {when}")
    return 0


async def resume(options: Options) -> int:
    now = desk.now()
    standing = await _change(options, lambda line: decide.resumed(line, now))
    _show_change(options, standing, f"{standing.name}: goes on, with a poll now")
    return 0


async def test(options: Options) -> int:
    """Send one test alert on each channel, through the same outbox and the same channels as any other."""
    from vmwatch.cli.trying import send_test

    loaded = desk.load(options.config)
    names = _channels(loaded, options.channels)
    async with whole_store(loaded) as ledger:
        alert_id = await ledger.outbox.owe(Alert(Kind.TEST, names), desk.now())
        owed = await send_test(ledger, loaded, alert_id, names)
    _show_test(options, owed)
    return int(any(delivery.state is not DeliveryState.SENT for delivery in owed))


def _channels(loaded: config.Loaded, wanted: list[str]) -> tuple[str, ...]:
    names = tuple(loaded.settings.channels)
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise UsageError(f"{unknown[0]}: there is no such channel; the channels are {desk.listed(names)}")
    return tuple(dict.fromkeys(wanted)) or names


def _show_test(options: Options, owed: tuple[Owed, ...]) -> None:
    if options.json:
        desk.print_json([shapes.delivery(delivery) for delivery in owed])
        return
    for delivery in owed:
        sent = delivery.state is DeliveryState.SENT
        mark, result = ("[green]✓[/]", "sent") if sent else ("[red]✗[/]", delivery.last_error or delivery.state.value)
        desk.out().print(f"{mark} {delivery.channel}: {result}")


def _span(text: str) -> int:
    try:
        return duration(text)
    except ValueError as error:
        raise UsageError(f"--for: {error}") from None


async def _change(options: Options, decided: Callable[[Standing], Standing]) -> Standing:
    """Decide anew until nobody else changed the line in between."""
    async with desk.store(options.config) as ledger:
        while True:
            after = decided(await desk.find_line(ledger, options.line))
            if await ledger.lines.change(after):
                return decide.shown(after, await ledger.lines.operator(), desk.now())
            await asyncio.sleep(0)


def _show_change(options: Options, standing: Standing, sentence: str) -> None:
    if options.json:
        desk.print_json(shapes.line(standing))
    else:
        desk.out().print(sentence, markup=False)


@asynccontextmanager
async def whole_store(loaded: config.Loaded) -> AsyncIterator[Ledger]:
    """The store, made if need be and brought in line with the configuration, unless a daemon sees to that."""
    ledger = await Ledger.open(loaded.store_url, create=True)
    try:
        now: Instant = desk.now()
        if not (await ledger.daemon()).running:
            await adopt(ledger, loaded.settings, now)
        yield ledger
    finally:
        await ledger.close()
