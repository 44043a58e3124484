"""Growing waits, and a poll's place in its interval."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from statistics import mean, stdev

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from values import NOW, NUMBER

from vmwatch.backoff import Grid, delay
from vmwatch.models import DAY, HOUR, MINUTE, SECOND

SPREADS = st.floats(-1, 1)
INTERVALS = st.integers(SECOND, 7 * DAY)
JITTERS = st.floats(0, 0.5)
ROUNDING = 0.001
NUMBERS = tuple(f"+45719{number:05}" for number in range(200))


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


GRIDS = st.builds(Grid, INTERVALS, JITTERS, st.sampled_from([(), (NUMBER,), NUMBERS[::8]]))


@given(now=st.integers(0, 4 * NOW), grid=GRIDS)
def test_whenever_a_line_was_read_it_is_due_within_one_stretched_interval(now: int, grid: Grid) -> None:
    assert 0 < grid.following(NUMBER, now) - now <= grid.interval * (1 + grid.jitter) + ROUNDING


@given(grid=GRIDS, now=st.integers(0, 4 * NOW))
@example(grid=Grid(60_001, 0.1), now=NOW)
def test_once_on_its_grid_a_line_is_never_polled_earlier_or_later_than_its_jitter_allows(grid: Grid, now: int) -> None:
    polls = take(50, times(grid, grid.following(NUMBER, now)))
    waits = [later - earlier for earlier, later in pairwise(polls)]
    assert {type(wait) for wait in waits} == {int}
    assert grid.interval * (1 - grid.jitter) - ROUNDING <= min(waits)
    assert max(waits) <= grid.interval * (1 + grid.jitter) + ROUNDING


@pytest.mark.parametrize("leaders", [(), (NUMBERS[0],)])
def test_ten_thousand_polls_do_not_drift(leaders: tuple[str, ...]) -> None:
    first, *_, last = take(10_001, times(Grid(MINUTE, 0.1, leaders)))
    assert abs(last - first - 10_000 * MINUTE) <= 6 * SECOND


@pytest.mark.parametrize("leaders", [(), (NUMBERS[0],)])
def test_waits_are_spread_over_all_that_jitter_allows(leaders: tuple[str, ...]) -> None:
    polls = take(1000, times(Grid(MINUTE, 0.1, leaders)))
    waits = [(later - earlier) / MINUTE for earlier, later in pairwise(polls)]
    assert min(waits) < 0.92
    assert max(waits) > 1.08
    assert mean(waits) == pytest.approx(1, abs=0.001)
    assert stdev(waits) > 0.01


def test_a_heartbeat_that_comes_late_adds_nothing_to_the_next_wait() -> None:
    grid = Grid(MINUTE, 0.1)
    assert take(1000, times(grid, late=999)) == take(1000, times(grid))


def test_lines_with_places_of_their_own_are_spread_over_the_interval() -> None:
    slots = {Grid(MINUTE, 0.1).following(number, NOW) // (6 * SECOND) for number in NUMBERS}
    assert len(slots) >= 10


@given(now=st.integers(0, 4 * NOW))
def test_lines_that_share_a_place_stay_together(now: int) -> None:
    grid = Grid(MINUTE, 0.1, NUMBERS[:1])
    assert len({grid.following(number, now) for number in NUMBERS}) == 1


def test_a_number_shares_the_place_of_the_leader_before_it() -> None:
    grid = Grid(MINUTE, 0.1, ("+451", "+453"))
    found = [grid.following(number, NOW) for number in ("+450", "+451", "+452", "+453", "+459")]
    alone = [Grid(MINUTE, 0.1).following(number, NOW) for number in ("+450", "+451", "+451", "+453", "+453")]
    assert found == alone
    assert len(set(found)) == 3


def times(grid: Grid, now: int = NOW, late: int = 0) -> Iterator[int]:
    """When a line is due, again and again, if each poll comes so late."""
    while True:
        now = grid.following(NUMBER, now + late)
        yield now


def take(count: int, polls: Iterator[int]) -> list[int]:
    return list(islice(polls, count))
