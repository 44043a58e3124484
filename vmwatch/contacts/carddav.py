"""A CardDAV server's client (RFC 6352): asks whether one address book was changed, and fetches the cards that were.

Read only. The password travels with every request, so no redirect is followed to another host; and no foreign
exception leaves this file.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Self
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

import aiohttp
from yarl import URL

from vmwatch import __version__, multistatus, vcards
from vmwatch.contacts.shelf import Filed, Shelf
from vmwatch.multistatus import DAV, MultistatusError, Resource
from vmwatch.settings import CardDav
from vmwatch.vcards import Card, VcardError

LARGEST = 16 << 20
"""Bytes of one answer, unpacked."""
MOST_CARDS = 20_000
AT_ONCE = 100
"""Cards that one request asks for."""
REQUEST_S = 30.0
WHOLE_S = 300.0
"""How long all requests of one synchronisation may take together."""
_REDIRECTS = 3
_CARD = "{urn:ietf:params:xml:ns:carddav}"
_CTAG = "{http://calendarserver.org/ns/}getctag"
_HEAD = '<?xml version="1.0" encoding="utf-8"?>'
_NAMESPACES = 'xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:carddav" xmlns:CS="http://calendarserver.org/ns/"'
_ABOUT = f"{_HEAD}<D:propfind {_NAMESPACES}><D:prop><D:resourcetype/><CS:getctag/><D:sync-token/></D:prop></D:propfind>"
_LIST = f"{_HEAD}<D:propfind {_NAMESPACES}><D:prop><D:resourcetype/><D:getetag/></D:prop></D:propfind>"
_PROPERTIES = "".join(f'<C:prop name="{name}"/>' for name in ("VERSION", "UID", "FN", "N", "ORG", "NICKNAME", "TEL"))
_WORDS = {
    401: "the user name or the password is not accepted (HTTP 401)",
    403: "the server does not allow it (HTTP 403)",
    404: "there is nothing at this address (HTTP 404)",
    405: "there is no CardDAV server at this address (HTTP 405)",
}
_MULTI_STATUS = 207
_LARGE = "an answer is too large"


class CardDavError(Exception):
    """Why the address book can't be read just now, as the end of a sentence; without a URL, without their words."""


class _TooLargeError(CardDavError):
    pass


class Client:
    """One synchronisation's session with the server."""

    _session: aiohttp.ClientSession

    def __init__(self, settings: CardDav) -> None:
        self._url = URL(settings.url or "", encoded=True)
        self._headers = {
            "User-Agent": f"vmwatch/{__version__}",
            "Content-Type": "application/xml; charset=utf-8",
            **_login(settings),
        }

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=REQUEST_S, sock_connect=5.0),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # ~/.netrc would put another login in the place of ours
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def about(self) -> Resource:
        """The address book itself. Raises CardDavError, for one if there is none."""
        found = await self._ask("PROPFIND", _ABOUT, depth=0)
        book = next((each for each in found if f"{_CARD}addressbook" in each.kinds), None)
        if book is None:
            raise CardDavError("this is not the address of one address book")
        return book

    async def etags(self) -> dict[str, str]:
        """The version of each card there is. Raises CardDavError."""
        found = await self._ask("PROPFIND", _LIST, depth=1)
        etags = {each.href: each.properties.get(f"{DAV}getetag", "") for each in found if not each.kinds}
        if len(etags) > MOST_CARDS:
            raise CardDavError(f"it has more than {MOST_CARDS} cards")
        return etags

    async def cards(self, hrefs: tuple[str, ...]) -> dict[str, Card]:
        """These cards, but for those that are gone meanwhile. Raises CardDavError."""
        try:
            found = await self._ask("REPORT", _multiget(hrefs), depth=1)
        except _TooLargeError:
            return await self._fewer(hrefs)
        return await asyncio.to_thread(_read, found, hrefs)

    async def _fewer(self, hrefs: tuple[str, ...]) -> dict[str, Card]:
        """A card that is too large by itself has no numbers for us."""
        if len(hrefs) == 1:
            return {hrefs[0]: Card((), ())}
        half = len(hrefs) // 2
        return await self.cards(hrefs[:half]) | await self.cards(hrefs[half:])

    async def _ask(self, method: str, question: str, depth: int) -> tuple[Resource, ...]:
        try:
            body = await self._body(method, question, depth)
            return await asyncio.to_thread(multistatus.resources, body)
        except MultistatusError:
            words = "something other than a CardDAV server answered"
        except TimeoutError:
            words = "no whole answer in time"
        except (aiohttp.ClientError, OSError, ValueError):
            words = "no connection"
        raise CardDavError(words)

    async def _body(self, method: str, question: str, depth: int) -> bytes:
        headers = {"Depth": str(depth)}
        for _ in range(1 + _REDIRECTS):
            async with self._session.request(
                method, self._url, data=question.encode(), headers=headers, allow_redirects=False
            ) as answer:
                if answer.status == _MULTI_STATUS:
                    return await _whole(answer)
                if answer.status not in (301, 302, 307, 308):
                    raise CardDavError(_WORDS.get(answer.status, f"HTTP {answer.status}"))
                self._url = self._redirected(answer.headers.get("Location", ""))
        raise CardDavError("the server redirects in a circle")

    def _redirected(self, location: str) -> URL:
        target = self._url.join(URL(location, encoded=True))
        if target.origin() != self._url.origin():
            raise CardDavError("the server redirects to another host: set contacts.carddav.url to the address there")
        return target


def _login(settings: CardDav) -> dict[str, str]:
    if settings.user is None or settings.password is None:
        return {}
    login = f"{settings.user}:{settings.password.get_secret_value()}"
    return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}


async def synchronise(settings: CardDav, shelf: Shelf) -> Shelf:
    """The shelf as the server has it now; only what changed is fetched. Raises CardDavError."""
    try:
        async with asyncio.timeout(WHOLE_S), Client(settings) as client:
            return await _synchronised(client, shelf)
    except TimeoutError:
        words = f"it was not read within {WHOLE_S:.0f} s"
    raise CardDavError(words)


async def _synchronised(client: Client, shelf: Shelf) -> Shelf:
    version = _version(await client.about())
    if version and version == shelf.version:
        return shelf
    etags = await client.etags()
    kept = {href: filed for href, filed in shelf.cards.items() if etags.get(href) == filed.etag != ""}
    fresh: dict[str, Card] = {}
    wanted = tuple(href for href in etags if href not in kept)
    for first in range(0, len(wanted), AT_ONCE):
        fresh |= await client.cards(wanted[first : first + AT_ONCE])
    return replace(shelf, version=version, cards=kept | dict(_filed(fresh, etags)))


def _filed(cards: Mapping[str, Card], etags: Mapping[str, str]) -> Iterator[tuple[str, Filed]]:
    return ((href, Filed(etags[href], card)) for href, card in cards.items())


def _version(book: Resource) -> str:
    return book.properties.get(_CTAG) or book.properties.get(f"{DAV}sync-token") or ""


def _multiget(hrefs: Iterable[str]) -> str:
    wanted = "".join(f"<D:href>{escape(href)}</D:href>" for href in hrefs)
    return (
        f"{_HEAD}<C:addressbook-multiget {_NAMESPACES}><D:prop><D:getetag/>"
        f"<C:address-data>{_PROPERTIES}</C:address-data></D:prop>{wanted}</C:addressbook-multiget>"
    )


def _path(href: str) -> str:
    """Servers may spell the same name otherwise in another answer."""
    return unquote(urlsplit(href).path)


def _read(found: Iterable[Resource], hrefs: Iterable[str]) -> dict[str, Card]:
    by_path = {_path(each.href): each.properties.get(f"{_CARD}address-data") for each in found}
    texts = ((href, by_path.get(_path(href))) for href in hrefs)
    return {href: _card(text) for href, text in texts if text is not None}


def _card(text: str) -> Card:
    try:
        return next(iter(vcards.read(text.encode("utf-8", "replace")).cards), Card((), ()))
    except VcardError:
        return Card((), ())


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while part := await answer.content.readany():
        body += part
        if len(body) > LARGEST:
            raise _TooLargeError(_LARGE)
    return bytes(body)
