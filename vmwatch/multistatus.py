"""Reads what a WebDAV server answers to PROPFIND and REPORT (RFC 4918, 14.16): XML becomes a row for each resource.

Pure. A document type is refused: no server has one in such an answer, and entities in it are how a short text
becomes a gigabyte. So are more elements than any address book has: each takes thirty times the memory of its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

DAV = "{DAV:}"
MOST_ELEMENTS = 500_000
"""A card's row in a listing has a dozen."""


class MultistatusError(Exception):
    """The answer is not XML of that form. It has no text: what a server sends is not repeated."""


@dataclass(frozen=True, slots=True)
class Resource:
    href: str
    properties: Mapping[str, str]
    """Texts by name, `{DAV:}getetag` for one; only those that the server says are there."""
    kinds: frozenset[str]
    """The names in its resourcetype."""


class _Bounded(ET.TreeBuilder):
    elements = 0

    def start(self, tag: Any, attrs: dict[Any, Any]) -> ET.Element:
        self.elements += 1
        if self.elements > MOST_ELEMENTS:
            raise MultistatusError
        return super().start(tag, attrs)

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise MultistatusError


def resources(body: bytes) -> tuple[Resource, ...]:
    """Raises MultistatusError."""
    parser = ET.XMLParser(target=_Bounded())  # noqa: S314 - see above
    try:
        parser.feed(body)
        root = parser.close()
    except (ET.ParseError, ValueError, RecursionError):
        raise MultistatusError from None
    if root.tag != f"{DAV}multistatus":
        raise MultistatusError
    return tuple(_resource(response) for response in root.iterfind(f"{DAV}response"))


def _resource(response: ET.Element) -> Resource:
    href = (response.findtext(f"{DAV}href") or "").strip()
    found = [
        prop for propstat in response.iterfind(f"{DAV}propstat") if _is_there(propstat) for prop in _props(propstat)
    ]
    kinds = frozenset(kind.tag for prop in found if prop.tag == f"{DAV}resourcetype" for kind in prop)
    return Resource(href, {prop.tag: prop.text or "" for prop in found}, kinds)


def _is_there(propstat: ET.Element) -> bool:
    return " 200" in (propstat.findtext(f"{DAV}status") or "")


def _props(propstat: ET.Element) -> list[ET.Element]:
    prop = propstat.find(f"{DAV}prop")
    return [] if prop is None else list(prop)
