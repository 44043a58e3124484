"""The verbs by which a person says what becomes of a message: ack, snooze."""

from __future__ import annotations

from collections.abc import Sequence

from tzlocal import get_localzone

from vmwatch import shapes, wishes
from vmwatch.book import Book
from vmwatch.cli import addressed, desk, tables
from vmwatch.cli.parser import Options
from vmwatch.errors import UsageError
from vmwatch.ledger import MessageView
from vmwatch.settings import duration


async def ack(options: Options) -> int:
    """Somebody sees to these messages: nothing more is told about them."""
    async with desk.store(options.config) as ledger:
        found = [await wishes.find_message(ledger, wanted) for wanted in options.messages]
        views = await wishes.ack(ledger, found, (await desk.clock(ledger)).now)
        book = (await addressed.looked_up(ledger, options.config)).book
    _show(options, views, book, "acknowledged: nobody is reminded of it")
    return 0


async def snooze(options: Options) -> int:
    """Nothing about this message until then, and then a reminder if it is still new."""
    span = _span(options.span)
    async with desk.store(options.config) as ledger:
        clock = await desk.clock(ledger)
        until = clock.now() + span
        found = [await wishes.find_message(ledger, options.message)]
        views = await wishes.snooze(ledger, found, until, clock.now)
        book = (await addressed.looked_up(ledger, options.config)).book
    _show(options, views, book, f"nothing more about it until {tables.clock(until, get_localzone())}")
    return 0


def _show(options: Options, views: Sequence[MessageView], book: Book, done: str) -> None:
    if options.json:
        desk.print_json([shapes.message(view, book) for view in views])
        return
    for view in views:
        gone = view.left_new_at is not None
        desk.out().print(
            f"{view.voicemail.id}: {'no longer new: nothing is to be done' if gone else done}", markup=False
        )


def _span(text: str) -> int:
    try:
        span = duration(text)
    except ValueError as error:
        raise UsageError(f"snooze: {error}") from None
    if not span:
        raise UsageError("snooze: must be longer than nothing")
    return span
