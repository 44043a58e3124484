"""A request and its answer, as everything here speaks of them. Pure."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
_ENCODER = json.JSONEncoder(ensure_ascii=False, indent=2)


async def _no_body() -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    """As it was sent, without the query."""
    query: Sequence[tuple[str, str]] = ()
    hosts: Sequence[str] = ()
    """Every Host header."""
    authorizations: Sequence[str] = ()
    """Every Authorization header."""
    accept: str = ""
    has_body: bool = False
    cookie: str = ""
    origin: str = ""
    site: str = ""
    """What the browser says of where the request comes from (Sec-Fetch-Site)."""
    languages: str = ""
    """Accept-Language."""
    content_type: str = ""
    known_tag: str = ""
    """If-None-Match."""
    body: Callable[[], Awaitable[bytes]] = _no_body
    """Reads a form's few bytes. Raises BodyError."""


class BodyError(Exception):
    """A body that is too long, too slow or broken."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes
    headers: Sequence[tuple[str, str]] = ()
    stream: Callable[[], AsyncGenerator[bytes, None]] | None = None
    """What goes on after the body, for as long as somebody reads it."""


def as_json(shape: Any, status: int = 200) -> Answer:
    return Answer(status, JSON, "".join(json_pieces(shape)).encode())


def json_pieces(shape: Any) -> Iterator[str]:
    yield from _ENCODER.iterencode(shape)
    yield "\n"


def refused(status: int, sentence: str, *headers: tuple[str, str]) -> Answer:
    shape = as_json({"error": sentence})
    return Answer(status, shape.content_type, shape.body, headers)
