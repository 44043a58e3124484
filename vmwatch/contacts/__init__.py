"""The person's own address book, kept up to date beside everything else: no poll and no alert waits for it.

Files are looked at every few seconds, a CardDAV server is asked every `interval`; what both came to is one Book.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vmwatch import book
from vmwatch.book import Book
from vmwatch.contacts import carddav, shelf
from vmwatch.contacts.carddav import CardDavError
from vmwatch.contacts.shelf import Shelf
from vmwatch.contacts.vcf import File
from vmwatch.models import MINUTE, SECOND, Duration, Instant
from vmwatch.settings import CardDav, ContactSources
from vmwatch.vcards import Card

__all__ = ["Contacts", "Shelf"]

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""How often files are looked at."""
FIRST_S = 1.0
"""How long a start waits for the contacts to be read."""
AGAIN: Duration = 15 * MINUTE
"""How soon at the latest a server that could not be asked is asked again, if `interval` is not shorter."""


class Contacts:
    """Told where contacts come from by `use`; `book` is what they came to last."""

    def __init__(self, now: Callable[[], Instant], look_s: float = LOOK_S) -> None:
        self._now = now
        self._look_s = look_s
        self._sources = ContactSources()
        self._said: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._reading: asyncio.Future[None] | None = None
        self.files: tuple[File, ...] = ()
        self.shelf = Shelf()
        self.book: Book = book.EMPTY

    async def use(self, sources: ContactSources) -> None:
        """From here on they come from there. What can't be read within a second is there a little later."""
        if sources == self._sources:
            return
        corrected = self._sources.carddav not in (CardDav(), sources.carddav)
        self._sources = sources
        self.book = replace(self.book, is_whole=False)
        known = {file.path: file for file in self.files}
        self.files = tuple(known.get(path) or File(path) for path in map(Path, sources.vcards))
        self._reading = asyncio.ensure_future(self._read(at_once=corrected))
        await asyncio.wait([self._reading], timeout=FIRST_S)

    def peek(self, sources: ContactSources) -> Shelf:
        """What is known of the CardDAV server's, without reading any file of contacts; blocks."""
        self._sources = sources
        self._open_shelf()
        return self.shelf

    def read(self, sources: ContactSources) -> Book:
        """All of it at once, for a verb that ends; blocks."""
        self.peek(sources)
        self.files = tuple(map(File, map(Path, sources.vcards)))
        self._look()
        self.book = self._bound()
        return self.book

    async def run(self) -> None:
        """Keep up until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._follow())

    async def synchronise(self) -> None:
        """Ask the CardDAV server now, if there is one; what can't be had is in `shelf.trouble` then."""
        if self._sources.carddav.url is None:
            return
        sources, before = self._sources, self.shelf
        try:
            found = await carddav.synchronise(sources.carddav, before)
            after = replace(found, synchronised_at=self._now(), trouble="", trouble_since=None)
        except CardDavError as error:
            after = replace(before, trouble=str(error), trouble_since=before.trouble_since or self._now())
        if sources is self._sources:  # a reload may have put another one in its place meanwhile
            await self._keep(replace(after, tried_at=self._now()))

    @property
    def due_in(self) -> Duration:
        """When the server is to be asked again; 0 for now."""
        interval = self._sources.carddav.interval
        wait = min(interval, AGAIN) if self.shelf.trouble else interval
        due = self.shelf.tried_at + wait if self.shelf.tried_at is not None else 0
        return min(max(due - self._now(), 0), interval)

    # ---- keeping up ----

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            if self._reading is not None:
                await self._reading
            if await asyncio.to_thread(self._look):
                await self._bind()
            self._tell()

    async def _follow(self) -> None:
        while True:
            self._changed.clear()
            if self._sources.carddav.url is not None and self.due_in == 0:
                await self.synchronise()
                self._tell()
            await self._wait()

    async def _wait(self) -> None:
        wait = max(self.due_in, SECOND) if self._sources.carddav.url is not None else None
        try:
            async with asyncio.timeout(wait and wait / SECOND):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _read(self, *, at_once: bool) -> None:
        await asyncio.to_thread(self._open_shelf)
        if at_once:
            self.shelf = replace(self.shelf, tried_at=None)
        await asyncio.to_thread(self._look)
        await self._bind()
        self._tell()
        self._changed.set()

    async def _keep(self, shelf_: Shelf) -> None:
        differs = shelf_.cards != self.shelf.cards or self.shelf.synchronised_at is None
        self.shelf = shelf_
        try:
            await asyncio.to_thread(shelf.save, Path(self._sources.cache), self._origin, shelf_)
        except OSError as error:
            self._say("contacts.cache", f"cannot be written: {error.strerror}")
        if differs:
            await self._bind()

    async def _bind(self) -> None:
        self.book = await asyncio.to_thread(self._bound)

    # ---- in a thread ----

    def _open_shelf(self) -> None:
        wanted = self._sources.carddav.url is not None
        self.shelf = shelf.load(Path(self._sources.cache), self._origin) if wanted else Shelf()

    def _look(self) -> bool:
        changed = [file.look() for file in self.files]
        return any(changed)

    def _bound(self) -> Book:
        cards: list[Card] = [card for file in self.files for card in file.cards]
        return book.bind((*cards, *self.shelf.in_order()), self._sources.region, is_whole=self._is_whole)

    @property
    def _is_whole(self) -> bool:
        asked = self._sources.carddav.url is None or self.shelf.synchronised_at is not None
        return asked and all(file.was_whole for file in self.files)

    @property
    def _origin(self) -> str:
        return f"{self._sources.carddav.user or ''} {self._sources.carddav.url}"

    # ---- telling ----

    def _tell(self) -> None:
        for file in self.files:
            self._say(str(file.path), file.trouble)
        self._say("contacts.carddav", self.shelf.trouble)

    def _say(self, where: str, trouble: str) -> None:
        """Once when it begins or changes, once when it is over."""
        if trouble and trouble != self._said.get(where):
            log.warning("contacts: %s: %s", where, trouble)
        elif self._said.get(where) and not trouble:
            log.info("contacts: %s: read again", where)
        self._said[where] = trouble
