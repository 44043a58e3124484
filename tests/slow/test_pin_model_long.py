"""Promise 2, at length: more than 10,000 random steps, and at most one failed login for each human action.

The seed is fresh each time, and printed for each batch: `--hypothesis-seed=N` begins with that batch, as far as a real
ledger and real sockets can be repeated.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from pin_book import SEEN
from pin_model import PinSafety

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 10_000
AT_ONCE = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    database=None,
    derandomize=False,
    suppress_health_check=list(HealthCheck),
)
MET = (
    "failed logins",
    "second failed logins, the first lost",
    "failed logins excused",
    "locked answers",
    "verbs",
    "clock set",
    "daemons refused",
    "crash, claimed",
    "crash, sent",
    "crash, answered",
    "crash, recording",
    "held, claiming",
    "held, claimed",
    "held, answered",
)


def test_whatever_happens_in_any_order_one_wrong_pin_costs_one_failed_login(request: pytest.FixtureRequest) -> None:
    SEEN.clear()
    for number in _seeds(request.config.getoption("--hypothesis-seed")):
        print(f"after {SEEN['steps']:,} steps: --hypothesis-seed={number}")
        run_state_machine_as_test(_seeded(number), settings=AT_ONCE)
        if SEEN["steps"] >= STEPS:
            break
    print(f"PIN model: {SEEN['steps']:,} steps, {SEEN['failed logins']:,} failed logins, 0 violations")
    print(", ".join(f"{what}: {SEEN[what]:,}" for what in sorted(SEEN)))
    assert [what for what in MET if not SEEN[what]] == [], "the model was idle where it must not be"


def _seeds(chosen: str | None) -> Iterator[int]:
    return count(random.SystemRandom().randrange(2**32) if chosen is None else int(chosen))


def _seeded(number: int) -> type[PinSafety]:
    """A class of its own, for the seed is kept on it."""
    return seed(number)(type("PinSafety", (PinSafety,), {}))
