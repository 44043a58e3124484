"""What the configuration says of one line, as far as a decision needs it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vmwatch.backoff import Grid, delay
from vmwatch.models import Alert, Duration, Instant, Kind, Moment, Reason, Recipient, Standing
from vmwatch.settings import BRISK, Backoff, Callers, Polling, Settings

TOGETHER = 8
"""So many lines, neighbours by number, are polled at one go: one commit for all of them, where each alone takes one
of its own. Not lines that are polled so often that alerts, which go to a channel one by one, would wait for each other.
"""


@dataclass(frozen=True, slots=True)
class Rules:
    grid: Grid
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
    return _rules(settings, name, _grids(settings))


def rules_by_line(settings: Settings) -> dict[str, Rules]:
    """By name. Lines that are configured alike share theirs: there may be 50,000 of them."""
    grids = _grids(settings)
    shared: dict[tuple[object, ...], Rules] = {}
    found = {}
    for name, line in settings.lines.items():
        alike = (line.interval, line.channels, line.follows)
        if alike not in shared:
            shared[alike] = _rules(settings, name, grids)
        found[name] = shared[alike]
    return found


def _rules(settings: Settings, name: str, grids: Mapping[Duration, Grid]) -> Rules:
    return Rules(
        grid=grids[settings.interval_of(name)],
        polling=settings.polling,
        recipients=settings.recipients_of(name),
        everyone=settings.recipients(),
        follows=settings.lines[name].follows,
        callers=settings.callers,
    )


def _grids(settings: Settings) -> dict[Duration, Grid]:
    """By interval."""
    numbers = defaultdict(list)
    for name, line in settings.lines.items():
        numbers[settings.interval_of(name)].append(line.number)
    return {interval: grid_of(interval, settings.polling.jitter, lines) for interval, lines in numbers.items()}


def grid_of(interval: Duration, jitter: float, numbers: Iterable[str]) -> Grid:
    """Of lines that share an interval, by their numbers."""
    return Grid(interval, jitter, () if interval < BRISK else tuple(sorted(numbers)[::TOGETHER]))


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
