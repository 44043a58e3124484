"""The address book for verbs: whose number it is, and what there is to say of the files and servers it comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmwatch import config
from vmwatch.cli import desk, tables
from vmwatch.contacts import Contacts, Shelf
from vmwatch.errors import ConfigError
from vmwatch.ledger import Ledger
from vmwatch.models import Instant
from vmwatch.settings import ContactSources
from vmwatch.shapes import Shape, iso


async def looked_up(ledger: Ledger, named: str | None) -> Contacts:
    """For verbs that only look: where the contacts can't be had, they go on without them, and say so."""
    contacts = Contacts(desk.now)
    try:
        contacts.read(await _sources(ledger, named))
    except ConfigError as error:
        desk.say(f"the contacts are left out: {error}")
    return contacts


async def troubles(ledger: Ledger, named: str | None) -> list[str]:
    """What is wrong with where the contacts come from, a sentence each; without reading all of them."""
    try:
        shelf = Contacts(desk.now).peek(await _sources(ledger, named))
    except ConfigError as error:
        return [f"contacts: {error}"]
    return [_of_carddav(shelf, desk.now())] if shelf.trouble else []


async def synchronise_if_due(loaded: config.Loaded) -> None:
    """Where no daemon sees to it: cron's `poll` asks the CardDAV server when `interval` is over."""
    contacts = Contacts(desk.now)
    contacts.peek(loaded.contacts)
    if loaded.contacts.carddav.url is not None and contacts.due_in == 0:
        await contacts.synchronise()


async def _sources(ledger: Ledger, named: str | None) -> ContactSources:
    numbers = [line.number for line in await ledger.lines.standings()]
    return config.load_contacts(desk.place(named), os.environ, numbers)


def found(contacts: Contacts, sources: ContactSources) -> Iterator[str]:
    """How many contacts there are, and where, a sentence each."""
    for file in contacts.files:
        about = f": {file.trouble}" if file.trouble else ""
        yield f"contacts: {tables.counted(len(file.cards), 'card')} in {file.path}{about}"
    if sources.carddav.url is not None:
        yield _of_carddav(contacts.shelf, desk.now())
    if contacts.files or sources.carddav.url is not None:
        known = tables.counted(len(contacts.book.names), "number")
        yield f"contacts: {known} known, those without a country code as in {sources.region or 'no country'}"


def _of_carddav(shelf: Shelf, now: Instant) -> str:
    cards = f"contacts: {tables.counted(len(shelf.cards), 'card')} from contacts.carddav"
    when = tables.relative(shelf.synchronised_at, now) if shelf.synchronised_at is not None else "never"
    about = f"; in trouble since {tables.relative(shelf.trouble_since, now)}: {shelf.trouble}" if shelf.trouble else ""
    return f"{cards}, synchronised {when}{about}"


def shape(contacts: Contacts, sources: ContactSources) -> Shape:
    return {
        "numbers": len(contacts.book.names),
        "region": sources.region or None,
        "vcards": [
            {"path": str(file.path), "cards": len(file.cards), "trouble": file.trouble or None}
            for file in contacts.files
        ],
        "carddav": None if sources.carddav.url is None else _shelf_shape(contacts.shelf),
    }


def _shelf_shape(shelf: Shelf) -> Shape:
    return {
        "cards": len(shelf.cards),
        "synchronised_at": iso(shelf.synchronised_at),
        "trouble": shelf.trouble or None,
        "trouble_since": iso(shelf.trouble_since),
    }
