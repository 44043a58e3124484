"""Reads address books: vCard 2.1, 3.0 (RFC 2426) and 4.0 (RFC 6350), as phones and programs really write them.

Pure. Of each card only what tells who a number belongs to is taken; whatever else is in it is not looked at.
"""

from __future__ import annotations

import codecs
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LARGEST = 64 << 20
"""Bytes of an address book: pictures are in it."""
MOST_CARDS = 50_000
_MOST_NUMBERS = 100
_LONGEST = 1000
"""Characters of a value that are looked at."""
_LONGEST_ENCODED = 4 * _LONGEST

# Each takes time in proportion to what is read: nothing in them can match the same blanks in two ways.
_FOLD = re.compile(rb"\n[ \t]")
_WANTED = re.compile(
    r"^[ \t]*(?:[\w-]+\.)?(BEGIN|END|FN|N|ORG|NICKNAME|TEL)[ \t]*"
    r'((?:;[^:;"\n]*(?:"[^"\n]*"[^:;"\n]*)*)*):(.*)$',
    re.IGNORECASE | re.MULTILINE,
)
_ANY_CARD = re.compile(rb"^[ \t]*BEGIN[ \t]*:[ \t]*VCARD[ \t]*$", re.IGNORECASE | re.MULTILINE)
_QUOTED_PRINTABLE = "QUOTED-PRINTABLE"
_CHARSET = re.compile(r";CHARSET=\"?([\w-]{1,40})", re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)")
_PARTS = re.compile(r"(?<!\\);")
_LISTED = re.compile(r"(?<!\\),")


class VcardError(Exception):
    """Why this is no address book, as the end of a sentence that has named it."""


@dataclass(frozen=True, slots=True)
class Card:
    names: tuple[str, ...]
    """What the card's owner may be called, the best first."""
    numbers: tuple[str, ...]
    """As they were written: national or international, with or without `tel:`."""


@dataclass(frozen=True, slots=True)
class Cards:
    cards: tuple[Card, ...]
    whole: bool
    """False where the last card has no end: somebody is still writing."""


@dataclass(slots=True)
class _Open:
    """A card whose END was not read yet."""

    values: dict[str, list[str]] = field(default_factory=lambda: {"FN": [], "N": [], "ORG": [], "NICKNAME": []})
    numbers: list[str] = field(default_factory=list)

    def add(self, name: str, value: str) -> None:
        if name in self.values:
            self.values[name].append(value)
        elif name == "TEL" and len(self.numbers) < _MOST_NUMBERS:
            self.numbers.append(_plain(value))

    def closed(self) -> Card:
        spelled = {"FN": _plain, "N": _person, "ORG": _first, "NICKNAME": _nickname}
        found = (spelled[name](value) for name, values in self.values.items() for value in values)
        return Card(tuple(name for name in found if name), tuple(number for number in self.numbers if number))


def read(content: bytes) -> Cards:
    """Every card of an address book, in its order. Raises VcardError; a card that makes no sense has no numbers."""
    against = objection(content)
    if against is not None:
        raise VcardError(against)
    cards: list[Card] = []
    current: _Open | None = None
    for name, value in _properties(_text(content)):
        if name in ("BEGIN", "END") and current is not None:
            cards.append(current.closed())
            current = None
        if name == "BEGIN":
            current = _Open()
        elif current is not None:
            current.add(name, value)
        if len(cards) > MOST_CARDS:
            raise VcardError(f"has more than {MOST_CARDS} cards")
    return Cards(tuple(cards), whole=current is None)


def objection(beginning: bytes) -> str | None:
    """Why what begins like this is no address book; None where it is one."""
    text = _plain_bytes(beginning)
    if _ANY_CARD.search(text):
        return None
    if text.lstrip().startswith(b"<") and b"<phonebook" in text:
        return "is a FRITZ!Box phonebook and no vCard: bring it into an address book that exports vCards"
    return "has no vCard in it: export the address book as vCard (.vcf)"


def _plain_bytes(content: bytes) -> bytes:
    """In UTF-8 (or an 8-bit code of old), without a byte order mark, with one kind of line end."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode()
    content = content.removeprefix(codecs.BOM_UTF8)
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _text(content: bytes) -> str:
    """Unfolded before it is decoded: some programs break lines in the middle of a character."""
    unfolded = _FOLD.sub(b"", _plain_bytes(content))
    try:
        return unfolded.decode()
    except UnicodeDecodeError:
        return unfolded.decode("cp1252", "replace")  # Outlook's 2.1


def _properties(text: str) -> Iterator[tuple[str, str]]:
    for found in _WANTED.finditer(_joined(text)):
        name, parameters, value = found[1].upper(), found[2], found[3].strip()
        if name not in ("BEGIN", "END"):
            yield name, _decoded(parameters, value)[:_LONGEST]
        elif value.upper() == "VCARD":
            yield name, value


def _joined(text: str) -> str:
    """With the soft line breaks of quoted-printable taken out (2.1); elsewhere a `=` at an end means itself."""
    if _QUOTED_PRINTABLE not in text.upper():
        return text
    parts: list[str] = []
    going_on = False
    for line in text.split("\n"):
        going_on = line.endswith("=") and (going_on or _is_quoted_printable(line))
        parts.append(line[:-1] if going_on else f"{line}\n")
    return "".join(parts)


def _is_quoted_printable(line: str) -> bool:
    head, colon, _ = line.partition(":")
    return bool(colon) and _QUOTED_PRINTABLE in head.upper()


def _decoded(parameters: str, value: str) -> str:
    if _QUOTED_PRINTABLE not in parameters.upper():
        return value
    raw = quopri.decodestring(value[:_LONGEST_ENCODED].encode("utf-8", "replace"))
    charset = _CHARSET.search(parameters)
    try:
        return raw.decode(charset[1] if charset else "utf-8")
    except (LookupError, ValueError):
        return raw.decode("cp1252", "replace")


def _plain(value: str) -> str:
    return _ESCAPED.sub(lambda found: " " if found[1] in "nN" else found[1], value).strip()


def _person(value: str) -> str:
    """`Family;Given;Additional;Prefix;Suffix` in the order in which one is called."""
    family, given, additional, prefix, suffix, *_ = [*(_words(part) for part in _PARTS.split(value)), *[""] * 5]
    return " ".join(filter(None, (prefix, given, additional, family, suffix)))


def _first(value: str) -> str:
    """The organisation, without its departments."""
    return _plain(_PARTS.split(value)[0])


def _nickname(value: str) -> str:
    return _plain(_LISTED.split(value)[0])


def _words(part: str) -> str:
    return " ".join(filter(None, map(_plain, _LISTED.split(part))))
