"""Who is logged in, and which forms are ours: signed values that only this process can make. Pure.

A cookie says until when it is good and is signed with a key that nobody else has: nothing is kept of who is logged in.
The key is of this process and of the token: another token, or another start, and everyone logs in anew.
"""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie

from vmwatch.models import HOUR, MINUTE, SECOND, Duration, Instant

NAME = "vmwatch"
LASTS: Duration = 12 * HOUR
GUESSES = 5
"""So many wrong tokens are looked at at once, and one more for each SLOW that passes."""
SLOW: Duration = MINUTE // 6


class Session:
    """`nonce` is random and this process's own; `token` is None where nobody is asked for one."""

    def __init__(self, nonce: bytes, token: str | None) -> None:
        self._key = hashlib.blake2b((token or "").encode(), key=nonce, digest_size=32).digest()

    def cookie(self, now: Instant) -> str:
        """What a browser is given that knows the token."""
        until = str(now + LASTS)
        return f"{until}.{self._signed('until', until)}"

    def knows(self, cookies: str, now: Instant) -> bool:
        """Whether one of a request's cookies is one of ours, and still good."""
        until, _, signature = cookie_of(cookies).partition(".")
        is_ours = _same(signature, self._signed("until", until))
        return is_ours and until.isdigit() and int(until) > now

    def form_key(self, cookies: str) -> str:
        """What a form has to send back: no other site can know it, for it can't read our pages."""
        return self._signed("form", cookie_of(cookies))

    def is_form_key(self, given: str, cookies: str) -> bool:
        return _same(given, self.form_key(cookies))

    def _signed(self, purpose: str, what: str) -> str:
        return hmac.new(self._key, f"{purpose}:{what}".encode(), "sha256").hexdigest()


class Guesses:
    """How many tokens may be tried: a few at once, then slowly. One count for all: addresses are easily had."""

    def __init__(self) -> None:
        self._wrong = 0.0
        self._at: Instant = 0

    def wait(self, now: Instant) -> int:
        """Seconds until another one is looked at."""
        self._wrong, self._at = max(0.0, self._wrong - max(0, now - self._at) / SLOW), now
        over = self._wrong - (GUESSES - 1)
        return max(0, -(-int(over * SLOW) // SECOND))

    def wrong(self) -> None:
        self._wrong += 1


def cookie_of(header: str, name: str = NAME) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _same(given: str, right: str) -> bool:
    """Constant in time: how soon a guess is wrong must not tell how much of it is right."""
    return hmac.compare_digest(given.encode(errors="surrogateescape"), right.encode())
