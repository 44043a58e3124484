"""What an alert says: facts in, a title and a body out. Pure, and the same words wherever people read them.

Callers choose their own names, so every foreign text is made one short line before it is put among ours: a
name with a line break in it would otherwise forge a line of the alert.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import phonenumbers

from vmwatch.models import FOREVER, Alert, Instant, Kind, Reason, Voicemail

LONGEST = 100
"""Characters of foreign text that are shown."""

REASONS: Mapping[Reason, str] = {
    Reason.READ: "the mailbox was read",
    Reason.FIRST_SIGHT: "the mailbox was read for the first time",
    Reason.NOTHING_NEW: "nothing new",
    Reason.NEW_MESSAGES: "new voicemails",
    Reason.PIN_REJECTED: "the operator rejected the PIN",
    Reason.PIN_LOCKED: "the operator locked the login after too many wrong PINs",
    Reason.STILL_LOCKED: "the operator still keeps the login locked",
    Reason.NOT_ENABLED: "voicemail is not enabled for this number",
    Reason.UNKNOWN_NUMBER: "the operator does not know this number",
    Reason.BLACKLISTED: "the operator blocks this machine's address",
    Reason.REFUSAL_UNCLEAR: "the operator refused without a clear reason",
    Reason.REFUSED_TWICE: "the operator refused twice without a clear reason",
    Reason.THROTTLED: "the operator asked to be asked less often",
    Reason.OPERATOR_ERROR: "the operator reported an error of its own",
    Reason.GATEWAY_ERROR: "a gateway in front of the operator reported an error",
    Reason.NOT_THE_OPERATOR: "something other than the operator answered",
    Reason.NO_CONNECTION: "no connection to the operator",
    Reason.TIMEOUT: "the operator did not answer in time",
    Reason.CONNECTION_LOST: "the connection to the operator broke off",
    Reason.ATTEMPT_LOST: "vmwatch stopped before the operator's answer was noted",
    Reason.VERDICT_LOST_TWICE: "the operator's answer was lost twice",
    Reason.NOT_READ_YET: "not read yet",
    Reason.PIN_CHANGED: "the PIN was changed in the configuration",
    Reason.RESUMED: "resumed by a person",
    Reason.PAUSED: "paused by a person",
    Reason.DISABLED: "switched off in the configuration",
}
"""Every reason in plain words, without a capital letter and a full stop, to be put into a sentence."""

REPEAT = "(This may be a repeat: the channel did not confirm the first attempt.)"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_E164 = re.compile(r"\+[1-9][0-9]{4,14}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Instant = -62_135_596_800_000
_JOINERS = "\u200c\u200d"
"""Invisible, but Persian words and compound emoji are spelled with them."""
_STOPPED = "vmwatch no longer asks for this line: another failed login could lock the mailbox."


@dataclass(frozen=True, slots=True)
class Text:
    title: str
    body: str


def text(alert: Alert, zone: tzinfo, maybe_repeat: bool = False) -> Text:
    """The alert in words, times in `zone`. Total: there are words for every kind, however little is known."""
    found = _WORDS[alert.kind](alert, zone)
    return Text(found.title, f"{found.body}\n{REPEAT}") if maybe_repeat else found


def number(e164: str) -> str:
    """`+45 99 77 88 22` for `+4599778822`; what is not a number in E.164 is shown as it is, on one short line."""
    if not _E164.fullmatch(e164):
        return one_line(e164)
    try:
        parsed = phonenumbers.parse(e164)
    except phonenumbers.NumberParseException:
        return e164
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def length(seconds: int) -> str:
    """`0:37`, and `1:02:03` from an hour on."""
    minutes, second = divmod(max(0, seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def moment(instant: Instant, zone: tzinfo) -> str:
    """`Mon 1 Jan 2024 01:00 CET`, in English whatever the machine speaks."""
    when = _EPOCH + timedelta(milliseconds=min(max(instant, _FIRST), FOREVER))
    with suppress(OverflowError):  # The calendar's first and last day have no neighbour to move to: they stay in UTC.
        when = when.astimezone(zone)
    day, month = _DAYS[when.weekday()], _MONTHS[when.month - 1]
    return f"{day} {when.day} {month} {when.year} {when:%H:%M} {when.tzname() or ''}".rstrip()


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


def _voicemail(alert: Alert, zone: tzinfo) -> Text:
    voicemail = alert.voicemails[0] if alert.voicemails else Voicemail(id="")
    found = [f"From: {_who(voicemail)}", f"Line: {_line(alert)}"]
    if voicemail.length is not None:
        found.append(f"Length: {length(voicemail.length)}")
    if voicemail.received_at is not None:
        found.append(f"Received: {moment(voicemail.received_at, zone)}")
    if voicemail.caller is not None and _E164.fullmatch(voicemail.caller):
        found.append(f"Call back: {voicemail.caller}")
    return Text(f"Voicemail from {_name(voicemail) or _caller(voicemail) or 'a withheld number'}", "\n".join(found))


def _summary(alert: Alert, zone: tzinfo) -> Text:
    count = max(alert.count, len(alert.voicemails))
    noun = "voicemail" if count == 1 else "voicemails"
    title = f"{count} {noun} waiting" if alert.reason is Reason.FIRST_SIGHT else f"{count} new {noun}"
    found = [_entry(voicemail, zone) for voicemail in sorted(alert.voicemails, key=_age, reverse=True)]
    if found and count > len(found):
        found.append(f"and {count - len(found)} more")
    return Text(f"{title} on {_line(alert)}", "\n".join(found) or f"Line: {_line(alert)}")


def _reminder(alert: Alert, zone: tzinfo) -> Text:
    return _unheard(alert, zone, "Not heard yet")


def _escalated(alert: Alert, zone: tzinfo) -> Text:
    return _unheard(alert, zone, "Nobody has heard")


def _unheard(alert: Alert, zone: tzinfo, beginning: str) -> Text:
    """One message as when it was announced, several as in a summary; the title says what is the matter."""
    if alert.count > 1:
        found, what = _summary(alert, zone), f"{alert.count} voicemails"
    else:
        found = _voicemail(alert, zone)
        what = f"{found.title[0].lower()}{found.title[1:]}"
    since = f"\nAnnounced: {moment(alert.since, zone)}" if alert.since is not None else ""
    return Text(
        f"{beginning}: {what} on {_line(alert)}" if alert.count > 1 else f"{beginning}: {what}", found.body + since
    )


def _digest(alert: Alert, zone: tzinfo) -> Text:
    noun = "voicemail" if alert.count == 1 else "voicemails"
    return Text(f"{alert.count} {noun} not heard yet on {_line(alert)}", _summary(alert, zone).body)


def _heard(alert: Alert, zone: tzinfo) -> Text:
    if alert.count > 1:
        return Text(f"{alert.count} voicemails on {_line(alert)} were heard", _summary(alert, zone).body)
    found = _voicemail(alert, zone)
    return Text(f"Heard: {found.title[0].lower()}{found.title[1:]}", f"Nobody needs to call in any more.\n{found.body}")


def _age(voicemail: Voicemail) -> tuple[Instant, str]:
    return (voicemail.received_at if voicemail.received_at is not None else _FIRST, voicemail.id)


def _entry(voicemail: Voicemail, zone: tzinfo) -> str:
    found = [_who(voicemail)]
    if voicemail.length is not None:
        found.append(length(voicemail.length))
    if voicemail.received_at is not None:
        found.append(moment(voicemail.received_at, zone))
    return ", ".join(found)


def _who(voicemail: Voicemail) -> str:
    name, caller = _name(voicemail), _caller(voicemail)
    if name:
        return f"{name}, {caller or 'number withheld'}"
    return caller or "a withheld number"


def _name(voicemail: Voicemail) -> str:
    """The caller's name; a number that was given for a name is none."""
    name = one_line(voicemail.caller_name or "")
    return "" if name == voicemail.caller else name


def _caller(voicemail: Voicemail) -> str:
    return number(voicemail.caller) if voicemail.caller else ""


def _line(alert: Alert) -> str:
    return one_line(alert.subject) or (number(alert.number) if alert.number else "your line")


def _rejected(alert: Alert, zone: tzinfo) -> Text:
    cure = "Correct the PIN in the configuration and reload vmwatch: it tries a changed PIN once."
    if alert.reason is not Reason.PIN_REJECTED:
        cure = "Check that the PIN in the configuration is right."
    return _trouble(
        f"{_line(alert)}: voicemail is no longer watched",
        _happened(alert, "the operator refused the login", zone),
        _STOPPED,
        cure,
        _command(alert, "If the PIN is right, allow one more try"),
    )


def _locked(alert: Alert, zone: tzinfo) -> Text:
    return _trouble(
        f"{_line(alert)}: voicemail is locked",
        _happened(alert, "the operator locked the login", zone),
        _waits(alert, zone, "vmwatch waits, longer each time, and tells you when it is over."),
        "Check the PIN in the configuration, and ask the operator to unlock the mailbox.",
        _command(alert, "Once it is unlocked, or to try at once"),
    )


def _not_enabled(alert: Alert, zone: tzinfo) -> Text:
    return _trouble(
        f"{_line(alert)}: voicemail is not enabled",
        _happened(alert, REASONS[Reason.NOT_ENABLED], zone),
        _waits(alert, zone, "vmwatch looks again once a day."),
        "Ask your reseller to switch voicemail on for this number.",
        _command(alert, "To look at once"),
    )


def _unknown_number(alert: Alert, zone: tzinfo) -> Text:
    return _trouble(
        f"{_line(alert)}: the operator does not know this number",
        _happened(alert, REASONS[Reason.UNKNOWN_NUMBER], zone),
        _waits(alert, zone, "vmwatch looks again once a day."),
        "Check the number in the configuration, and that it is with this operator.",
        _command(alert, "To look at once"),
    )


def _unreachable(alert: Alert, zone: tzinfo) -> Text:
    return _trouble(
        f"{_line(alert)}: voicemail cannot be read",
        _happened(alert, "the operator cannot be reached", zone),
        _waits(alert, zone, "vmwatch keeps trying and tells you when it is over."),
        "Nothing needs to be done unless it lasts; this shows how it stands: vmwatch status",
    )


def _stale(alert: Alert, zone: tzinfo) -> Text:
    last = f"It was last read {moment(alert.since, zone)}. " if alert.since is not None else ""
    return _trouble(
        f"{_line(alert)}: vmwatch does not read voicemail, though nothing is wrong with the line",
        f"{last}It should have been read three times since.",
        f"Line: {', '.join(filter(None, (one_line(alert.subject), number(alert.number))))}" if alert.number else "",
        "This is vmwatch's own fault. Start it again, as with: systemctl restart vmwatch",
        "This shows how the lines stand: vmwatch status",
    )


def _blocked(alert: Alert, zone: tzinfo) -> Text:
    return _trouble(
        "Voicemail is not being watched: this machine's address is blocked",
        _happened(alert, REASONS[Reason.BLACKLISTED], zone),
        _waits(alert, zone, "This concerns every line: vmwatch waits for hours, and tells you when it is over."),
        "Ask the operator to unblock the address this machine is seen from.",
        _command(alert, "Once it is unblocked") if alert.number else "This shows how the lines stand: vmwatch status",
    )


def _recovered(alert: Alert, zone: tzinfo) -> Text:
    everything = alert.number is None and not alert.subject
    title = "Voicemail is being watched again" if everything else f"{_line(alert)}: voicemail is watched again"
    since = f" It had been in trouble since {moment(alert.since, zone)}." if alert.since is not None else ""
    return Text(title, f"The trouble is over.{since}")


def _channel_failing(alert: Alert, zone: tzinfo) -> Text:
    name = one_line(alert.subject)
    return _trouble(
        f"Channel {name}: alerts do not get through",
        f"{'Since ' + moment(alert.since, zone) + ' no' if alert.since is not None else 'No'} alert could be delivered"
        f" on this channel.{f' Last error: {one_line(alert.detail)}.' if alert.detail else ''}",
        "vmwatch keeps its alerts, tries again, and tells you when it works.",
        f"This shows what waits: vmwatch outbox\nThis tries the channel: vmwatch test {name}",
    )


def _channel_recovered(alert: Alert, zone: tzinfo) -> Text:
    since = f" It had been failing since {moment(alert.since, zone)}." if alert.since is not None else ""
    return Text(f"Channel {one_line(alert.subject)} works again", f"Alerts get through again.{since}")


def _store_failing(alert: Alert, zone: tzinfo) -> Text:
    return _trouble(
        "Voicemail is not being watched: vmwatch can't write to its store",
        f"{alert.detail}." if alert.detail else "",  # The ledger's own words: nothing foreign is in them.
        f"Since: {moment(alert.since, zone)}" if alert.since is not None else "",
        "vmwatch polls nothing that it can't note. What is new stays at the operator, and what was noted is kept.",
        "It goes on by itself when the store can be written, and tells you then.",
    )


def _store_recovered(alert: Alert, zone: tzinfo) -> Text:
    since = f" It could not be since {moment(alert.since, zone)}." if alert.since is not None else ""
    return Text("Voicemail is being watched again", f"vmwatch's store can be written again.{since}")


def _test(alert: Alert, zone: tzinfo) -> Text:
    name = one_line(alert.subject)
    return Text("Test from vmwatch", f"Alerts reach {f'the channel {name}' if name else 'this channel'}.")


def _any_line(words: Callable[[Alert, tzinfo], Text]) -> Callable[[Alert, tzinfo], Text]:
    """A blocked address is told the same way whichever line's poll met it."""
    return lambda alert, zone: (_blocked if alert.reason is Reason.BLACKLISTED else words)(alert, zone)


def _trouble(title: str, *sentences: str) -> Text:
    return Text(title, "\n".join(filter(None, sentences)))


def _happened(alert: Alert, otherwise: str, zone: tzinfo) -> str:
    """What went wrong, on which line, since when: `The operator rejected the PIN.` and a line for each fact."""
    what = REASONS[alert.reason] if alert.reason is not None else otherwise
    aside = f" ({one_line(alert.detail)})" if alert.detail else ""
    found = [f"{what[0].upper()}{what[1:]}{aside}."]
    if alert.number:
        found.append(f"Line: {', '.join(filter(None, (one_line(alert.subject), number(alert.number))))}")
    if alert.since is not None:
        found.append(f"Since: {moment(alert.since, zone)}")
    return "\n".join(found)


def _waits(alert: Alert, zone: tzinfo, words: str) -> str:
    if alert.next_poll_at is None:
        return words
    return f"{words} Next try: {moment(alert.next_poll_at, zone)}."


def _command(alert: Alert, purpose: str) -> str:
    """The very command; by number, for a line's number names it wherever its label does not."""
    return f"{purpose}: vmwatch resume {one_line(alert.number)}" if alert.number else ""


_WORDS: Mapping[Kind, Callable[[Alert, tzinfo], Text]] = {
    Kind.VOICEMAIL_NEW: _voicemail,
    Kind.VOICEMAIL_SUMMARY: _summary,
    Kind.VOICEMAIL_REMINDER: _reminder,
    Kind.VOICEMAIL_ESCALATED: _escalated,
    Kind.VOICEMAIL_HEARD: _heard,
    Kind.VOICEMAIL_DIGEST: _digest,
    Kind.LINE_LOCKED: _any_line(_locked),
    Kind.LINE_REJECTED: _rejected,
    Kind.LINE_NOT_ENABLED: _not_enabled,
    Kind.LINE_UNKNOWN_NUMBER: _unknown_number,
    Kind.LINE_UNREACHABLE: _any_line(_unreachable),
    Kind.LINE_RECOVERED: _recovered,
    Kind.LINE_STALE: _stale,
    Kind.CHANNEL_FAILING: _channel_failing,
    Kind.CHANNEL_RECOVERED: _channel_recovered,
    Kind.STORE_FAILING: _store_failing,
    Kind.STORE_RECOVERED: _store_recovered,
    Kind.TEST: _test,
}
