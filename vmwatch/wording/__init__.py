"""What an alert says: facts in, a title and a body out. Pure, and the same words wherever people read them.

Callers choose their own names, so every foreign text is made one short line before it is put among ours: a
name with a line break in it would otherwise forge a line of the alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import tzinfo

from vmwatch.models import Alert, Kind, Links, Privacy
from vmwatch.texts import ENGLISH, N_, Texts
from vmwatch.wording import troubles, unheard, voicemails
from vmwatch.wording.plain import LONGEST, is_e164, length, masked, moment, number, one_line
from vmwatch.wording.style import Style, Tap, Text
from vmwatch.wording.troubles import REASONS, Words

__all__ = [
    "LONGEST",
    "REASONS",
    "REPEAT",
    "Style",
    "Tap",
    "Text",
    "is_e164",
    "length",
    "masked",
    "moment",
    "number",
    "one_line",
    "repeated",
    "tappable",
    "text",
]

ACKNOWLEDGE = N_("Acknowledge")
SNOOZE = N_("Snooze 1 h")
REPEAT = N_("(This may be a repeat: the channel did not confirm the first attempt.)")


def text(
    alert: Alert,
    zone: tzinfo,
    maybe_repeat: bool = False,
    texts: Texts = ENGLISH,
    privacy: Privacy = Privacy.FULL,
) -> Text:
    """The alert in words, times in `zone`. Total: there are words for every kind, however little is known."""
    found = _WORDS[alert.kind](alert, Style(zone, texts, privacy))
    return repeated(found, texts) if maybe_repeat else found


def repeated(found: Text, texts: Texts) -> Text:
    """The same with a last line that says that it may have come before."""
    return replace(found, body=f"{found.body}\n{texts.gettext(REPEAT)}")


def tappable(found: Text, links: Links, texts: Texts) -> Text:
    """The same with a line for each link about the voicemail; how a channel shows it is the channel's business."""
    wanted = ((ACKNOWLEDGE, links.ack), (SNOOZE, links.snooze))
    taps = tuple(Tap(texts.gettext(words), url, words) for words, url in wanted if url)
    return replace(found, body="\n".join([found.body, *(f"{tap.label}: {tap.url}" for tap in taps)]), taps=taps)


_WORDS: Mapping[Kind, Words] = {
    Kind.VOICEMAIL_NEW: voicemails.new,
    Kind.VOICEMAIL_SUMMARY: voicemails.summary,
    Kind.VOICEMAIL_REMINDER: unheard.reminder,
    Kind.VOICEMAIL_ESCALATED: unheard.escalated,
    Kind.VOICEMAIL_HEARD: unheard.heard,
    Kind.VOICEMAIL_DIGEST: unheard.digest,
    Kind.VOICEMAIL_CLEARED: unheard.heard,  # never sent
    Kind.LINE_LOCKED: troubles.any_line(troubles.locked),
    Kind.LINE_REJECTED: troubles.rejected,
    Kind.LINE_NOT_ENABLED: troubles.not_enabled,
    Kind.LINE_UNKNOWN_NUMBER: troubles.unknown_number,
    Kind.LINE_UNREACHABLE: troubles.any_line(troubles.unreachable),
    Kind.LINE_RECOVERED: troubles.recovered,
    Kind.LINE_STALE: troubles.stale,
    Kind.CHANNEL_FAILING: troubles.channel_failing,
    Kind.CHANNEL_RECOVERED: troubles.channel_recovered,
    Kind.STORE_FAILING: troubles.store_failing,
    Kind.STORE_RECOVERED: troubles.store_recovered,
    Kind.TEST: troubles.test,
}
