"""The words for voicemails that are told again: nobody has heard them, or they are no longer new."""

from __future__ import annotations

from dataclasses import replace

from vmwatch.models import Alert, Privacy, Voicemail
from vmwatch.wording import voicemails
from vmwatch.wording.style import Style, Text


def reminder(alert: Alert, style: Style) -> Text:
    one = style.gettext("Not heard yet: voicemail from {caller}", caller=_caller(alert, style))
    several = style.ngettext(
        "Not heard yet: {count} voicemail on {line}",
        "Not heard yet: {count} voicemails on {line}",
        _count(alert),
        line=style.line(alert),
    )
    return _announced(_again(one, several, alert, style), alert, style)


def escalated(alert: Alert, style: Style) -> Text:
    one = style.gettext("Nobody has heard the voicemail from {caller}", caller=_caller(alert, style))
    several = style.ngettext(
        "Nobody has heard {count} voicemail on {line}",
        "Nobody has heard {count} voicemails on {line}",
        _count(alert),
        line=style.line(alert),
    )
    return _announced(_again(one, several, alert, style), alert, style)


def heard(alert: Alert, style: Style) -> Text:
    """Nobody says that a message was heard: it only leaves the box of new ones."""
    one = style.gettext("No longer new: voicemail from {caller}", caller=_caller(alert, style))
    several = style.ngettext(
        "No longer new: {count} voicemail on {line}",
        "No longer new: {count} voicemails on {line}",
        _count(alert),
        line=style.line(alert),
    )
    found = _again(one, several, alert, style)
    why = style.ngettext("Somebody has probably heard it.", "Somebody has probably heard them.", _count(alert))
    return replace(found, body=why if style.privacy is Privacy.MINIMAL else f"{why}\n{found.body}")


def digest(alert: Alert, style: Style) -> Text:
    title = style.ngettext(
        "{count} voicemail not heard yet on {line}",
        "{count} voicemails not heard yet on {line}",
        _count(alert),
        line=style.line(alert),
    )
    return replace(voicemails.summary(alert, style), title=title)


def _again(one: str, several: str, alert: Alert, style: Style) -> Text:
    """One message as when it was announced, several as in a summary; the title says what is the matter."""
    if _count(alert) > 1 or style.privacy is Privacy.MINIMAL:
        return replace(voicemails.summary(alert, style), title=several)
    return replace(voicemails.new(alert, style), title=one)


def _announced(found: Text, alert: Alert, style: Style) -> Text:
    if alert.since is None or style.privacy is Privacy.MINIMAL:
        return found
    announced = style.gettext("Announced: {when}", when=style.moment(alert.since))
    return replace(found, body=f"{found.body}\n{announced}")


def _count(alert: Alert) -> int:
    return max(alert.count, len(alert.voicemails), 1)


def _caller(alert: Alert, style: Style) -> str:
    voicemail = alert.voicemails[0] if alert.voicemails else Voicemail(id="")
    return voicemails.name(voicemail, style) or voicemails.nameless(voicemail, style)
