"""Fixtures that several tests share: the real ledger on a real file, a webhook, a world to run vmwatch in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ledgers import adopted, opened
from receivers import Webhook
from world import World, world_in

from vmwatch.ledger import Ledger


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the ledger's file is."""
    return tmp_path / "vmwatch.db"


@pytest.fixture
async def ledger(store: Path) -> AsyncIterator[Ledger]:
    """A ledger with one line that was never read, and two channels."""
    async with opened(store) as ledger:
        await adopted(ledger)
        yield ledger


@pytest.fixture
async def hook() -> AsyncIterator[Webhook]:
    async with Webhook() as webhook:
        yield webhook


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as found:
        yield found
