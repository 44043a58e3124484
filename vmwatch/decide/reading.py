"""What a mailbox that was read means: which messages are new, which have gone, and who is to hear of it."""

from __future__ import annotations

from collections.abc import Mapping

from vmwatch.decide.rules import Rules, wanting
from vmwatch.models import Alert, Kind, Mailbox, Reason, Remembered, Standing, Voicemail

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
    standing: Standing, fresh: tuple[Voicemail, ...], rules: Rules, *, first: bool
) -> tuple[Alert, ...]:
    """One alert a message, or one summary for a storm and for what waited before the line was first read."""
    mode = rules.polling.first_poll if first else "each"
    if not fresh or mode == "silent":
        return ()
    if len(fresh) > STORM or (mode == "summary" and len(fresh) > 1):
        reason = Reason.FIRST_SIGHT if first else Reason.NEW_MESSAGES
        return (_alert(standing, rules, Kind.VOICEMAIL_SUMMARY, fresh, reason),)
    return tuple(_alert(standing, rules, Kind.VOICEMAIL_NEW, (message,), Reason.NEW_MESSAGES) for message in fresh)


def _alert(standing: Standing, rules: Rules, kind: Kind, messages: tuple[Voicemail, ...], reason: Reason) -> Alert:
    return Alert(
        kind=kind,
        channels=wanting(rules.recipients, kind),
        subject=standing.label,
        number=standing.number,
        messages=tuple(message.id for message in messages),
        voicemails=tuple(reversed(messages[-SHOWN_IN_SUMMARY:])),
        count=len(messages),
        reason=reason,
    )
