"""What is counted while the daemon runs, for /metrics: sums and buckets only, so it never grows with time. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque

from vmwatch.models import MINUTE, SECOND, Decision, Duration, Instant, LineState, Outcome, Reason

_LATE = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_POLL = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_COMMIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Histogram:
    """How many measurements, in seconds, were at most so long."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Not cumulative; the last one is of what was longer than every bound."""
        self.total = 0.0

    def add(self, span: Duration | float) -> None:
        """A measurement in ms; a clock that was set in between makes no negative one."""
        seconds = max(span, 0) / SECOND
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class LastMinute:
    """What was counted within the last minute, of sums that only grow. By a steady clock, looked at now and then."""

    def __init__(self) -> None:
        self._sums: deque[tuple[Duration, tuple[int, ...]]] = deque()

    def note(self, at: Duration, *sums: int) -> None:
        if not self._sums or at - self._sums[-1][0] >= SECOND:
            self._sums.append((at, sums))
        while len(self._sums) > 1 and self._sums[1][0] <= at - MINUTE:
            self._sums.popleft()

    def of(self, *sums: int) -> tuple[int, ...]:
        """By how much these sums exceed those of a minute ago."""
        before = self._sums[0][1] if self._sums else (0,) * len(sums)
        return tuple(now - then for now, then in zip(sums, before, strict=True))


class Tally:
    def __init__(self) -> None:
        self.polls: Counter[tuple[LineState, Reason]] = Counter()
        self.messages: Counter[str] = Counter()
        """By the line's name."""
        self.deliveries: Counter[tuple[str, Outcome]] = Counter()
        """Attempts by the channel's name."""
        self.claims: Counter[str] = Counter()
        self.rounds = 0
        self.last_round_at: Instant | None = None
        self.last_read: dict[str, Instant] = {}
        """By the line's number; the ledger hears of a quiet poll minutes later."""
        self.poll_time = Histogram(_POLL)
        self.lateness = Histogram(_LATE)
        self.commit_time = Histogram(_COMMIT)

    def begun(self, late: Duration) -> None:
        """A poll was claimed, so much later than it was due."""
        self.claims["poll"] += 1
        self.lateness.add(late)

    def quiet(self, number: str, now: Instant) -> None:
        """A poll brought the last answer again."""
        self.polls[LineState.OK, Reason.NOTHING_NEW] += 1
        self.last_read[number] = now

    def judged(self, decision: Decision) -> None:
        after = decision.after
        self.polls[after.state, decision.reason] += 1
        if after.last_success_at is not None:
            self.last_read[after.number] = after.last_success_at
        if decision.fresh:
            self.messages[after.name] += len(decision.fresh)

    def claimed_delivery(self) -> None:
        self.claims["delivery"] += 1

    def delivered(self, channel: str, outcome: Outcome) -> None:
        self.deliveries[channel, outcome] += 1

    def round_ended(self, now: Instant) -> None:
        self.rounds += 1
        self.last_round_at = now
