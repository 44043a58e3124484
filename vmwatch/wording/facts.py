"""What a template can say: the facts of an alert, in the channel's language and with no more than it is to show."""

from __future__ import annotations

from dataclasses import dataclass

from vmwatch.models import NO_LINKS, Alert, Instant, Links, Privacy, Voicemail
from vmwatch.wording import plain, troubles, voicemails
from vmwatch.wording.style import Style, Text


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    number: str
    e164: str
    words: str

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True)
class Message:
    caller: Caller
    length: str
    seconds: int
    received: str

    def __str__(self) -> str:
        return ", ".join(filter(None, (str(self.caller), self.length, self.received)))


def facts(alert: Alert, style: Style, built_in: Text, links: Links = NO_LINKS) -> dict[str, object]:
    """Every variable of a template; all are always there, empty where there is nothing to say."""
    listed = [_message(voicemail, style) for voicemail in voicemails.newest_first(alert)]
    first = listed[0] if listed else _message(Voicemail(id=""), style)
    count = max(alert.count, len(listed))
    shown = () if style.privacy is Privacy.MINIMAL else tuple(listed)
    of_line = alert.kind.group in ("voicemail", "line")
    return {
        "title": built_in.title,
        "body": built_in.body,
        "kind": alert.kind.value,
        "line": style.line(alert) if of_line else "",
        "line_number": style.number(alert.number),
        "caller": first.caller,
        "length": first.length,
        "seconds": first.seconds,
        "received": first.received,
        "voicemails": shown,
        "count": count,
        "more": count - len(shown),
        "reason": style.gettext(troubles.REASONS[alert.reason]) if alert.reason is not None else "",
        "detail": style.detail(alert) if of_line else plain.one_line(alert.detail),
        "since": _moment(alert.since, style),
        "next_try": _moment(alert.next_poll_at, style),
        "ack_url": links.ack,
        "snooze_url": links.snooze,
        "channel": plain.one_line(alert.subject) if alert.kind.group in ("channel", "test") else "",
    }


def _message(voicemail: Voicemail, style: Style) -> Message:
    if style.privacy is Privacy.MINIMAL:
        return Message(Caller("", "", "", style.gettext("somebody")), "", 0, "")
    return Message(
        _caller(voicemail, style),
        "" if voicemail.length is None else plain.length(voicemail.length),
        voicemail.length or 0,
        _moment(voicemail.received_at, style),
    )


def _caller(voicemail: Voicemail, style: Style) -> Caller:
    return Caller(
        voicemails.name(voicemail, style),
        style.number(voicemail.caller),
        voicemails.to_call(voicemail, style),
        voicemails.who(voicemail, style),
    )


def _moment(instant: Instant | None, style: Style) -> str:
    return "" if instant is None else style.moment(instant)
