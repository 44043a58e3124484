"""Links in alerts that do one thing about one voicemail: made, and read again. Pure.

A link is `PUBLIC_URL/ack/CONTENT.SIGNATURE`, or `/snooze/`. Its content is until when it is good, a tag of the line's
number and the message's id; its signature (HMAC-SHA256, cut to 128 bits) is the permission, to do that one thing and
nothing else. No secret is in it, and no number. Base32 in small letters, for many a service draws markup, and takes
the signs of base64 for some.
"""

from __future__ import annotations

import hmac
from base64 import b32decode, b32encode
from dataclasses import dataclass, field
from enum import StrEnum

from vmwatch.models import DAY, NO_LINKS, SECOND, Act, Alert, Duration, Instant, Kind, Links

LASTS: Duration = 7 * DAY
MOST_ID = 40
"""Bytes of a message's id; the operator's have 24. There are no links for longer ones, or they would be long."""
LONGEST = 200
"""Characters of a link's path; whatever is longer is not looked at."""

_TOLD = frozenset({Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_REMINDER, Kind.VOICEMAIL_ESCALATED})
_UNTIL, _TAG, _SIGNATURE = 5, 4, 16
"""Bytes: seconds since 1970, of the line's number, of the signature."""


class Refused(StrEnum):
    """Why a link is not followed."""

    FORGED = "forged"
    """Not signed by us for this, or not whole."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Permit:
    """What the holder of a link may do, and to which message."""

    act: Act
    message: str
    """Its id."""
    tag: bytes
    """Of the number of its line."""


@dataclass(frozen=True, slots=True)
class Signing:
    """`base` is `web.public_url`; without one, or without a key, there are no links."""

    base: str = ""
    key: bytes = field(default=b"", repr=False)

    def links(self, alert: Alert, now: Instant) -> Links:
        """For an alert of exactly one voicemail that waits to be heard."""
        id_ = _only(alert)
        if not (self.base and self.key and alert.number and id_) or len(id_.encode(errors="surrogatepass")) > MOST_ID:
            return NO_LINKS
        paths = (path(act, alert.number, id_, now + LASTS, self.key) for act in (Act.ACK, Act.SNOOZE))
        return Links(*(self.base + one for one in paths))


def samples(base: str, alert: Alert) -> Links:
    """Where an alert's links would stand, as they are shown by `preview`: nobody can use them."""
    if not base or not _only(alert):
        return NO_LINKS
    return Links(*(f"{base}/{act}/sample" for act in (Act.ACK, Act.SNOOZE)))


def _only(alert: Alert) -> str:
    """The id of the one voicemail that an alert tells of; of several, or of something else, none."""
    is_one = alert.kind in _TOLD and alert.count == len(alert.voicemails) == 1
    return alert.voicemails[0].id if is_one else ""


def path(act: Act, number: str, message: str, until: Instant, key: bytes) -> str:
    """The path that lets whoever has it do one thing about one message until an instant."""
    content = (until // SECOND).to_bytes(_UNTIL) + tag(number, key) + message.encode(errors="surrogatepass")
    spelled = _spelled(content)
    return f"/{act}/{spelled}.{_signature(act, spelled, key)}"


def act_of(path_: str) -> Act | None:
    """What a path is for, if it can be a link's at all."""
    return next((act for act in Act if path_.startswith(f"/{act}/")), None)


def read(path_: str, key: bytes, now: Instant) -> Permit | Refused:
    """What a path permits, or why nothing. Total: it may come from anybody. Without a key there is no link."""
    act = act_of(path_)
    if act is None or not key or len(path_) > LONGEST:
        return Refused.FORGED
    spelled, _, signature = path_.removeprefix(f"/{act}/").partition(".")
    # Constant in time: how soon a guess is wrong must not tell how much of it is right.
    right = _signature(act, spelled, key)
    if not hmac.compare_digest(signature.encode(errors="replace"), right.encode()):
        return Refused.FORGED
    content = b32decode(spelled.upper() + "=" * (-len(spelled) % 8))
    until = int.from_bytes(content[:_UNTIL]) * SECOND
    if now >= until:
        return Refused.EXPIRED
    rest = content[_UNTIL:]
    return Permit(act, rest[_TAG:].decode(errors="surrogatepass"), rest[:_TAG])


def tag(number: str, key: bytes) -> bytes:
    """Tells lines apart, and nobody without the key which number it is."""
    return _keyed(key, f"line:{number}")[:_TAG]


def _signature(act: Act, spelled: str, key: bytes) -> str:
    return _spelled(_keyed(key, f"link:{act}:{spelled}")[:_SIGNATURE])


def _keyed(key: bytes, words: str) -> bytes:
    return hmac.digest(key, words.encode(errors="surrogatepass"), "sha256")


def _spelled(content: bytes) -> str:
    return b32encode(content).decode().rstrip("=").lower()
