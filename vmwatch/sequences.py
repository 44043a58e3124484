"""What an alert about messages is known by on a channel that shows one in the place of another. Pure.

Alerts about the same messages have the same name there, in every process and after every restart: so a reminder
replaces the announcement, and what was sent twice is shown once.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def about(messages: Iterable[tuple[str, str]]) -> str:
    """Messages, each a line's number and an id, in one word; the same for the same messages in any order."""
    listed = sorted(f"{number}\0{id_}" for number, id_ in messages)
    return blake2b("\n".join(listed).encode(), digest_size=16).hexdigest()


def name(salt: bytes, channel: str, about: str) -> str:
    """24 hex digits of a keyed hash: who reads it at the service learns neither line nor message nor channel.

    The salt is the store's, which is the key of the PIN tags too; `person` keeps the two apart.
    """
    told = f"{channel}\0{about}".encode()
    return blake2b(told, key=salt, digest_size=12, person=b"sequence").hexdigest()
