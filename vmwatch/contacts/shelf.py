"""What CardDAV brought, kept in a private file: it is there after a restart, and when the server is not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vmwatch.models import Instant
from vmwatch.vcards import Card

_FORM = 1
"""Another number wherever cards are read otherwise: all of them are fetched again then."""


@dataclass(frozen=True, slots=True)
class Filed:
    """One card of the server's, and its version there."""

    etag: str
    card: Card


@dataclass(frozen=True, slots=True)
class Shelf:
    """An address book as the server had it, and what became of the last attempt to ask."""

    version: str = ""
    """The server's own word for the state of the whole book (ctag or sync-token); empty: it has none."""
    cards: Mapping[str, Filed] = field(default_factory=dict)
    """By the server's name for each (href)."""
    synchronised_at: Instant | None = None
    tried_at: Instant | None = None
    trouble: str = ""
    trouble_since: Instant | None = None

    def in_order(self) -> tuple[Card, ...]:
        return tuple(self.cards[href].card for href in sorted(self.cards))


def load(path: Path, origin: str) -> Shelf:
    """What was saved for the same address book (`origin`), else an empty shelf: then everything is fetched again."""
    try:
        found = json.loads(path.read_bytes())
        if (found["form"], found["origin"]) != (_FORM, origin):
            return Shelf()
        return _shelf(found["shelf"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Shelf()


def save(path: Path, origin: str, shelf: Shelf) -> None:
    """In one step, readable for the owner only. Raises OSError."""
    content = json.dumps({"form": _FORM, "origin": origin, "shelf": asdict(shelf)}, ensure_ascii=False)
    part = path.with_name(f"{path.name}.part")
    with suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        _give_to_owner_of(path.parent, descriptor)
        file.write(content.encode("utf-8", "replace"))
    part.replace(path)


def _give_to_owner_of(folder: Path, descriptor: int) -> None:
    """What root's verbs make in a daemon's folder is the daemon's."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _shelf(found: dict[str, Any]) -> Shelf:
    cards = {
        href: Filed(filed["etag"], Card(tuple(filed["card"]["names"]), tuple(filed["card"]["numbers"])))
        for href, filed in found.pop("cards").items()
    }
    return Shelf(cards=cards, **found)
