"""Fixtures that several tests share: the real ledger (its own tests: on PostgreSQL too), a webhook, a world."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import postgres
import pytest
from ledgers import FilePlace, Place, PostgresPlace, adopted, opened, postgres_place
from receivers import Webhook
from world import World, world_in

from vmwatch.ledger import Ledger


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The ledger's tests run on both engines, those of the store's file aside."""
    of_the_ledger = metafunc.module.__name__.startswith("test_ledger_")
    if of_the_ledger and "place" in metafunc.fixturenames and "store" not in _asked_for(metafunc.function):
        metafunc.parametrize("place", ["sqlite", "postgres"], indirect=True)


def _asked_for(function: object) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the ledger's file is."""
    return tmp_path / "vmwatch.db"


@pytest.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Where the ledger is: a file, unless the test is to run on PostgreSQL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield FilePlace(tmp_path / "vmwatch.db")
        return
    async with postgres_place(request.getfixturevalue("server")) as place:
        yield place


@pytest.fixture
async def shared(server: postgres.Server) -> AsyncIterator[PostgresPlace]:
    """An empty schema of a real PostgreSQL, which several processes may share."""
    async with postgres_place(server) as place:
        yield place


@pytest.fixture
async def ledger(place: Place) -> AsyncIterator[Ledger]:
    """A ledger with one line that was never read, and two channels."""
    async with opened(place) as ledger:
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
