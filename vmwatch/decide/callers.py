"""Which group a caller belongs to, and what becomes of the message because of it.

The most specific group counts, and no two are equally specific (the configuration is refused then):
the number itself; the longest prefix; `in_contacts`; `unknown` (a number that is in no address book) or `withheld`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from vmwatch.book import Book
from vmwatch.models import SECOND, Fate, Voicemail
from vmwatch.settings import UNKNOWN, WITHHELD, Callers


class Match(StrEnum):
    """Why a caller belongs to a group."""

    NUMBER = "number"
    PREFIX = "prefix"
    IN_CONTACTS = "in_contacts"
    UNKNOWN = "unknown"
    WITHHELD = "withheld"
    NO_GROUP = "no_group"


@dataclass(frozen=True, slots=True)
class Treatment:
    group: str | None
    match: Match
    fate: Fate = Fate.ANNOUNCED
    urgent: bool = False
    """Whether it passes quiet hours."""
    channels: tuple[str, ...] | None = None
    """None: the line's own."""


def treatment(
    groups: Mapping[str, Callers], caller: str | None, length: int | None, *, in_contacts: bool | None
) -> Treatment:
    """How a message is to be treated. `caller` in E.164, None if withheld; `length` in seconds, if it is known.

    `in_contacts` None: nobody can tell yet; such a caller is not called unknown, or a friend might be muted for it.
    """
    name, match = _group(groups, caller, in_contacts=in_contacts)
    if name is None:
        return Treatment(None, match)
    group = groups[name]
    return Treatment(name, match, _fate(group, length), group.urgent, group.channels)


def of_voicemail(groups: Mapping[str, Callers], voicemail: Voicemail, book: Book) -> Treatment:
    caller = voicemail.caller
    return treatment(groups, caller, voicemail.length, in_contacts=book.knows(caller))


def _fate(group: Callers, length: int | None) -> Fate:
    if group.mute:
        return Fate.MUTED
    too_short = length is not None and length * SECOND < group.min_length
    return Fate.TOO_SHORT if too_short else Fate.ANNOUNCED


def _group(groups: Mapping[str, Callers], caller: str | None, *, in_contacts: bool | None) -> tuple[str | None, Match]:
    named = {number: name for name, group in groups.items() for number in group.numbers}
    if not caller:
        return _or_none(named.get(WITHHELD), Match.WITHHELD)
    if caller in named:
        return named[caller], Match.NUMBER
    prefix = max((number for number in named if _begins(caller, number)), key=len, default=None)
    if prefix is not None:
        return named[prefix], Match.PREFIX
    known = next((name for name, group in groups.items() if group.in_contacts), None) if in_contacts else None
    if known is not None:
        return known, Match.IN_CONTACTS
    return _or_none(named.get(UNKNOWN) if in_contacts is False else None, Match.UNKNOWN)


def _or_none(name: str | None, match: Match) -> tuple[str | None, Match]:
    return name, match if name is not None else Match.NO_GROUP


def _begins(caller: str, number: str) -> bool:
    return number.endswith("*") and caller.startswith(number[:-1])
