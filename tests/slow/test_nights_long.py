"""The same as tests/test_nights.py, for long, with other steps each time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from night_model import STEPS, Step, lived, steps

from vmwatch import decide

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

LONG = settings(max_examples=150, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("reminds", [STEPS, replace(STEPS, remind=(), escalate=())], ids=["reminded", "told once"])
@LONG
@given(todo=steps)
def test_in_any_order_of_steps_every_message_is_told_once_or_was_seen_to(
    reminds: decide.Steps, todo: list[Step]
) -> None:
    lived(todo, reminds)
