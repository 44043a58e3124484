"""Alerts to show what alerts look like: one of each kind with all there can be in it, and one with nothing."""

from __future__ import annotations

from collections.abc import Mapping

from vmwatch.models import HOUR, MINUTE, Alert, Instant, Kind, Reason, Voicemail

_REASONS: Mapping[Kind, Reason] = {
    Kind.VOICEMAIL_NEW: Reason.NEW_MESSAGES,
    Kind.VOICEMAIL_SUMMARY: Reason.NEW_MESSAGES,
    Kind.LINE_LOCKED: Reason.PIN_LOCKED,
    Kind.LINE_REJECTED: Reason.PIN_REJECTED,
    Kind.LINE_NOT_ENABLED: Reason.NOT_ENABLED,
    Kind.LINE_UNKNOWN_NUMBER: Reason.UNKNOWN_NUMBER,
    Kind.LINE_UNREACHABLE: Reason.TIMEOUT,
}
_DETAILS: Mapping[Kind, str] = {
    Kind.LINE_UNREACHABLE: "no answer in 20 s",
    Kind.CHANNEL_FAILING: "HTTP 404",
    Kind.STORE_FAILING: "the disk is full",
}
_SEVERAL = frozenset({Kind.VOICEMAIL_SUMMARY, Kind.VOICEMAIL_DIGEST})
_TOLD_AGAIN = frozenset({Kind.VOICEMAIL_REMINDER, Kind.VOICEMAIL_ESCALATED})
_WAITING = frozenset({Kind.LINE_LOCKED, Kind.LINE_NOT_ENABLED, Kind.LINE_UNKNOWN_NUMBER, Kind.LINE_UNREACHABLE})


def alert(kind: Kind, now: Instant, channel: str = "phone") -> Alert:
    """An alert of a kind, as it might be at an instant."""
    voicemails = _voicemails(kind, now)
    return Alert(
        kind,
        (channel,),
        subject={"voicemail": "Home", "line": "Home", "channel": channel, "test": channel}.get(kind.group, ""),
        number="+4571919998" if kind.group in ("voicemail", "line") else None,
        messages=tuple(voicemail.id for voicemail in voicemails),
        voicemails=voicemails,
        count=len(voicemails) + 2 if kind in _SEVERAL else len(voicemails),
        reason=_REASONS.get(kind),
        detail=_DETAILS.get(kind, ""),
        since=now - HOUR if kind in _TOLD_AGAIN or kind.group in ("line", "channel", "store") else None,
        next_poll_at=now + HOUR if kind in _WAITING else None,
    )


def bare(kind: Kind) -> Alert:
    """An alert of a kind of which nothing else is known."""
    return Alert(kind, ())


def _voicemails(kind: Kind, now: Instant) -> tuple[Voicemail, ...]:
    duck = Voicemail("sample", caller="+4599778822", caller_name="Donald Duck", received_at=now - MINUTE, length=37)
    others = (
        Voicemail("sample-2", caller="+4520304050", received_at=now - HOUR, length=312),
        Voicemail("sample-3", received_at=now - 2 * HOUR, length=4),
    )
    if kind.group != "voicemail":
        return ()
    return (duck, *others) if kind in _SEVERAL else (duck,)
