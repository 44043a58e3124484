"""Contacts of a CardDAV server: Radicale, and servers that do everything wrong. Only what changed is fetched."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from address_books import PASSWORD, USER, Asked, Radicale, answering, radicale

from vmwatch.contacts import carddav
from vmwatch.contacts.carddav import CardDavError, synchronise
from vmwatch.contacts.shelf import Shelf
from vmwatch.multistatus import MOST_ELEMENTS, MultistatusError, Resource, resources
from vmwatch.vcards import Card

Answer = tuple[str, dict[str, str], bytes]
DAV_AND_CARD = 'xmlns:d="DAV:" xmlns:card="urn:ietf:params:xml:ns:carddav" xmlns:cs="http://calendarserver.org/ns/"'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Radicale]:
    with radicale(tmp_path) as running:
        yield running


def names_of(shelf: Shelf) -> dict[str, tuple[str, ...]]:
    return {card.names[0]: card.numbers for card in shelf.in_order()}


async def test_the_cards_of_a_server_are_fetched(server: Radicale) -> None:
    server.put("mette.vcf", "FN:Mette Sørensen", "TEL;TYPE=CELL:+45 20 30 50 71")
    server.put("åse & co.vcf", "FN:Åse & Co", "TEL:86 12 34 56", "NOTE:" + "x" * 1000)
    shelf = await synchronise(server.settings(), Shelf())
    assert names_of(shelf) == {"Mette Sørensen": ("+45 20 30 50 71",), "Åse & Co": ("86 12 34 56",)}
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert {asked.authorization for asked in server.record} == {f"Basic {login}"}


async def test_an_unchanged_book_costs_one_question(server: Radicale) -> None:
    server.put("mette.vcf", "FN:Mette", "TEL:20305071")
    shelf = await synchronise(server.settings(), Shelf())
    server.record.clear()
    assert await synchronise(server.settings(), shelf) == shelf
    assert server.methods == ["PROPFIND"]


async def test_only_what_changed_is_fetched(server: Radicale) -> None:
    for name in ("a", "b", "c"):
        server.put(f"{name}.vcf", f"FN:{name}", "TEL:20305071")
    shelf = await synchronise(server.settings(), Shelf())
    server.put("b.vcf", "FN:b", "TEL:20305072")
    server.put("d.vcf", "FN:d", "TEL:20305073")
    server.delete("c.vcf")
    shelf = await synchronise(server.settings(), shelf)
    assert names_of(shelf) == {"a": ("20305071",), "b": ("20305072",), "d": ("20305073",)}
    (fetched,) = [asked for asked in server.record if asked.method == "REPORT"]
    assert sorted(href.rpartition("/")[2] for href in fetched.hrefs) == ["b.vcf", "d.vcf"]


async def test_many_cards_are_fetched_a_hundred_at_a_time(server: Radicale) -> None:
    for number in range(carddav.AT_ONCE + 1):
        server.put(f"{number}.vcf", f"FN:Nr {number}", f"TEL:{20_000_000 + number}")
    shelf = await synchronise(server.settings(), Shelf())
    assert len(shelf.cards) == carddav.AT_ONCE + 1
    assert [len(asked.hrefs) for asked in server.record if asked.method == "REPORT"] == [carddav.AT_ONCE, 1]


async def test_a_wrong_password_is_told_without_it(server: Radicale) -> None:
    with pytest.raises(CardDavError) as caught:
        await synchronise(server.settings(password="another-hidden"), Shelf())
    assert str(caught.value) == "the user name or the password is not accepted (HTTP 401)"
    assert server.methods == ["PROPFIND"]


async def test_what_is_no_address_book_is_told(server: Radicale) -> None:
    for url, words in {
        server.url.removesuffix("contacts/"): "this is not the address of one address book",
        server.url + "gone/": "there is nothing at this address (HTTP 404)",
    }.items():
        with pytest.raises(CardDavError) as caught:
            await synchronise(server.settings(url=url), Shelf())
        assert str(caught.value) == words


# ---- servers that do everything wrong ----


def multistatus(*responses: str) -> Answer:
    body = f'<?xml version="1.0"?><d:multistatus {DAV_AND_CARD}>{"".join(responses)}</d:multistatus>'
    return "207 Multi-Status", {"Content-Type": "application/xml"}, body.encode()


def response(href: str, properties: str, status: str = "200 OK") -> str:
    found = f"<d:propstat><d:prop>{properties}</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>"
    return f"<d:response><d:href>{href}</d:href>{found}</d:response>"


BOOK = "<d:resourcetype><d:collection/><card:addressbook/></d:resourcetype>"


def a_card(name: str, more: str = "") -> str:
    text = f"BEGIN:VCARD\nFN:{name}\nTEL:20305071\n{more}END:VCARD\n"
    return f"<d:getetag>1</d:getetag><card:address-data>{text}</card:address-data>"


def a_book(fetch: Callable[[Asked], Answer], *hrefs: str, version: str = "") -> Callable[[Asked], Answer]:
    """Of a server that has cards by these names, and answers with `fetch` when they are asked for."""

    def answer(asked: Asked) -> Answer:
        if asked.method == "REPORT":
            return fetch(asked)
        book = response("/book/", BOOK + version)
        if asked.depth == "0":
            return multistatus(book)
        listed = (response(href, "<d:resourcetype/><d:getetag>1</d:getetag>") for href in hrefs)
        return multistatus(book, *listed)

    return answer


async def test_without_any_version_of_the_book_only_etags_count() -> None:
    def fetch(asked: Asked) -> Answer:
        return multistatus(*(response(href, a_card(href)) for href in asked.hrefs))

    with answering(a_book(fetch, "/book/a", "/book/b")) as server:
        shelf = await synchronise(server.settings(), Shelf())
        assert len(shelf.cards) == 2
        await synchronise(server.settings(), shelf)
        assert server.methods == ["PROPFIND", "PROPFIND", "REPORT", "PROPFIND", "PROPFIND"]


async def test_the_sync_token_serves_where_there_is_no_ctag() -> None:
    with answering(a_book(lambda _: multistatus(), version="<d:sync-token>7</d:sync-token>")) as server:
        assert (await synchronise(server.settings(), Shelf())).version == "7"


async def test_names_may_be_spelled_otherwise_in_another_answer() -> None:
    def fetch(asked: Asked) -> Answer:
        return multistatus(response("http://127.0.0.1/book/a@b%20c", a_card("Mette")))

    with answering(a_book(fetch, "/book/a%40b%20c")) as server:
        assert names_of(await synchronise(server.settings(), Shelf())) == {"Mette": ("20305071",)}


async def test_a_name_with_signs_of_xml_in_it_is_asked_for_as_it_is() -> None:
    def fetch(asked: Asked) -> Answer:
        assert asked.hrefs == ["/book/a&amp;b"]
        return multistatus(response("/book/a&amp;b", a_card("Mette")))

    with answering(a_book(fetch, "/book/a&amp;b")) as server:
        assert list((await synchronise(server.settings(), Shelf())).cards) == ["/book/a&b"]


async def test_a_card_that_is_gone_or_makes_no_sense_hides_nobody() -> None:
    def fetch(asked: Asked) -> Answer:
        nonsense = "<card:address-data>nonsense</card:address-data>"
        return multistatus(
            response("/book/a", a_card("Mette")),
            response("/book/b", "", "404 Not Found"),
            response("/book/c", nonsense),
            response("/book/never-asked-for", a_card("Nobody")),
        )

    with answering(a_book(fetch, "/book/a", "/book/b", "/book/c")) as server:
        shelf = await synchronise(server.settings(), Shelf())
    assert {href: filed.card.names for href, filed in shelf.cards.items()} == {"/book/a": ("Mette",), "/book/c": ()}


async def test_an_answer_that_is_too_large_is_asked_for_in_parts() -> None:
    """A server that sends pictures although it was not asked for them."""

    def fetch(asked: Asked) -> Answer:
        size = {"/book/huge": carddav.LARGEST}.get
        cards = (
            response(href, a_card(href, f"PHOTO:{'x' * size(href, carddav.LARGEST // 3)}\n")) for href in asked.hrefs
        )
        return multistatus(*cards)

    with answering(a_book(fetch, "/book/a", "/book/b", "/book/huge", "/book/c")) as server:
        shelf = await synchronise(server.settings(), Shelf())
    assert {href: filed.card for href, filed in shelf.cards.items()} == {
        "/book/huge": Card((), ()),
        **{f"/book/{name}": Card((f"/book/{name}",), ("20305071",)) for name in "abc"},
    }


async def test_a_redirect_on_the_same_host_is_followed() -> None:
    book = a_book(lambda _: multistatus())
    moved = ("301 Moved", {"Location": "/elsewhere/"}, b"")
    with answering(lambda asked: moved if len(server.record) == 1 else book(asked)) as server:
        await synchronise(server.settings(), Shelf())
        assert len(server.record) == 3


@pytest.mark.parametrize("location", ["https://dav.example.com/book/", "http://127.0.0.1:9/book/", "//localhost/"])
async def test_the_password_does_not_follow_a_redirect_to_another_host(location: str) -> None:
    with (
        answering(lambda _: ("302 Found", {"Location": location}, b"")) as server,
        pytest.raises(CardDavError, match=r"^the server redirects to another host: set contacts.carddav.url"),
    ):
        await synchronise(server.settings(), Shelf())


BILLION = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<d:multistatus xmlns:d="DAV:"><d:response><d:href>&b;</d:href></d:response></d:multistatus>"""


def test_an_answer_of_nothing_but_elements_does_not_fill_the_memory() -> None:
    def told(count: int) -> bytes:
        return b'<d:multistatus xmlns:d="DAV:">' + count * b"<d:a/>" + b"</d:multistatus>"

    assert resources(told(MOST_ELEMENTS - 1)) == ()
    with pytest.raises(MultistatusError):
        resources(told(MOST_ELEMENTS))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("302 Found", {"Location": "/book/"}, b""), "the server redirects in a circle"),
        (("302 Found", {"Location": "http://[/"}, b""), "no connection"),
        (("403 Forbidden", {}, b""), "the server does not allow it (HTTP 403)"),
        (("500 Oops", {}, b"hidden-p\xc3\xa4ssword"), "HTTP 500"),
        (("200 OK", {}, b"<html>"), "HTTP 200"),
        (("207 Multi-Status", {}, b"<html>"), "something other than a CardDAV server answered"),
        (("207 Multi-Status", {}, b"<html/>"), "something other than a CardDAV server answered"),
        (("207 Multi-Status", {}, BILLION), "something other than a CardDAV server answered"),
        (("207 Multi-Status", {}, b" " * (carddav.LARGEST + 1)), "an answer is too large"),
        (multistatus(), "this is not the address of one address book"),
    ],
)
async def test_whatever_a_server_answers_it_is_one_sentence(answer: Answer, words: str) -> None:
    with answering(lambda _: answer) as server, pytest.raises(CardDavError) as caught:
        await synchronise(server.settings(), Shelf())
    assert str(caught.value) == words
    assert caught.value.__cause__ is None
    assert "hidden" not in repr(caught.value)


async def test_too_many_cards_are_refused() -> None:
    hrefs = [f"/book/{number}" for number in range(carddav.MOST_CARDS + 1)]
    with (
        answering(a_book(lambda _: multistatus(), *hrefs)) as server,
        pytest.raises(CardDavError, match=r"^it has more than 20000 cards$"),
    ):
        await synchronise(server.settings(), Shelf())


async def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with answering(lambda _: multistatus()) as server:
        settings = server.settings()
    with pytest.raises(CardDavError, match=r"^no connection$"):
        await synchronise(settings, Shelf())


def test_an_answer_is_read_whatever_its_prefixes_are() -> None:
    body = (
        '<multistatus xmlns="DAV:"><response><href> /book/ </href>'
        "<propstat><prop><getetag>1</getetag><resourcetype><collection/></resourcetype></prop>"
        "<status>HTTP/1.1 200 OK</status></propstat>"
        "<propstat><prop><sync-token/></prop><status>HTTP/1.1 404 Not Found</status></propstat>"
        "</response><response/></multistatus>"
    )
    assert resources(body.encode()) == (
        Resource("/book/", {"{DAV:}getetag": "1", "{DAV:}resourcetype": ""}, frozenset({"{DAV:}collection"})),
        Resource("", {}, frozenset()),
    )


@pytest.mark.parametrize("body", [b"", b"<", BILLION, BILLION.decode().encode("utf-16"), b"<a/>", b"\xff\xfe"])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(MultistatusError):
        resources(body)
