"""Noticing a changed PIN without keeping it. Pure."""

from __future__ import annotations

from hashlib import blake2b

UNKNOWN = -1
"""The tag of a line whose store was restored from a backup: which PIN its standing speaks of was not kept."""


def spent(tags: str, tag: int) -> str:
    """The tags with this one among them."""
    return " ".join(sorted({*tags.split(), str(tag)}))


def unspent(tags: str, tag: int) -> str:
    """The tags without this one."""
    return " ".join(one for one in tags.split() if one != str(tag))


def tag(salt: bytes, base_url: str, number: str, pin: str) -> int:
    """One byte of a keyed hash: a changed PIN is noticed 255 times in 256, and the ledger holds nothing worth having.

    A full hash of a 4-digit PIN is undone in milliseconds wherever its key lies beside it. One byte leaves an
    attacker with forty of the 10,000 PINs to tell apart, which only a login could do. The operator's address is
    part of it, for a PIN that one operator accepted is not yet trusted with another.
    """
    secret = "\0".join((base_url, number, pin)).encode()
    return blake2b(secret, key=salt, digest_size=1).digest()[0]
