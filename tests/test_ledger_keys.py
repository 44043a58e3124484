"""The key that an alert's links are signed with: one for each store, however many ask, wherever the store goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ledgers import FilePlace, Place, opened, polled
from values import NOW, NUMBER

from vmwatch.ledger import Ledger, copies
from vmwatch.ledger.moving import move


@pytest.fixture
def there(request: pytest.FixtureRequest, place: Place) -> Place:
    """An empty place of the other kind."""
    if isinstance(place, FilePlace):
        found: Place = request.getfixturevalue("shared")
        return found
    return FilePlace(request.getfixturevalue("tmp_path") / "moved.db")


async def test_the_key_is_made_once_however_many_ask(ledger: Ledger, place: Place) -> None:
    assert await ledger.keys.known() == b""
    async with opened(place, create=False) as other:
        keys = await asyncio.gather(*(one.keys.made() for one in (ledger, other) * 3))
        assert (len(set(keys)), len(keys[0])) == (1, 32)
        assert keys[0] == await other.keys.known() == await ledger.keys.made()
    assert keys[0] != ledger.salt


async def test_a_moved_store_has_the_same_key(place: Place, there: Place) -> None:
    async with opened(place) as ledger:
        key = await ledger.keys.made()
    await move(place.url, there.url)
    async with opened(there, create=False) as moved:
        assert await moved.keys.made() == key


@pytest.mark.parametrize("is_older", [True, False], ids=["before it was made", "after"])
async def test_a_restored_store_knows_the_links_that_were_sent(place: Place, tmp_path: Path, is_older: bool) -> None:
    backup = tmp_path / "backup.db"
    async with opened(place) as ledger:
        if is_older:
            await copies.backup(place.url, backup)
        key = await ledger.keys.made()
        if not is_older:
            await copies.backup(place.url, backup)
    await copies.restore(place.url, backup, NOW)
    async with opened(place, create=False) as restored:
        assert await restored.keys.known() == key


async def test_another_store_has_another_key(place: Place, there: Place) -> None:
    async with opened(place) as ledger, opened(there) as other:
        assert await ledger.keys.made() != await other.keys.made()


async def test_a_message_is_found_by_its_whole_id_alone(ledger: Ledger) -> None:
    await polled(ledger, "a", "ab")
    assert [(one.number, one.voicemail.id) for one in await ledger.messages.with_id("a")] == [(NUMBER, "a")]
    assert await ledger.messages.with_id("b") == await ledger.messages.with_id("") == ()
