"""Whether an alert is sent on a channel now, or held until when, and why; and what a hold's end comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo

from vmwatch.decide.local import instant_of, wall
from vmwatch.decide.quiet import quiet_until
from vmwatch.decide.reading import SHOWN_IN_SUMMARY
from vmwatch.hours import Minute, Window
from vmwatch.models import Alert, Arrival, Held, Hold, Instant, Kind, Queue, Voicemail
from vmwatch.settings import Budget, Channel

DIGESTED = frozenset(
    {
        Kind.VOICEMAIL_NEW,
        Kind.VOICEMAIL_SUMMARY,
        Kind.VOICEMAIL_REMINDER,
        Kind.VOICEMAIL_ESCALATED,
        Kind.VOICEMAIL_DIGEST,
    }
)
"""What a digest stands for; anything else that was held is sent by itself."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Patience:
    """What a channel can wait for."""

    zone: tzinfo
    quiet: tuple[Window, ...] = ()
    digest: Minute | None = None
    budget: Budget | None = None
    urgent: tuple[str, ...] = ()

    @property
    def is_endless(self) -> bool:
        """Whether nothing is ever held."""
        return not self.quiet and self.digest is None and self.budget is None


def patience_of(channel: Channel, zone: tzinfo) -> Patience:
    digest = None if channel.digest is None else channel.digest.minute
    return Patience(zone, channel.quiet, digest, channel.budget, channel.urgent)


def hold(patience: Patience, kind: Kind, urgent: bool, now: Instant, sent_at: Sequence[Instant] = ()) -> Hold | None:
    """None: it is sent now. `sent_at`, the earliest first, is when something was sent within the budget's time.

    A digest is told at its time of day, and not before; a hold that would end in quiet hours ends with those.
    """
    if passes(patience, kind, urgent):
        return None
    found = _by_digest(patience, kind, now) or _by_quiet(patience, now) or _by_budget(patience, now, sent_at)
    if found is None:
        return None
    return Hold(quiet_until(patience.quiet, found.until, patience.zone) or found.until, found.why)


def holds(patience: Patience, queue: Queue, now: Instant) -> list[tuple[Arrival, Hold]]:
    """Of what is due, that which is held; what is sent now counts against the budget of what comes after it."""
    sent_at, found = list(queue.sent_at), []
    for arrival in queue.fresh:
        held = hold(patience, arrival.kind, arrival.urgent, now, sent_at)
        if held is not None:
            found.append((arrival, held))
        elif arrival.kind is not Kind.VOICEMAIL_CLEARED:
            sent_at.append(now)
    return found


def passes(patience: Patience, kind: Kind, urgent: bool) -> bool:
    """A test is for who waits for it; a store in trouble silences everything else; clearing makes no noise."""
    named = kind.value in patience.urgent or kind.group in patience.urgent
    return urgent or named or kind.group in ("test", "store") or kind is Kind.VOICEMAIL_CLEARED


def digest(channel: str, voicemails: Sequence[tuple[str, Voicemail]]) -> Alert:
    """One alert for all that is still new, each with its line's label; the earliest first."""
    labels = tuple(dict.fromkeys(label for label, _ in voicemails))
    return Alert(
        kind=Kind.VOICEMAIL_DIGEST,
        channels=(channel,),
        subject=", ".join(labels),
        voicemails=tuple(voicemail for _, voicemail in reversed(voicemails[-SHOWN_IN_SUMMARY:])),
        count=len(voicemails),
    )


def _by_digest(patience: Patience, kind: Kind, now: Instant) -> Hold | None:
    if patience.digest is None or kind not in DIGESTED or kind is Kind.VOICEMAIL_DIGEST:
        return None
    today = wall(now, patience.zone).date()
    days = (today + number * _DAY for number in range(3))
    at = (instant_of(day, patience.digest, patience.zone, last=False) for day in days)
    return Hold(next(instant for instant in at if instant > now), Held.DIGEST)


def _by_quiet(patience: Patience, now: Instant) -> Hold | None:
    until = quiet_until(patience.quiet, now, patience.zone)
    return None if until is None else Hold(until, Held.QUIET)


def _by_budget(patience: Patience, now: Instant, sent_at: Sequence[Instant]) -> Hold | None:
    budget = patience.budget
    if budget is None:
        return None
    counted = [instant for instant in sent_at if instant > now - budget.span]
    if len(counted) < budget.count:
        return None
    return Hold(counted[-budget.count] + budget.span, Held.BUDGET)
