"""The address book kept up to date: files read again when they change, a server's cards kept for when it is away."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from address_books import Radicale, answering, radicale
from values import NOW
from world import until

from vmwatch.contacts import Contacts, shelf
from vmwatch.contacts.shelf import Filed, Shelf
from vmwatch.contacts.vcf import File
from vmwatch.models import HOUR, MINUTE, Instant
from vmwatch.settings import CardDav, ContactSources
from vmwatch.vcards import Card

METTE = "BEGIN:VCARD\nVERSION:3.0\nFN:Mette\nTEL:20305071\nEND:VCARD\n"
ANNA = METTE.replace("Mette", "Anna")
PIA = "BEGIN:VCARD\nVERSION:3.0\nFN:Pia\nTEL:20305072\nEND:VCARD\n"
NUMBER, OTHER = "+4520305071", "+4520305072"
NO_BOOK = "has no vCard in it: export the address book as vCard (.vcf)"


def a_file(folder: Path, text: str = METTE, name: str = "contacts.vcf") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def names(file: File) -> list[str]:
    return [card.names[0] for card in file.cards]


# ---- one file ----


def test_a_file_is_read_again_when_it_was_changed_and_left_alone(tmp_path: Path) -> None:
    file = File(a_file(tmp_path))
    assert (file.look(), names(file)) == (True, ["Mette"])
    assert file.look() is False
    a_file(tmp_path, METTE + PIA)
    assert (file.look(), names(file)) == (False, ["Mette"])  # it may still be written
    assert (file.look(), names(file)) == (True, ["Mette", "Pia"])


def test_a_file_that_keeps_changing_is_left_alone(tmp_path: Path) -> None:
    file = File(a_file(tmp_path))
    file.look()
    for count in range(1, 4):
        a_file(tmp_path, METTE + PIA * count)
        assert (file.look(), names(file)) == (False, ["Mette"])


def test_an_unchanged_file_is_not_read(tmp_path: Path) -> None:
    file = File(a_file(tmp_path))
    file.look()
    known = file.path.stat()
    file.path.write_text(ANNA + "\n")
    os.truncate(file.path, known.st_size)
    os.utime(file.path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert (file.look(), file.look(), names(file)) == (False, False, ["Mette"])


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    """As editors and synchronising programs do it, even where they keep its time."""
    file = File(a_file(tmp_path, METTE))
    file.look()
    known = file.path.stat()
    fresh = a_file(tmp_path, METTE.replace("Mette", "Maria"), "fresh")
    os.utime(fresh, ns=(known.st_atime_ns, known.st_mtime_ns))
    fresh.replace(file.path)
    file.look()
    assert (file.look(), names(file)) == (True, ["Maria"])


@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        (METTE + PIA[:30], "ends in the middle of a card: what it held before still counts"),
        ("", "has no vCard in it: export the address book as vCard (.vcf)"),
        ("something else", "has no vCard in it: export the address book as vCard (.vcf)"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_the_old_book_stays_while_the_file_is_none(tmp_path: Path, content: str | None, trouble: str) -> None:
    file = File(a_file(tmp_path))
    file.look()
    file.path.unlink()
    if content is not None:
        a_file(tmp_path, content)
    for _ in range(3):
        assert (file.look(), names(file)) == (False, ["Mette"])
    assert file.trouble == trouble
    a_file(tmp_path, PIA)
    assert [file.look(), file.look()] == [False, True]
    assert (names(file), file.trouble) == (["Pia"], "")


def test_what_is_no_address_book_is_not_read_again_before_it_is_changed(tmp_path: Path) -> None:
    """A large one took most of a processor."""
    file = File(a_file(tmp_path, "no book at all"))
    assert (file.look(), file.trouble) == (False, NO_BOOK)
    known = file.path.stat()
    file.path.write_text(METTE[: known.st_size])
    os.utime(file.path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert [file.look(), file.look(), file.trouble] == [False, False, NO_BOOK]
    a_file(tmp_path, METTE)
    assert [file.look(), file.look(), file.trouble] == [False, True, ""]


@pytest.mark.parametrize(("content", "trouble"), [(METTE, ""), (METTE + PIA[:30], "ends in the middle of a card")])
def test_a_file_that_was_away_and_is_back_as_it_was_is_in_no_more_trouble(
    tmp_path: Path, content: str, trouble: str
) -> None:
    file = File(a_file(tmp_path, content))
    file.look()
    file.path.rename(tmp_path / "away")
    assert (file.look(), file.trouble) == (False, "cannot be read: No such file or directory")
    (tmp_path / "away").rename(file.path)
    assert (file.look(), names(file), file.trouble) == (False, ["Mette"], trouble)


def test_at_the_start_half_a_book_is_better_than_none(tmp_path: Path) -> None:
    file = File(a_file(tmp_path, METTE + PIA[:30]))
    assert (file.look(), names(file), file.trouble) == (True, ["Mette"], "ends in the middle of a card")


def test_a_pipe_in_a_file_s_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "contacts.vcf")
    file = File(tmp_path / "contacts.vcf")
    assert (file.look(), file.trouble) == (False, "is no file")


# ---- what is kept of a server ----

KEPT = Shelf("7", {"/a": Filed('"1"', Card(("Åse \ud800",), ("20305071",)))}, NOW, NOW, "no connection", NOW)


def test_a_shelf_is_kept_privately_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "contacts.cache"
    plain = Shelf("7", {"/a": Filed('"1"', Card(("Åse",), ("20305071",)))}, NOW, NOW, "no connection", NOW)
    shelf.save(path, "me https://a", plain)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert shelf.load(path, "me https://a") == plain
    shelf.save(path, "me https://a", KEPT)  # what a server sends may be no text
    assert shelf.load(path, "me https://a").version == "7"
    assert [found.name for found in tmp_path.iterdir()] == ["contacts.cache"]


@pytest.mark.parametrize(
    "content", [b"", b"null", b"{}", b"[" * 100_000, b'{"form": 1, "origin": "me https://a"}', b"\xff"]
)
def test_what_is_no_shelf_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "contacts.cache"
    assert shelf.load(path, "me https://a") == Shelf()
    path.write_bytes(content)
    assert shelf.load(path, "me https://a") == Shelf()


def test_another_address_book_s_shelf_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "contacts.cache"
    shelf.save(path, "me https://a", Shelf("7"))
    assert shelf.load(path, "me https://b") == Shelf()


# ---- all of it together ----


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Radicale]:
    with radicale(tmp_path) as running:
        yield running


def sources(folder: Path, *files: Path, carddav: CardDav | None = None) -> ContactSources:
    return ContactSources(tuple(map(str, files)), "DK", carddav or CardDav(), str(folder / "contacts.cache"))


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> Instant:
        return self.now


@asynccontextmanager
async def running(contacts: Contacts) -> AsyncIterator[None]:
    task = asyncio.create_task(contacts.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_book_is_there_as_soon_as_it_is_used(tmp_path: Path) -> None:
    contacts = Contacts(Time())
    await contacts.use(sources(tmp_path, a_file(tmp_path), a_file(tmp_path, ANNA + PIA, "more.vcf")))
    assert dict(contacts.book.names) == {NUMBER: "Mette", OTHER: "Pia"}
    await contacts.use(sources(tmp_path, a_file(tmp_path, ANNA, "more.vcf")))
    assert dict(contacts.book.names) == {NUMBER: "Anna", OTHER: "Pia"}  # known: not yet left alone
    await contacts.use(sources(tmp_path))
    assert dict(contacts.book.names) == {}


async def test_who_is_not_in_a_book_is_known_once_all_of_it_was_read(tmp_path: Path) -> None:
    contacts = Contacts(Time(), look_s=0.02)
    path, late = a_file(tmp_path), tmp_path / "late.vcf"
    await contacts.use(sources(tmp_path, path, late))
    async with running(contacts):
        assert (contacts.book.knows(NUMBER), contacts.book.knows(OTHER)) == (True, None)
        a_file(tmp_path, PIA[:-12], "late.vcf")
        await until(lambda: contacts.book.knows(OTHER) is True or contacts.files[1].trouble.startswith("ends"))
        assert contacts.book.knows("+4520305073") is None
        a_file(tmp_path, PIA, "late.vcf")
        await until(lambda: contacts.book.knows("+4520305073") is False)
        late.unlink()
        await until(lambda: bool(contacts.files[1].trouble))
        assert contacts.book.knows("+4520305073") is False, "what it held before still counts"
    await contacts.use(sources(tmp_path))
    assert contacts.book.knows(NUMBER) is False


async def test_who_is_not_in_a_server_s_book_is_known_once_it_answered(tmp_path: Path) -> None:
    contacts = Contacts(Time())
    with radicale(tmp_path) as server:
        contacts.read(sources(tmp_path, carddav=server.settings()))
        assert contacts.book.knows(OTHER) is None
        await contacts.synchronise()
    assert contacts.book.knows(OTHER) is False, "an empty book has nobody"


async def test_changes_of_a_file_are_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    contacts = Contacts(Time(), look_s=0.02)
    path = a_file(tmp_path)
    await contacts.use(sources(tmp_path, path))
    async with running(contacts):
        path.write_text("")
        await until(lambda: len(caplog.messages) == 1)
        path.write_text(ANNA)
        await until(lambda: contacts.book.name_of(NUMBER) == "Anna")
        await until(lambda: len(caplog.messages) == 2)
        await asyncio.sleep(0.1)
    assert caplog.messages == [
        f"contacts: {path}: has no vCard in it: export the address book as vCard (.vcf)",
        f"contacts: {path}: read again",
    ]


async def test_a_server_s_cards_come_by_themselves_behind_those_of_files(server: Radicale, tmp_path: Path) -> None:
    server.put("a", "FN:Anna", "TEL:20305071")
    server.put("b", "FN:Pia", "TEL:20305072")
    contacts = Contacts(Time())
    async with running(contacts):
        await contacts.use(sources(tmp_path, a_file(tmp_path), carddav=server.settings()))
        await until(lambda: contacts.book.name_of(OTHER) == "Pia")
    assert dict(contacts.book.names) == {NUMBER: "Mette", OTHER: "Pia"}


async def test_what_a_server_brought_is_there_without_it(tmp_path: Path) -> None:
    time = Time()
    with radicale(tmp_path) as server:
        server.put("a", "FN:Anna", "TEL:20305071")
        first = Contacts(time)
        first.read(sources(tmp_path, carddav=server.settings()))
        await first.synchronise()
    second = Contacts(time)
    await second.use(sources(tmp_path, carddav=server.settings()))
    assert second.book.name_of(NUMBER) == "Anna"
    assert (second.shelf.synchronised_at, second.due_in) == (NOW, HOUR)
    await second.synchronise()
    assert second.book.name_of(NUMBER) == "Anna"
    assert (second.shelf.synchronised_at, second.shelf.trouble) == (NOW, "no connection")


async def test_a_server_in_trouble_is_told_once_and_the_old_cards_stay(
    server: Radicale, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.put("a", "FN:Anna", "TEL:20305071")
    time = Time()
    contacts = Contacts(time, look_s=0.02)
    contacts.read(sources(tmp_path, carddav=server.settings()))
    await contacts.synchronise()
    wrong = sources(tmp_path, carddav=server.settings(password="another"))
    async with running(contacts):
        await contacts.use(wrong)  # asked at once: a person has changed it
        await until(lambda: bool(contacts.shelf.trouble))
        await until(lambda: len(caplog.messages) == 1)
        await asyncio.sleep(0.1)
        assert contacts.book.name_of(NUMBER) == "Anna"
        time.now += MINUTE
        await contacts.synchronise()
        assert (contacts.shelf.tried_at, contacts.shelf.trouble_since) == (NOW + MINUTE, NOW)
        await contacts.use(sources(tmp_path, carddav=server.settings()))
        await until(lambda: len(caplog.messages) == 2)
    assert caplog.messages == [
        "contacts: contacts.carddav: the user name or the password is not accepted (HTTP 401)",
        "contacts: contacts.carddav: read again",
    ]


async def test_when_a_server_is_asked_again(server: Radicale, tmp_path: Path) -> None:
    time = Time()
    contacts = Contacts(time)
    contacts.read(sources(tmp_path, carddav=server.settings(interval="2h")))
    assert contacts.due_in == 0
    await contacts.synchronise()
    assert contacts.due_in == 2 * HOUR
    time.now += HOUR
    assert contacts.due_in == HOUR
    time.now -= 10 * HOUR  # the clock was set back: never longer than the interval
    assert contacts.due_in == 2 * HOUR
    contacts.read(sources(tmp_path, carddav=server.settings(interval="2h", password="another")))
    await contacts.synchronise()
    assert contacts.due_in == 15 * MINUTE


async def test_a_cache_that_can_t_be_written_is_told_and_costs_no_name(
    server: Radicale, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.put("a", "FN:Anna", "TEL:20305071")
    contacts = Contacts(Time())
    contacts.read(ContactSources((), "DK", server.settings(), str(tmp_path / "gone" / "contacts.cache")))
    await contacts.synchronise()
    assert contacts.book.name_of(NUMBER) == "Anna"
    assert caplog.messages == ["contacts: contacts.cache: cannot be written: No such file or directory"]


async def test_what_another_server_says_after_a_reload_does_not_count(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(_: object) -> tuple[str, dict[str, str], bytes]:
        asked.set()
        go_on.wait(10)
        return "500 Oops", {}, b""

    with answering(answer) as slow:
        contacts = Contacts(Time())
        contacts.read(sources(tmp_path, carddav=slow.settings()))
        under_way = asyncio.create_task(contacts.synchronise())
        await asyncio.to_thread(asked.wait, 10)
        await contacts.use(sources(tmp_path))
        go_on.set()
        await under_way
    assert contacts.shelf == Shelf()
    assert not (tmp_path / "contacts.cache").exists()
