"""The verbs that only look: status, messages, outbox (which can also retry and drop)."""

from __future__ import annotations

from tzlocal import get_localzone

from vmwatch import shapes, wishes
from vmwatch.cli import addressed, desk, tables
from vmwatch.cli.parser import Options
from vmwatch.errors import UsageError
from vmwatch.ledger import Ledger
from vmwatch.models import DeliveryState


async def status(options: Options) -> int:
    async with desk.store(options.config) as ledger:
        now = await desk.now(ledger)
        seen = await shapes.seen(ledger, now)
        troubles = [] if options.json else await addressed.troubles(ledger, options.config)
    if options.json:
        desk.print_json(await shapes.status(seen))
    else:
        out = desk.out()
        for part in tables.status(seen, now):
            out.print(part)
        remarks = tables.remarks(seen.lines, seen.daemon.stale)
        for sentence in (*remarks, *tables.disagreements(seen.disagreements), *troubles):
            out.print(sentence, markup=False)
    return int(shapes.is_troubled(seen))


async def messages(options: Options) -> int:
    async with desk.store(options.config) as ledger:
        number = (await wishes.find_line(ledger, options.line)).number if options.line else None
        views = await ledger.messages.listing(number, new_only=options.new, most=options.limit)
        now = await desk.now(ledger)
        book = (await addressed.looked_up(ledger, options.config)).book
    if options.json:
        desk.print_json([shapes.message(view, book) for view in views])
    elif views:
        desk.out().print(tables.messages(views, get_localzone(), book, now))
    else:
        desk.out().print("No voicemails seen.")
    return 0


async def outbox(options: Options) -> int:
    async with desk.store(options.config) as ledger:
        if options.act is not None:
            return await _act(ledger, options)
        owed, now = await ledger.outbox.listing(everything=options.all, most=options.limit), await desk.now(ledger)
    if options.json:
        desk.print_json([shapes.delivery(delivery) for delivery in owed])
    elif owed:
        desk.out().print(tables.outbox(owed, now))
    else:
        desk.out().print("Nothing is pending, nothing is dead.")
    return int(any(delivery.state is DeliveryState.DEAD for delivery in owed))


async def _act(ledger: Ledger, options: Options) -> int:
    """`outbox retry [ID...]` (all dead ones without an id) and `outbox drop ID...`."""
    ids = tuple(options.ids)
    if options.act == "drop" and not ids:
        raise UsageError("outbox drop: name the deliveries to give up, by their ids in `vmwatch outbox`")
    if options.act == "retry":
        done = await wishes.retry(ledger, ids, (await desk.clock(ledger)).now)
    else:
        done = await ledger.outbox.drop(ids, await desk.now(ledger))
    refused = [id_ for id_ in ids if id_ not in done]
    if options.json:
        desk.print_json({"done": list(done), "refused": refused})
    else:
        _tell(options.act, done, refused)
    return int(bool(refused))


def _tell(act: str, done: tuple[int, ...], refused: list[int]) -> None:
    outcome = "to be tried again now" if act == "retry" else "given up"
    desk.out().print(f"{len(done)} {outcome}.")
    if refused:
        numbers = desk.listed(str(id_) for id_ in refused)
        desk.say(f"not pending or dead, or under way just now: {numbers}")
