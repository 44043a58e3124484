"""Held, reminded of, put off, muted, in any order, with crashes: every message is told once, or was seen to.

tests/slow/test_nights_long.py is the long run.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from ledgers import REFUSED, SENT
from night_model import STEPS, Step, lived, steps

from vmwatch import decide
from vmwatch.models import HOUR, MINUTE

NO_STEPS = replace(STEPS, remind=(), escalate=())
BRIEFLY = settings(
    max_examples=20,
    derandomize=True,
    phases=[Phase.generate],  # shrinking takes minutes: the long run does it
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ROUND: Step = ("round", (None, SENT))


@pytest.mark.parametrize("reminds", [STEPS, NO_STEPS], ids=["reminded", "told once"])
@BRIEFLY
@given(todo=steps)
def test_in_any_order_of_steps_every_message_is_told_once_or_was_seen_to(
    reminds: decide.Steps, todo: list[Step]
) -> None:
    lived(todo, reminds)


@pytest.mark.parametrize("dies_after", range(14))
def test_a_morning_in_which_the_process_dies_is_told_all_the_same(dies_after: int) -> None:
    night: list[Step] = [ROUND, ("wait", HOUR), ("call", False), ROUND, ("call", False), ("call", True), ROUND, ROUND]
    morning: list[Step] = [("wait", 9 * HOUR), ("round", (dies_after, SENT)), ROUND]
    life = lived([*night, *morning])
    assert all({"m1", "m2"} <= told for told in life.told.values())
    assert sum(life.excused.values()) <= 1


def test_a_dead_channel_tells_all_when_it_is_back() -> None:
    dead: list[Step] = [("round", (None, REFUSED)), ("wait", 10 * MINUTE)]
    life = lived([("wait", 12 * HOUR), ROUND, ("call", False), ROUND, *dead * 30, ROUND])
    assert all(told == {"m1"} for told in life.told.values())


NOON: list[Step] = [("wait", 12 * HOUR), ROUND]
DEAD: Step = ("round", (None, REFUSED))
STORIES: dict[str, list[Step]] = {
    "what was acknowledged meanwhile is in no digest": [
        *[("call", False)] * 2, ROUND, ROUND, ("ack", 0), ("wait", 9 * HOUR), ROUND,
    ],
    "of a summary that was held the digest tells what is still new": [
        *[("call", False)] * 6, ROUND, ROUND, ("hear", 0), ROUND, ROUND, ("wait", 9 * HOUR), ROUND,
    ],
    "a reminder that could not be sent goes when the message is heard": [
        *NOON, ("call", False), ROUND, ROUND, ("wait", 30 * MINUTE), DEAD, ("hear", 0), DEAD, DEAD,
    ],
    "what comes back after an empty mailbox was shown twice is told all the same": [
        *NOON, ("call", False), DEAD, ("glitch", 2), DEAD, DEAD, DEAD,
    ],
    "a snooze that ends in the night is told in the morning": [
        *NOON, ("wait", 10 * HOUR), ("call", False), ROUND, ROUND, ("snooze", 0), ("wait", HOUR), ROUND,
    ],
    "who is muted is not told of after a snooze either": [
        *NOON, ("call", True), ROUND, ("snooze", 0), ("wait", HOUR), ROUND, ("wait", 3 * HOUR), ROUND,
    ],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
@pytest.mark.parametrize("reminds", [STEPS, NO_STEPS], ids=["reminded", "told once"])
def test_what_was_hard_once_goes_well(story: list[Step], reminds: decide.Steps) -> None:
    lived(story, reminds)
