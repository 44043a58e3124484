"""The verb that shows what would be sent, and sends nothing: preview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tzlocal import get_localzone

from vmwatch import config, languages, links, samples, wishes
from vmwatch.book import introduced
from vmwatch.channels import Shown, prepare, shown
from vmwatch.cli import addressed, desk
from vmwatch.cli.parser import Options
from vmwatch.errors import UsageError
from vmwatch.heartbeat import Clock
from vmwatch.models import WORDED, Alert, Kind, Recipient
from vmwatch.voice import Said, Voice

_NOT_ASKED = "It does not ask for such alerts (events)"


@dataclass(frozen=True, slots=True)
class Preview:
    """What one channel would get."""

    recipient: Recipient
    escalated: bool
    """Whether some line escalates to it."""
    voice: Voice
    kind: Kind
    said: Said
    shown: Shown

    @property
    def wanted(self) -> bool:
        """Escalations are for whom they name; a digest, for whoever was owed what it stands for."""
        if self.kind is Kind.VOICEMAIL_ESCALATED:
            return self.escalated
        return self.kind is Kind.VOICEMAIL_DIGEST or self.recipient.wants(self.kind)

    def shape(self) -> dict[str, Any]:
        return {
            "channel": self.recipient.name,
            "kind": self.kind.value,
            "wanted": self.wanted,
            "language": self.voice.texts.language,
            "timezone": str(self.voice.zone),
            "privacy": self.voice.privacy.value,
            "title": self.shown.title,
            "body": self.shown.body,
            "format": self.shown.format,
            "call": self.said.text.call or None,
            "buttons": [{"label": tap.label, "url": tap.url} for tap in self.shown.buttons],
            "template_error": self.said.failed or None,
        }


async def preview(options: Options) -> int:
    loaded = desk.load(options.config)
    channels = _channels(loaded, options.channel)
    kind = _kind(options.kind or Kind.VOICEMAIL_NEW)
    stored = await _stored(options, kind) if options.message is not None else None
    prepare()
    previews = [_preview(loaded, name, stored or samples.alert(kind, Clock().now(), name)) for name in channels]
    if options.json:
        desk.print_json([found.shape() for found in previews])
    else:
        for found in previews:
            _show(found)
    return int(any(found.said.failed for found in previews))


def _kind(wanted: str) -> Kind:
    if wanted not in WORDED:
        raise UsageError(f"{wanted}: there is no such kind of alert; the kinds are {desk.listed(WORDED)}")
    return Kind(wanted)


def _channels(loaded: config.Loaded, wanted: str | None) -> tuple[str, ...]:
    names = tuple(loaded.settings.channels)
    if wanted is not None and wanted not in names:
        raise UsageError(f"{wanted}: there is no such channel; the channels are {desk.listed(names)}")
    return names if wanted is None else (wanted,)


async def _stored(options: Options, kind: Kind) -> Alert:
    """An alert of the message that was asked for. Raises UsageError."""
    if kind.group != "voicemail":
        raise UsageError(f"{kind.value} is not about a message: leave MESSAGE out, or --kind")
    async with desk.store(options.config) as ledger:
        view = await wishes.find_message(ledger, options.message)
        line = await wishes.find_line(ledger, view.line)
        book = (await addressed.looked_up(ledger, options.config)).book
    voicemail = introduced(view.voicemail, book)
    return Alert(kind, (), line.label, line.number, (voicemail.id,), (voicemail,), 1, since=view.first_seen_at)


def _preview(loaded: config.Loaded, name: str, alert: Alert) -> Preview:
    settings = loaded.settings
    voice = languages.voices(settings, get_localzone())[name]
    said = voice.says(alert, links=links.samples(settings.web.public_url, alert))
    recipient = next(one for one in settings.recipients() if one.name == name)
    escalated = any(name in step.channels for line in settings.lines.values() for step in line.escalate)
    as_shown = shown(settings.channels[name].url.get_secret_value(), said.text)
    return Preview(recipient, escalated, voice, alert.kind, said, as_shown)


def _show(found: Preview) -> None:
    out, voice = desk.out(), found.voice
    manner = (voice.texts.language, str(voice.zone), voice.privacy.value, found.shown.format)
    out.print(f"{found.recipient.name} ({desk.listed(manner)}), {found.kind.value}:", markup=False, style="bold")
    for text in (found.shown.title, *found.shown.plain.splitlines()):
        out.print(f"  {text}", markup=False)
    for tap in found.shown.buttons:
        out.print(f"  [{tap.label}] {tap.url}", markup=False)
    if found.said.failed:
        out.print(f"The template failed, so these are the built-in words: it {found.said.failed}.", markup=False)
    if not found.wanted:
        why = "No line's escalate names it" if found.kind is Kind.VOICEMAIL_ESCALATED else _NOT_ASKED
        out.print(f"{why}, so it would not be sent this one.", markup=False)
