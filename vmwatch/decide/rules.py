"""What the configuration says of one line, as far as a decision needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmwatch.backoff import delay
from vmwatch.models import Alert, Duration, Instant, Kind, Moment, Reason, Recipient, Standing
from vmwatch.settings import Backoff, Callers, Polling, Settings


@dataclass(frozen=True, slots=True)
class Rules:
    interval: Duration
    polling: Polling
    recipients: tuple[Recipient, ...]
    everyone: tuple[Recipient, ...] = ()
    """Every channel there is, for what concerns no single line."""
    follows: bool = False
    """Whether messages are told again until they are heard."""
    callers: Mapping[str, Callers] = field(default_factory=dict)
    """Groups of callers."""

    def wait(self, backoff: Backoff, failures: int, moment: Moment) -> Duration:
        return delay(backoff.initial, backoff.max, failures, self.polling.jitter, moment.spread)


def rules_of(settings: Settings, name: str) -> Rules:
    return Rules(
        interval=settings.interval_of(name),
        polling=settings.polling,
        recipients=settings.recipients_of(name),
        everyone=settings.recipients(),
        follows=settings.lines[name].follows,
        callers=settings.callers,
    )


def rules_by_line(settings: Settings) -> dict[str, Rules]:
    """By name. Lines that are configured alike share theirs: there may be 50,000 of them."""
    shared: dict[tuple[object, ...], Rules] = {}
    found = {}
    for name, line in settings.lines.items():
        alike = (line.interval, line.channels, line.follows)
        if alike not in shared:
            shared[alike] = rules_of(settings, name)
        found[name] = shared[alike]
    return found


def to_tell(rules: Rules, channels: tuple[str, ...] | None) -> tuple[Recipient, ...]:
    """Those that a group of callers names, wherever they called; None: the line's own."""
    if channels is None:
        return rules.recipients
    return tuple(recipient for recipient in rules.everyone if recipient.name in channels)


def wanting(recipients: tuple[Recipient, ...], kind: Kind) -> tuple[str, ...]:
    return tuple(recipient.name for recipient in recipients if recipient.wants(kind))


def line_alert(
    standing: Standing,
    recipients: tuple[Recipient, ...],
    kind: Kind,
    reason: Reason,
    since: Instant,
    next_poll_at: Instant | None = None,
) -> Alert:
    """An alert about a line's own standing. It is recorded even where no channel wants it."""
    return Alert(
        kind=kind,
        channels=wanting(recipients, kind),
        subject=standing.label,
        number=standing.number,
        reason=reason,
        detail=standing.detail,
        since=since,
        next_poll_at=next_poll_at,
    )
