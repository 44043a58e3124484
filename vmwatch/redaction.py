"""Finding the configuration's secrets in a text, however they are spelled. Pure: the log's second line of defence."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl, unquote

from vmwatch.models import DeliveryState, Kind, LineState, Reason

SECRET = "<secret>"  # noqa: S105 - what is written in a secret's place
SHORTEST_PART = 6
SHORTEST_LOGIN = 4
"""Characters of a part of a channel's URL; shorter ones would take words out of every sentence."""

# A PIN always stands behind a number in the operator's path, whoever printed it and however it was quoted.
_PATH = re.compile(r"((?:\+|%2B)?[0-9]{6,15}(?:/|%2F))[0-9]{4,10}(?![0-9])", re.IGNORECASE)
# Whoever has a link of an alert may do what it is for: it is told which kind it was, and no more.
_SIGNED = re.compile(r"(/(?:ack|snooze)/)[a-z2-7]{8,}(?:\.[a-z2-7]*)?", re.IGNORECASE)
# A PIN must not garble longer numbers, nor a short one a word that has digits in it.
_PIN = re.compile(r"[0-9]{4,10}")
_DIGITS = re.compile(r"(?<![0-9])[0-9]{6,10}(?![0-9])|(?<![0-9A-Za-z])[0-9]{4,5}(?![0-9A-Za-z])")
_WORD = re.compile(r"[^\s\"'<>(),]+")
_WRAPPED = re.compile(r"[%\\A-Z0-9]")
"""Whether a word can be one that hides another: base64 of anything worth hiding has capitals or digits."""
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|(.))")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{6,}")
_PLACES = ("localhost", "127.0.0.1", "[::1]")
_HOW = frozenset(
    {"cto", "emojis", "format", "image", "method", "mode", "optional", "overflow", "redirect", "retry", "rto"}
    | {"store", "verify", "wait"}
)
"""Apprise's options that say how to send, not where."""
_OUR_WORDS = frozenset(
    word
    for kind in (DeliveryState, Kind, LineState, Reason)
    for choice in kind
    for word in (choice.value, *re.split(r"[._]", choice.value))
)
"""A webhook's path may be `/voicemail`: that must not take the word out of every entry."""


class Redaction:
    """Replaces secrets in a text; the secrets may be changed at a reload, the old ones stay known.

    Known are PINs (digits), channels' URLs and their parts that open something: user, password, token, topic;
    each also URL-quoted, escaped as in a repr or in JSON, and within base64.
    """

    def __init__(self, secrets: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        self._pins: set[str] = set()
        self._urls: set[str] = set()
        self._spoken = set(_OUR_WORDS)
        self._pattern: re.Pattern[str] | None = None
        self.add(secrets, names)

    def add(self, secrets: Iterable[str], names: Iterable[str] = ()) -> None:
        """`names` of lines and channels are no secrets, even if a channel's URL has one in its path."""
        for secret in filter(None, secrets):
            (self._pins if _PIN.fullmatch(secret) else self._urls).add(secret)
        self._spoken.update(names)
        words = {word for url in self._urls for word in (url, *(set(_parts(url)) - self._spoken))}
        longest_first = sorted(words, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(map(_bounded, longest_first))) if words else None

    def __call__(self, text: str) -> str:
        return _WORD.sub(self._unwrapped, self._plain(text))

    def _plain(self, text: str) -> str:
        text = _SIGNED.sub(rf"\g<1>{SECRET}", _PATH.sub(rf"\g<1>{SECRET}", text))
        text = self._pattern.sub(SECRET, text) if self._pattern else text
        return _DIGITS.sub(self._unless_pin, text) if self._pins else text

    def _unless_pin(self, found: re.Match[str]) -> str:
        return SECRET if found[0] in self._pins else found[0]

    def _unwrapped(self, found: re.Match[str]) -> str:
        """The word as it is, unless it hides a secret: then what it hides, redacted."""
        word = found[0]
        if not _WRAPPED.search(word):
            return word
        for unwrapped in (*_layers(word, unquote), *_layers(word, _unescaped)):
            redacted = self._plain(unwrapped)
            if redacted != unwrapped:
                return redacted
        return _BASE64.sub(self._decoded, word)

    def _decoded(self, found: re.Match[str]) -> str:
        return SECRET if any(self._plain(inner) != inner for inner in _from_base64(found[0])) else found[0]


def _bounded(word: str) -> str:
    """A word or a number only where it stands alone; a token anywhere, for services glue their own words to it."""
    touching = "[0-9A-Za-z]" if word.isalpha() else "[0-9]"
    alone = word.isalpha() or word.isdigit()
    return rf"(?<!{touching}){re.escape(word)}(?!{touching})" if alone else re.escape(word)


def _parts(url: str) -> Iterator[str]:
    """What opens something in a channel's URL, by itself: `scheme://user:password@host/token/token?key=value`."""
    place, _, query = url.partition("://")[2].partition("?")
    login, _, path = place.rpartition("@")
    values = [value for name, value in parse_qsl(query) if name.lower() not in _HOW]
    yield from _long(re.split(r"[:/]", login), SHORTEST_LOGIN)
    yield from _long([*re.split(r"[:/]", path), *values], SHORTEST_PART)


def _long(words: Iterable[str], shortest: int) -> Iterator[str]:
    for word in words:
        for spelled in {word, unquote(word), unquote(word).lstrip("#@+")}:
            if len(spelled) >= shortest and spelled not in _PLACES:
                yield spelled


def _layers(word: str, peel: Callable[[str], str]) -> Iterator[str]:
    """What is left after peeling once, twice and three times, as long as that changes anything."""
    for _ in range(3):
        peeled = peel(word)
        if peeled == word:
            return
        yield peeled
        word = peeled


def _unescaped(word: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)) if not found[3] else found[3], word)


def _from_base64(word: str) -> Iterator[str]:
    """What a run of base64 holds, from each of the four places in which one of its groups may begin."""
    run = word.translate({ord("+"): "-", ord("/"): "_"})
    for start in range(4):
        group = run[start : len(run) - (len(run) - start) % 4]
        whole = run[start:] + "=" * (-len(run[start:]) % 4)
        yield urlsafe_b64decode(group if len(run[start:]) % 4 == 1 else whole).decode("latin-1")
