"""A request and its answer, as everything here speaks of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes
    headers: Sequence[tuple[str, str]] = ()


def as_json(shape: Any, status: int = 200) -> Answer:
    return Answer(status, "application/json", (json.dumps(shape, ensure_ascii=False, indent=2) + "\n").encode())


def refused(status: int, sentence: str, *headers: tuple[str, str]) -> Answer:
    shape = as_json({"error": sentence})
    return Answer(status, shape.content_type, shape.body, headers)
