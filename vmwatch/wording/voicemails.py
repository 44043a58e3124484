"""The words for voicemails: one, or many at once; with as much of who called as the channel is to show."""

from __future__ import annotations

from vmwatch.models import Alert, Instant, Privacy, Reason, Voicemail
from vmwatch.wording import plain
from vmwatch.wording.style import Style, Text


def new(alert: Alert, style: Style) -> Text:
    if style.privacy is Privacy.MINIMAL:
        title = style.gettext("A voicemail on {line}", line=style.line(alert))
        return Text(title, _hear(1, style))
    voicemail = alert.voicemails[0] if alert.voicemails else Voicemail(id="")
    title = style.gettext("Voicemail from {caller}", caller=name(voicemail, style) or nameless(voicemail, style))
    call = to_call(voicemail, style)
    return Text(title, "\n".join(_facts(alert, voicemail, style)), call, style.gettext("Call back"))


def _facts(alert: Alert, voicemail: Voicemail, style: Style) -> list[str]:
    found = [style.gettext("From: {caller}", caller=who(voicemail, style)), line(alert, style)]
    if voicemail.length is not None:
        found.append(style.gettext("Length: {length}", length=plain.length(voicemail.length)))
    if voicemail.received_at is not None:
        found.append(style.gettext("Received: {when}", when=style.moment(voicemail.received_at)))
    if call := to_call(voicemail, style):
        found.append(style.gettext("Call back: {number}", number=call))
    return found


def line(alert: Alert, style: Style) -> str:
    return style.gettext("Line: {line}", line=style.line(alert))


def summary(alert: Alert, style: Style) -> Text:
    count = max(alert.count, len(alert.voicemails))
    title = _waiting(count, alert, style) if alert.reason is Reason.FIRST_SIGHT else _arrived(count, alert, style)
    if style.privacy is Privacy.MINIMAL:
        return Text(title, _hear(count, style))
    found = [entry(voicemail, style) for voicemail in newest_first(alert)]
    if found and count > len(found):
        found.append(style.ngettext("and {count} more", "and {count} more", count - len(found)))
    return Text(title, "\n".join(found) or line(alert, style))


def _waiting(count: int, alert: Alert, style: Style) -> str:
    return style.ngettext(
        "{count} voicemail waiting on {line}", "{count} voicemails waiting on {line}", count, line=style.line(alert)
    )


def _arrived(count: int, alert: Alert, style: Style) -> str:
    return style.ngettext(
        "{count} new voicemail on {line}", "{count} new voicemails on {line}", count, line=style.line(alert)
    )


def _hear(count: int, style: Style) -> str:
    return style.ngettext("Call your voicemail to hear it.", "Call your voicemail to hear them.", count)


def newest_first(alert: Alert) -> list[Voicemail]:
    return sorted(alert.voicemails, key=_age, reverse=True)


def _age(voicemail: Voicemail) -> tuple[Instant, str]:
    return (voicemail.received_at if voicemail.received_at is not None else plain.FIRST, voicemail.id)


def entry(voicemail: Voicemail, style: Style) -> str:
    """A voicemail on one line."""
    found = [who(voicemail, style)]
    if voicemail.length is not None:
        found.append(plain.length(voicemail.length))
    if voicemail.received_at is not None:
        found.append(style.moment(voicemail.received_at))
    return ", ".join(found)


def who(voicemail: Voicemail, style: Style) -> str:
    """The caller's name and number, or what there is of them."""
    named = name(voicemail, style)
    if not named:
        return nameless(voicemail, style)
    number = style.number(voicemail.caller)
    return f"{named}, {number}" if number else style.gettext("{name}, number withheld", name=named)


def nameless(voicemail: Voicemail, style: Style) -> str:
    number = style.number(voicemail.caller)
    if number or style.is_open or not voicemail.caller:
        return number or style.gettext("a withheld number")
    return style.gettext("a caller without a number")


def name(voicemail: Voicemail, style: Style) -> str:
    """The caller's name; a number that was given for a name is none."""
    found = plain.one_line(voicemail.caller_name or "")
    return "" if found == voicemail.caller or not style.is_open else found


def to_call(voicemail: Voicemail, style: Style) -> str:
    """The number in E.164 that calls back, where it may be shown."""
    return voicemail.caller if style.is_open and voicemail.caller and plain.is_e164(voicemail.caller) else ""
