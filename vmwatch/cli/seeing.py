"""The verbs by which a person says what becomes of a message: ack, snooze."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tzlocal import get_localzone

from vmwatch import shapes
from vmwatch.book import Book
from vmwatch.cli import addressed, desk, tables
from vmwatch.cli.parser import Options
from vmwatch.errors import UsageError
from vmwatch.ledger import Ledger, MessageView
from vmwatch.settings import duration

_SHOWN = 5
"""Of the messages that a beginning fits."""


async def ack(options: Options) -> int:
    """Somebody sees to these messages: nothing more is told about them."""
    async with desk.store(options.config) as ledger:
        found = [await find(ledger, wanted) for wanted in options.messages]
        await ledger.messages.ack([view.key for view in found], desk.now())
        views = await _again(ledger, found)
        book = (await addressed.looked_up(ledger, options.config)).book
    _show(options, views, book, "acknowledged: nobody is reminded of it")
    return 0


async def snooze(options: Options) -> int:
    """Nothing about this message until then, and then a reminder if it is still new."""
    until = desk.now() + _span(options.span)
    async with desk.store(options.config) as ledger:
        found = [await find(ledger, options.message)]
        await ledger.messages.snooze([view.key for view in found], until, desk.now())
        views = await _again(ledger, found)
        book = (await addressed.looked_up(ledger, options.config)).book
    _show(options, views, book, f"nothing more about it until {tables.clock(until, get_localzone())}")
    return 0


async def find(ledger: Ledger, wanted: str) -> MessageView:
    """The message whose id this is, or begins with. Raises UsageError."""
    views = await ledger.messages.beginning_with(wanted)
    exactly = [view for view in views if view.voicemail.id == wanted]
    if len(views) == 1 or len(exactly) == 1:
        return (exactly or list(views))[0]
    if not views:
        raise UsageError(f"{wanted}: there is no such message; `vmwatch messages` shows their ids")
    ids = ", ".join(f"{view.voicemail.id} on {view.line}" for view in views[:_SHOWN])
    raise UsageError(f"{wanted}: several messages begin so: {ids}; write more of the id")


async def _again(ledger: Ledger, views: Iterable[MessageView]) -> list[MessageView]:
    """The messages as they stand by now."""
    found = {view.key: view for wanted in views for view in await ledger.messages.beginning_with(wanted.voicemail.id)}
    return [found[view.key] for view in views if view.key in found]


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
