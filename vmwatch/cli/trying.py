"""Sending a test alert now, and waiting for what becomes of it on each channel."""

from __future__ import annotations

import asyncio

from rich.console import Console

from vmwatch import config
from vmwatch.cli import desk
from vmwatch.cli.asking import LOOK_AGAIN_S, PATIENCE, workers
from vmwatch.ledger import Ledger, Owed
from vmwatch.models import DeliveryState


async def send_test(ledger: Ledger, loaded: config.Loaded, alert_id: int, names: tuple[str, ...]) -> tuple[Owed, ...]:
    """Send it side by side on these channels. A daemon may be quicker with one of them: that is waited for."""
    with Console(stderr=True).status(f"sending to {desk.listed(names)} …"):
        async with workers(ledger, loaded) as (_, deliverer):
            await asyncio.gather(*(deliverer.send_alert(alert_id, name) for name in names))
        clock = await desk.clock(ledger)
        deadline = clock.now() + loaded.settings.delivery.timeout + PATIENCE
        owed = await ledger.outbox.of_alert(alert_id)
        while any(delivery.state is DeliveryState.PENDING for delivery in owed) and clock.now() < deadline:
            await asyncio.sleep(LOOK_AGAIN_S)
            owed = await ledger.outbox.of_alert(alert_id)
    return owed
