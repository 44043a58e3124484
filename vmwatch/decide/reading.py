"""What a mailbox that was read means: which messages are new, which have gone, and who is to hear of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from vmwatch.book import EMPTY, Book
from vmwatch.decide.callers import Treatment, of_voicemail
from vmwatch.decide.rules import Rules, to_tell, wanting
from vmwatch.models import Alert, Fate, Kind, Mailbox, Reason, Remembered, Silenced, Standing, Voicemail

STORM = 5
"""More new messages than this in one poll of one line become one summary."""
SHOWN_IN_SUMMARY = 10
MISSES_TO_LEAVE = 2
"""Agreeing answers without a message before it is called no longer new."""


def disagreement(mailbox: Mailbox) -> str:
    """What is odd about a well-formed answer, for logs and `status`; never read as "heard"."""
    if mailbox.unreadable:
        return f"{mailbox.unreadable} of the listed messages could not be read"
    if not mailbox.complete:
        return f"the operator counts {mailbox.new} new messages and lists {len(mailbox.messages)}"
    return ""


def absent(mailbox: Mailbox, known: Mapping[str, Remembered]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids that are missing for the first time, and those that by now have left the NEW box.

    A list that disagrees with its own count says nothing about what it does not list.
    """
    if not mailbox.complete:
        return (), ()
    listed = {message.id for message in mailbox.messages}
    gone = [entry for entry in known.values() if entry.left_new_at is None and entry.id not in listed]
    left = tuple(entry.id for entry in gone if entry.missed + 1 >= MISSES_TO_LEAVE)
    missed = tuple(entry.id for entry in gone if entry.missed + 1 < MISSES_TO_LEAVE)
    return missed, left


def voicemail_alerts(
    standing: Standing, fresh: Sequence[Voicemail], rules: Rules, *, first: bool, book: Book = EMPTY
) -> tuple[tuple[Alert, ...], tuple[Silenced, ...]]:
    """One alert a message, or summaries for a storm and for what waited before the line was first read.

    A summary is of messages that are told alike: on the same channels, as urgently. Beside them what a group of
    callers keeps from being told; it makes no storm of the others.
    """
    mode = rules.polling.first_poll if first else "each"
    if mode == "silent":
        return (), ()
    treated = [(message, of_voicemail(rules.callers, message, book)) for message in fresh]
    told = [one for one in treated if one[1].fate is Fate.ANNOUNCED]
    kept = [one for one in treated if one[1].fate is not Fate.ANNOUNCED]
    reason = Reason.FIRST_SIGHT if first else Reason.NEW_MESSAGES
    alerts = tuple(_alert(standing, rules, alike, reason) for alike in _together(told, mode))
    silenced = (Silenced(_alert(standing, rules, alike, reason), alike[0][1].fate) for alike in _together(kept, mode))
    return alerts, tuple(each for each in silenced if each.alert.channels)


_Told: TypeAlias = tuple[Voicemail, Treatment]


def _together(told: Sequence[_Told], mode: str) -> Iterable[tuple[_Told, ...]]:
    """What makes one alert."""
    return _alike(told) if len(told) > STORM or mode == "summary" else ((one,) for one in told)


def _alike(told: Iterable[_Told]) -> Iterable[tuple[_Told, ...]]:
    found: dict[object, tuple[_Told, ...]] = {}
    for one in told:
        key = (one[1].fate, one[1].channels, one[1].urgent)
        found[key] = (*found.get(key, ()), one)
    return found.values()


def _alert(standing: Standing, rules: Rules, told: Sequence[_Told], reason: Reason) -> Alert:
    messages, treated = tuple(message for message, _ in told), told[0][1]
    kind = Kind.VOICEMAIL_SUMMARY if len(messages) > 1 else Kind.VOICEMAIL_NEW
    return Alert(
        kind=kind,
        channels=wanting(to_tell(rules, treated.channels), kind),
        subject=standing.label,
        number=standing.number,
        messages=tuple(message.id for message in messages),
        voicemails=tuple(reversed(messages[-SHOWN_IN_SUMMARY:])),
        count=len(messages),
        reason=reason if kind is Kind.VOICEMAIL_SUMMARY else Reason.NEW_MESSAGES,
        urgent=treated.urgent,
    )
