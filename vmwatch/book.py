"""Whose number it is: the person's own address book as a value, and an alert with the book's names in it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import phonenumbers

from vmwatch.models import Alert, Voicemail
from vmwatch.vcards import Card
from vmwatch.wording import one_line

_SIGNS = re.compile(r"[\s./()\u2010-\u2015\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069-]+")
_INTERNATIONAL = re.compile(r"\+[1-9][0-9]{4,14}")
_TRUNK = "(0)"
"""`+44 (0)20 …`: to be dialled within the country only, so never a part of the number."""
_NO_NAME = re.compile(r"[\W\d_]*")


@dataclass(frozen=True, slots=True)
class Book:
    """Names by number in E.164. `region` (two letters) is the country that national numbers belong to."""

    region: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = True
    """Whether all of it was read: who is not in it may be in the rest."""

    def name_of(self, number: str | None) -> str | None:
        """None for a number that is not in the book, or withheld."""
        if not number or not self.names:
            return None
        return self.names.get(key(number, self.region) or "")

    def __contains__(self, number: str | None) -> bool:
        return self.name_of(number) is not None

    def knows(self, number: str | None) -> bool | None:
        """Whether the number is in the book; None where nobody can tell, for the book was not read to its end yet."""
        return True if number in self else None if not self.is_whole else False


EMPTY = Book()


def bind(cards: Iterable[Card], region: str, *, is_whole: bool = True) -> Book:
    """A book of these cards. Of several with the same number the first one counts."""
    names: dict[str, str] = {}
    for card in cards:
        name = next(filter(None, map(_name, card.names)), "")
        for number in card.numbers if name else ():
            found = key(number, region)
            if found is not None:
                names.setdefault(found, name)
    return Book(region, names, is_whole)


def key(number: str, region: str) -> str | None:
    """A number in E.164, however it was written; None for what is none."""
    bare = _SIGNS.sub("", number.removeprefix("tel:"))
    if _INTERNATIONAL.fullmatch(bare) and _TRUNK not in number:
        return bare  # as nearly all are: taking a number apart costs a hundred times as much
    try:
        parsed = phonenumbers.parse(number, region or None)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def region_of(numbers: Iterable[str]) -> str:
    """The country of most of these numbers (E.164), of the first ones where it is a tie; empty if there is none."""
    found = Counter(filter(None, map(_region, numbers)))
    return found.most_common(1)[0][0] if found else ""


def named(alert: Alert, book: Book) -> Alert:
    """The alert with the book's name wherever the book knows the caller; what the operator said stays elsewhere."""
    return replace(alert, voicemails=tuple(introduced(voicemail, book) for voicemail in alert.voicemails))


def introduced(voicemail: Voicemail, book: Book) -> Voicemail:
    """The voicemail with the book's name for its caller, if it has one."""
    name = book.name_of(voicemail.caller)
    return voicemail if name is None else replace(voicemail, caller_name=name)


def _name(written: str) -> str:
    """On one short line; a number that stands for a name is none."""
    return "" if _NO_NAME.fullmatch(written) else one_line(written)


def _region(number: str) -> str:
    try:
        found: str | None = phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return ""
    return found or ""
