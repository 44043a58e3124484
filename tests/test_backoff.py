"""Growing waits, and a poll's place in its interval."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from values import NOW, NUMBER

from vmwatch.backoff import delay, next_slot
from vmwatch.models import DAY, HOUR, MINUTE, SECOND

SPREADS = st.floats(-1, 1)
INTERVALS = st.integers(SECOND, 7 * DAY)
JITTERS = st.floats(0, 0.5)
ROUNDING = 0.001


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 900), (7, 900), (10_000, 900)]
)
def test_a_wait_doubles_until_its_cap(failures: int, seconds: int) -> None:
    assert delay(30 * SECOND, 15 * MINUTE, failures, 0.1, 0.0) == seconds * SECOND


@given(failures=st.integers(1, 10**9), jitter=JITTERS, spread=SPREADS)
def test_jitter_only_ever_lengthens_a_wait_and_by_no_more_than_its_share(
    failures: int, jitter: float, spread: float
) -> None:
    plain = delay(HOUR, DAY, failures, jitter, 0.0)
    assert plain <= delay(HOUR, DAY, failures, jitter, spread) <= plain * (1 + jitter) + ROUNDING


@pytest.mark.parametrize("spread", [-1.0, 1.0])
def test_jitter_is_there_at_all(spread: float) -> None:
    assert delay(HOUR, DAY, 1, 0.1, spread) == 66 * MINUTE


@given(now=st.integers(0, 4 * NOW), interval=INTERVALS, jitter=JITTERS, spread=SPREADS)
def test_whenever_a_line_was_read_it_is_due_within_one_stretched_interval(
    now: int, interval: int, jitter: float, spread: float
) -> None:
    assert 0 < next_slot(NUMBER, now, interval, jitter, spread) - now <= interval * (1 + jitter) + ROUNDING


@given(interval=INTERVALS, jitter=JITTERS, spreads=st.lists(SPREADS, min_size=2, max_size=50))
@example(interval=60_001, jitter=0.1, spreads=[-1.0, -0.9999, -1.0, 1.0, -1.0])
def test_once_on_its_grid_a_line_is_never_polled_earlier_or_later_than_its_jitter_allows(
    interval: int, jitter: float, spreads: list[float]
) -> None:
    polls = [next_slot(NUMBER, NOW, interval, jitter, spreads[0])]
    for spread in spreads[1:]:
        polls.append(next_slot(NUMBER, polls[-1], interval, jitter, spread))
    waits = [later - earlier for earlier, later in pairwise(polls)]
    assert {type(wait) for wait in waits} == {int}
    assert interval * (1 - jitter) - ROUNDING <= min(waits)
    assert max(waits) <= interval * (1 + jitter) + ROUNDING


@pytest.mark.parametrize("spread", [-1.0, 0.0, 1.0])
def test_ten_thousand_polls_do_not_drift(spread: float) -> None:
    first = poll = next_slot(NUMBER, NOW, MINUTE, 0.1, spread)
    for _ in range(10_000):
        poll = next_slot(NUMBER, poll, MINUTE, 0.1, spread)
    assert poll - first == 10_000 * MINUTE


def test_a_heartbeat_that_comes_late_adds_nothing_to_the_next_wait() -> None:
    first = poll = next_slot(NUMBER, NOW, MINUTE, 0.1, 0.3)
    for _ in range(1000):
        poll = next_slot(NUMBER, poll + 999, MINUTE, 0.1, 0.3)
    assert poll - first == 1000 * MINUTE


def test_lines_are_spread_over_the_interval() -> None:
    slots = {next_slot(f"+45719{number:05}", NOW, MINUTE, 0.1, 0.0) // (6 * SECOND) for number in range(200)}
    assert len(slots) >= 10
