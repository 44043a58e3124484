"""What a person wants done, however they say so: poll now, pause, go on, send again, send a test, see to a message.

The command line and the page both come by here. Nothing is sent anywhere: a wish is a row that the daemon finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from vmwatch import decide
from vmwatch.errors import UsageError
from vmwatch.ledger import Ledger, MessageView
from vmwatch.models import Alert, Instant, Kind, Reason, Standing

Now = Callable[[], Instant]
Judge = Callable[[Standing, Instant], Reason | None]

_SHOWN = 5
"""Of the messages that a beginning fits."""


async def find_line(ledger: Ledger, wanted: str) -> Standing:
    """The line of that name or number. Raises UsageError, which names those there are."""
    standings = await ledger.lines.standings()
    for standing in standings:
        if wanted in (standing.name, standing.number):
            return standing
    names = ", ".join(standing.name for standing in standings) or "none: start `vmwatch run` once"
    raise UsageError(f"{wanted}: there is no such line; the lines are {names}")


async def find_message(ledger: Ledger, wanted: str) -> MessageView:
    """The message whose id this is, or begins with. Raises UsageError."""
    views = await ledger.messages.beginning_with(wanted) if wanted else ()  # what a script left empty means nothing
    exactly = [view for view in views if view.voicemail.id == wanted]
    if len(views) == 1 or len(exactly) == 1:
        return (exactly or list(views))[0]
    if not views:
        raise UsageError(f"{wanted}: there is no such message; `vmwatch messages` shows their ids")
    ids = ", ".join(f"{view.voicemail.id} on {view.line}" for view in views[:_SHOWN])
    raise UsageError(f"{wanted}: several messages begin so: {ids}; write more of the id")


async def poll(ledger: Ledger, line: Standing, now: Now, objection: Judge = lambda *_: None) -> Reason | None:
    """Write down that a person waits for this line; returns why it must not be polled now, if so."""
    while True:
        standing = await ledger.lines.standing(line.number) or line
        obstacle = decide.obstacle(standing, await ledger.lines.operator(), now()) or objection(standing, now())
        if obstacle is not None:
            return obstacle
        if await ledger.lines.change(decide.asked(standing, now())):
            return None
        await asyncio.sleep(0)


async def pause(ledger: Ledger, wanted: str, until: Instant, now: Now) -> Standing:
    """Until an instant, or FOREVER. Raises UsageError."""
    return await _change(ledger, wanted, lambda line, at: decide.paused(line, until, at), now)


async def resume(ledger: Ledger, wanted: str, now: Now) -> Standing:
    """Go on at once; it forgives a rejected PIN. Raises UsageError."""
    return await _change(ledger, wanted, decide.resumed, now)


async def retry(ledger: Ledger, ids: tuple[int, ...], now: Now) -> tuple[int, ...]:
    """Send these again, or whatever is dead if none is named; returns which are sent again."""
    return await ledger.outbox.retry(ids or await ledger.outbox.dead(), now())


async def test(ledger: Ledger, channels: tuple[str, ...], now: Now) -> int:
    """Owe these channels a test; returns the alert's id."""
    return await ledger.outbox.owe(Alert(Kind.TEST, channels), now())


async def ack(ledger: Ledger, messages: Sequence[MessageView], now: Now) -> list[MessageView]:
    """Somebody sees to these: nobody is reminded of them any more. Returns them as they stand by then."""
    await ledger.messages.ack([view.key for view in messages], now())
    return await _again(ledger, messages)


async def snooze(ledger: Ledger, messages: Sequence[MessageView], until: Instant, now: Now) -> list[MessageView]:
    """Nothing about these until then, and then a reminder, if they are still new. Returns them as `ack` does.

    Who snoozes what was acknowledged takes that back; but not what somebody else acknowledges at that moment.
    """
    for view in messages:
        await ledger.messages.snooze([view.key], until, now(), over_ack=view.acked_at is not None)
    return await _again(ledger, messages)


async def _again(ledger: Ledger, views: Iterable[MessageView]) -> list[MessageView]:
    """The messages as they stand by now."""
    found = {view.key: view for wanted in views for view in await ledger.messages.beginning_with(wanted.voicemail.id)}
    return [found[view.key] for view in views if view.key in found]


async def _change(ledger: Ledger, wanted: str, decided: Callable[[Standing, Instant], Standing], now: Now) -> Standing:
    """Decide anew until nobody else changed the line in between."""
    while True:
        at = now()
        after = decided(await find_line(ledger, wanted), at)
        if await ledger.lines.change(after, at):
            return decide.shown(after, await ledger.lines.operator(), now())
        await asyncio.sleep(0)
