"""What a person wants done, however they say so: poll now, pause, go on, send again, send a test.

The command line and the page both come by here. Nothing is sent anywhere: a wish is a row that the daemon finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vmwatch import decide
from vmwatch.errors import UsageError
from vmwatch.ledger import Ledger
from vmwatch.models import Alert, Instant, Kind, Reason, Standing

Now = Callable[[], Instant]
Judge = Callable[[Standing, Instant], Reason | None]


async def find_line(ledger: Ledger, wanted: str) -> Standing:
    """The line of that name or number. Raises UsageError, which names those there are."""
    standings = await ledger.lines.standings()
    for standing in standings:
        if wanted in (standing.name, standing.number):
            return standing
    names = ", ".join(standing.name for standing in standings) or "none: start `vmwatch run` once"
    raise UsageError(f"{wanted}: there is no such line; the lines are {names}")


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


async def _change(ledger: Ledger, wanted: str, decided: Callable[[Standing, Instant], Standing], now: Now) -> Standing:
    """Decide anew until nobody else changed the line in between."""
    while True:
        at = now()
        after = decided(await find_line(ledger, wanted), at)
        if await ledger.lines.change(after, at):
            return decide.shown(after, await ledger.lines.operator(), now())
        await asyncio.sleep(0)
