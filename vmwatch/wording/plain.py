"""Single facts as people write them: a number, a length, a moment, and one short line of what a stranger chose."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo

import phonenumbers

from vmwatch.models import FOREVER, Instant
from vmwatch.texts import ENGLISH, N_, Texts

LONGEST = 100
"""Characters of foreign text that are shown."""
HIDDEN_DIGIT = "•"

_DAYS = (N_("Mon"), N_("Tue"), N_("Wed"), N_("Thu"), N_("Fri"), N_("Sat"), N_("Sun"))
_MONTHS = (
    *(N_("Jan"), N_("Feb"), N_("Mar"), N_("Apr"), N_("May"), N_("Jun")),
    *(N_("Jul"), N_("Aug"), N_("Sep"), N_("Oct"), N_("Nov"), N_("Dec")),
)
_E164 = re.compile(r"\+[1-9][0-9]{4,14}")
_NUMBER = re.compile(r"[+0-9 ()./-]*[0-9][+0-9 ()./-]*")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST: Instant = -62_135_596_800_000
"""The calendar's first day."""
_JOINERS = "\u200c\u200d"
"""Invisible, but Persian words and compound emoji are spelled with them."""
_SHORT, _LONG = 5, 8
"""Digits: of a number with fewer than _SHORT none is shown, with fewer than _LONG not the first ones."""


def is_e164(foreign: str | None) -> bool:
    return foreign is not None and _E164.fullmatch(foreign) is not None


def number(e164: str) -> str:
    """`+45 99 77 88 22` for `+4599778822`; what is not a number in E.164 is shown as it is, on one short line."""
    if not is_e164(e164):
        return one_line(e164)
    try:
        parsed = phonenumbers.parse(e164)
    except phonenumbers.NumberParseException:
        return e164
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def masked(foreign: str) -> str:
    """`+45 99 •• •• 22` for `+4599778822`; nothing for what is no number at all, for it may be a name."""
    shown = number(foreign)
    if not _NUMBER.fullmatch(shown):
        return ""
    country, blank, rest = shown.partition(" ") if is_e164(foreign) else ("", "", shown)
    return f"{country}{blank}{_hidden(rest)}" if blank else _hidden(shown)


def _hidden(digits: str) -> str:
    count = sum(character.isdigit() for character in digits)
    first, last = 2 if count >= _LONG else 0, count - 2 if count >= _SHORT else count
    found, place = [], 0
    for character in digits:
        if character.isdigit():
            place += 1
            character = character if place <= first or place > last else HIDDEN_DIGIT
        found.append(character)
    return "".join(found)


def length(seconds: int) -> str:
    """`0:37`, and `1:02:03` from an hour on."""
    minutes, second = divmod(max(0, seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def local(instant: Instant, zone: tzinfo) -> datetime:
    """An instant by the clocks of a zone; what lies outside of the calendar is its first or last day."""
    when = _EPOCH + timedelta(milliseconds=min(max(instant, FIRST), FOREVER))
    with suppress(OverflowError):  # The calendar's first and last day have no neighbour to move to: they stay in UTC.
        return when.astimezone(zone)
    return when


def moment(instant: Instant, zone: tzinfo, texts: Texts = ENGLISH) -> str:
    """`Mon 1 Jan 2024 01:00 CET`, or as the language writes it, whatever the machine speaks."""
    when = local(instant, zone)
    pattern = texts.pgettext("date and time", "{weekday} {day} {month} {year} {hour}:{minute} {zone}")
    return pattern.format(
        weekday=texts.gettext(_DAYS[when.weekday()]),
        day=when.day,
        month=texts.gettext(_MONTHS[when.month - 1]),
        year=when.year,
        hour=f"{when:%H}",
        minute=f"{when:%M}",
        zone=when.tzname() or "",
    ).rstrip()


def one_line(foreign: str) -> str:
    """Foreign text without line breaks, control characters and marks that turn the direction, cut to LONGEST."""
    visible = "".join(map(_visible, foreign))
    line = " ".join(visible.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        return " "
    return "" if category in ("Cf", "Cs") and character not in _JOINERS else character
