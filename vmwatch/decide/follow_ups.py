"""What becomes of messages that were announced and that nobody has heard: told again, told to others, or left alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo

from vmwatch.decide.reading import SHOWN_IN_SUMMARY
from vmwatch.decide.reminders import next_reminder
from vmwatch.decide.rules import wanting
from vmwatch.models import (
    MINUTE,
    Alert,
    Decision,
    Due,
    Duration,
    FollowedUp,
    FollowUp,
    Instant,
    Kind,
    Recipient,
    Unheard,
    Voicemail,
)
from vmwatch.settings import Escalation, Reminder, Settings

LATE: Duration = MINUTE
"""A step that comes later than this comes after a standstill, in which the message may have been heard."""
LOOKS = 2
"""Polls that tell whether a message has gone."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What is configured for one line's messages until they are heard."""

    number: str
    label: str
    remind: tuple[Reminder, ...]
    escalate: tuple[Escalation, ...]
    own: tuple[str, ...]
    """The line's own channels."""
    everyone: tuple[Recipient, ...]
    second_look: Duration
    """How long it takes to read the line often enough."""

    @property
    def are_any(self) -> bool:
        return bool(self.remind or self.escalate)


def steps_of(settings: Settings, name: str) -> Steps:
    line = settings.lines[name]
    return Steps(
        number=line.number,
        label=settings.label_of(name),
        remind=line.remind,
        escalate=line.escalate,
        own=tuple(recipient.name for recipient in settings.recipients_of(name)),
        everyone=settings.recipients(),
        second_look=LOOKS * settings.interval_of(name) + settings.operator.timeout,
    )


def followed_up(
    unheard: Sequence[Unheard], steps: Steps, now: Instant, zone: tzinfo, patience: Duration = 0
) -> FollowedUp:
    """What is due on one line comes to at most one reminder and one escalation for the same channels.

    `patience` is how long a step that these steps know nothing of is left as it is: it may be another process's, which
    shares the ledger and has other steps for the line.
    """
    theirs = [each.follow_up for each in unheard if not _is_ours(each.follow_up, steps, now, zone, patience)]
    ours = [each for each in unheard if each.follow_up not in theirs]
    unsure = [each for each in ours if _is_unsure(each, now)]
    sure = [each for each in ours if not _is_unsure(each, now)]
    escalated = [(each, _escalated(each.follow_up, steps, now)) for each in sure]
    reminded = [(each, _reminded(each, to, steps, now, zone)) for each, to in escalated]
    later = [_second_look(each.follow_up, now + steps.second_look) for each in unsure]
    following = [_next(each.follow_up, steps, now, zone) for each in sure]
    return FollowedUp(
        alerts=(
            *_alerts(Kind.VOICEMAIL_ESCALATED, escalated, steps),
            *_alerts(Kind.VOICEMAIL_REMINDER, reminded, steps),
        ),
        next=(*theirs, *later, *(each for each in following if each is not None)),
    )


def heard(decision: Decision) -> Alert:
    """To be told to those of its channels that got word of the messages."""
    line = decision.after
    return Alert(Kind.VOICEMAIL_HEARD, decision.hear_of_left, subject=line.label, number=line.number)


def heard_of(alert: Alert, voicemails: Sequence[Voicemail], channels: tuple[str, ...]) -> Alert:
    """What these channels are told of messages that were heard: how many they are, and the newest few."""
    newest = sorted(voicemails, key=lambda one: (one.received_at or 0, one.id), reverse=True)
    told = tuple(one.id for one in voicemails)
    shown = tuple(newest[:SHOWN_IN_SUMMARY])
    return replace(alert, channels=channels, messages=told, voicemails=shown, count=len(voicemails))


def _is_ours(follow_up: FollowUp, steps: Steps, now: Instant, zone: tzinfo, patience: Duration) -> bool:
    """Whether these steps can tell what is due; what is due for so long that nobody else does it is anyone's."""
    if follow_up.due is Due.SNOOZE or now - follow_up.at >= patience:
        return True
    if follow_up.at <= follow_up.done_until:  # nothing is due yet but to find out what comes next
        return steps.are_any
    at = next_step(steps, follow_up.alerted_at, follow_up.done_until, zone)
    return at is not None and at <= follow_up.at


def _is_unsure(unheard: Unheard, now: Instant) -> bool:
    """Whether the line is to be read again first: nobody is to be told of what was heard meanwhile."""
    if unheard.is_missed:
        return True
    at = unheard.follow_up.at
    return at < now - LATE and unheard.follow_up.due is not Due.SECOND_LOOK and (unheard.read_at or 0) < at


def _second_look(follow_up: FollowUp, at: Instant) -> FollowUp:
    """Later, and else as it is: a snooze that ends stays one."""
    due = follow_up.due if follow_up.due is Due.SNOOZE else Due.SECOND_LOOK
    return replace(follow_up, at=at, due=due)


def _reminded(unheard: Unheard, escalated: Sequence[str], steps: Steps, now: Instant, zone: tzinfo) -> tuple[str, ...]:
    """The channels that are to be reminded: those it was announced on, and which are not told more just now."""
    follow_up = unheard.follow_up
    if follow_up.due is not Due.SNOOZE:
        at = next_reminder(steps.remind, follow_up.alerted_at, follow_up.done_until, zone)
        if at is None or at > now:
            return ()
    there = wanting(steps.everyone, Kind.VOICEMAIL_REMINDER)
    told = tuple(name for name in unheard.told if name in there)
    return tuple(name for name in told if name not in escalated)


def _escalated(follow_up: FollowUp, steps: Steps, now: Instant) -> tuple[str, ...]:
    """Whoever was to hear of it since it was last looked at, each once."""
    if follow_up.due is Due.SNOOZE:
        return ()
    there = frozenset(recipient.name for recipient in steps.everyone)
    since = follow_up.done_until - follow_up.alerted_at
    due = (step for step in steps.escalate if since < step.after <= now - follow_up.alerted_at)
    return tuple(dict.fromkeys(name for step in due for name in step.channels if name in there))


def _next(follow_up: FollowUp, steps: Steps, now: Instant, zone: tzinfo) -> FollowUp | None:
    """From here on; the end of a snooze is where everything begins again."""
    begun = now if follow_up.due is Due.SNOOZE else follow_up.alerted_at
    at = next_step(steps, begun, now, zone)
    if at is None:
        return None
    return replace(follow_up, alerted_at=begun, done_until=now, at=at, due=Due.STEP)


def next_step(steps: Steps, alerted_at: Instant, now: Instant, zone: tzinfo) -> Instant | None:
    """When the next reminder or escalation is due; None: there is none."""
    reminder = next_reminder(steps.remind, alerted_at, now, zone)
    escalation = (at for step in steps.escalate if (at := alerted_at + step.after) > now)
    return min((at for at in (reminder, next(escalation, None)) if at is not None), default=None)


def _alerts(kind: Kind, told: Iterable[tuple[Unheard, tuple[str, ...]]], steps: Steps) -> tuple[Alert, ...]:
    """One alert for all messages that the same channels are told of."""
    by_channels: dict[tuple[str, ...], list[Unheard]] = {}
    for unheard, channels in told:
        if channels:
            by_channels.setdefault(channels, []).append(unheard)
    return tuple(_alert(kind, channels, messages, steps) for channels, messages in by_channels.items())


def _alert(kind: Kind, channels: tuple[str, ...], messages: Sequence[Unheard], steps: Steps) -> Alert:
    voicemails = [each.voicemail for each in messages]
    return Alert(
        kind=kind,
        channels=channels,
        subject=steps.label,
        number=steps.number,
        messages=tuple(voicemail.id for voicemail in voicemails),
        voicemails=tuple(reversed(voicemails[-SHOWN_IN_SUMMARY:])),
        count=len(voicemails),
        since=min(each.follow_up.alerted_at for each in messages),
        urgent=any(each.urgent for each in messages),
    )
