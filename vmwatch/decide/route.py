"""Who would be told of a message, when, and why: what a poll, a reminder and a channel would decide, put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum

from vmwatch.book import Book
from vmwatch.decide.callers import Treatment, of_voicemail
from vmwatch.decide.follow_ups import Steps, followed_up, steps_of
from vmwatch.decide.hold import Patience, hold
from vmwatch.decide.rules import Rules, rules_of, to_tell
from vmwatch.models import Fate, FollowUp, Held, Instant, Kind, Recipient, Unheard, Voicemail
from vmwatch.settings import Settings


class Why(StrEnum):
    """Why a channel is told, or is not."""

    LINE = "line"
    GROUP = "group"
    REMINDED = "reminded"
    ESCALATED = "escalated"
    NOT_ASKED = "not_asked"
    EVENTS = "events"
    MUTED = "muted"
    TOO_SHORT = "too_short"


_NOT_ANNOUNCED = {Fate.MUTED: Why.MUTED, Fate.TOO_SHORT: Why.TOO_SHORT}
_FOLLOWING = {Kind.VOICEMAIL_REMINDER: Why.REMINDED, Kind.VOICEMAIL_ESCALATED: Why.ESCALATED}


@dataclass(frozen=True, slots=True)
class Telling:
    channel: str
    kind: Kind
    why: Why
    at: Instant | None = None
    """When it is sent, if the message is still new then; None: never."""
    held: Held | None = None
    """What it waits for until then."""


@dataclass(frozen=True, slots=True)
class Route:
    treatment: Treatment
    tellings: tuple[Telling, ...]
    """The announcement on each channel there is; then what follows as long as nobody hears it, the earliest first."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What a configuration says of the line that was called, and of every channel."""

    rules: Rules
    steps: Steps
    patience: Mapping[str, Patience]
    zone: tzinfo
    """In which reminders have their times of day."""


def ways_of(settings: Settings, name: str, patience: Mapping[str, Patience], zone: tzinfo) -> Ways:
    return Ways(rules_of(settings, name), steps_of(settings, name), patience, zone)


def route(voicemail: Voicemail, ways: Ways, book: Book, now: Instant) -> Route:
    """As if a poll brought the message now, and nothing else came that a budget would count."""
    treated = of_voicemail(ways.rules.callers, voicemail, book)
    announced = tuple(_announced(recipient, treated, ways, now) for recipient in ways.rules.everyone)
    follows = ways.rules.follows and treated.fate is Fate.ANNOUNCED
    after = _followed(voicemail, announced, treated, ways, now) if follows else ()
    return Route(treated, (*announced, *after))


def _announced(recipient: Recipient, treated: Treatment, ways: Ways, now: Instant) -> Telling:
    against = _objection(recipient, treated, ways.rules)
    if against is not None:
        return Telling(recipient.name, Kind.VOICEMAIL_NEW, against)
    why = Why.LINE if treated.channels is None else Why.GROUP
    return _sent(recipient.name, Kind.VOICEMAIL_NEW, why, treated, ways, now)


def _objection(recipient: Recipient, treated: Treatment, rules: Rules) -> Why | None:
    if treated.fate in _NOT_ANNOUNCED:
        return _NOT_ANNOUNCED[treated.fate]
    if recipient not in to_tell(rules, treated.channels):
        return Why.NOT_ASKED
    return None if recipient.wants(Kind.VOICEMAIL_NEW) else Why.EVENTS


def _followed(
    voicemail: Voicemail, announced: Sequence[Telling], treated: Treatment, ways: Ways, now: Instant
) -> Iterator[Telling]:
    """Step by step, as the follow-ups of the real one: each tells when the next is."""
    follow_up: FollowUp | None = FollowUp(ways.steps.number, voicemail.id, now, now, now)
    again: dict[str, Instant] = {}
    while follow_up is not None:
        at = follow_up.at
        told = tuple(each.channel for each in announced if _is_told(each, at) and again.get(each.channel, at - 1) < at)
        unheard = Unheard(follow_up, voicemail, is_missed=False, read_at=at, told=told, urgent=treated.urgent)
        found = followed_up([unheard], ways.steps, at, ways.zone)
        for alert in found.alerts:
            sent = [_sent(name, alert.kind, _FOLLOWING[alert.kind], treated, ways, at) for name in alert.channels]
            again |= {each.channel: each.at for each in sent if each.at is not None}
            yield from sent
        follow_up = next(iter(found.next), None)


def _is_told(announced: Telling, now: Instant) -> bool:
    return announced.at is not None and announced.at <= now


def _sent(channel: str, kind: Kind, why: Why, treated: Treatment, ways: Ways, at: Instant) -> Telling:
    held = hold(ways.patience[channel], kind, treated.urgent, at)
    return Telling(channel, kind, why, at) if held is None else Telling(channel, kind, why, held.until, held.why)
