"""Promise 2 in any order of steps, briefly; and sequences that broke it once, or would without one of its guards.

tests/slow/test_pin_model_long.py is the long run. What must hold stands in `pin_book`, the steps are in `pin_model`.
Each `replay` looks at all of it in the end; the numbers here are besides.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pin_model import PinSafety, replay
from pin_world import NAMES, Point

from vmwatch.models import DAY, HOUR, MINUTE, SECOND
from vmwatch.simulator import Odd, Verdict

OVER_AN_HOUR, OVER_TWO_HOURS, OVER_FOUR_HOURS = 67 * MINUTE, 133 * MINUTE, 265 * MINUTE
"""Longer than a back-off of one, two, four hours with its jitter."""
A_WHILE = [6 * MINUTE, OVER_AN_HOUR, OVER_AN_HOUR, DAY]
BRIEFLY = settings(
    max_examples=8,
    stateful_step_count=20,
    derandomize=True,
    phases=[Phase.generate],  # shrinking takes minutes: the long run does it
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def failed(state: PinSafety, name: str = "a") -> int:
    """Logins with a wrong PIN, as the operator counted them."""
    log = state.world.operator.log[state.line(name).number]
    return sum(login.verdict in (Verdict.PIN_INVALID, Verdict.NO_PIN) for login in log)


def verdicts(state: PinSafety, name: str = "a") -> list[Verdict]:
    return [login.verdict for login in state.world.operator.log[state.line(name).number]]


def test_in_any_order_of_steps_one_wrong_pin_costs_one_failed_login() -> None:
    run_state_machine_as_test(PinSafety, settings=BRIEFLY)


# ---- verdicts that were lost ----


def test_whoever_dies_with_each_request_asks_twice() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong={"a"}, daemon=False)
        for _ in range(4):
            state.a_process_dies_at_a_point(Point.SENT, ("a",), 6 * MINUTE, back=False)
        state.the_daemon_starts(None)
        state.life_goes_on(A_WHILE)
        assert failed(state) == 2


def test_a_supervisor_that_starts_a_dying_daemon_again_makes_it_ask_twice() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.somebody_edits_a_pin("a", 1, "later", [])
        for point in (Point.ADOPTED, Point.SENT, Point.ANSWERED, Point.RECORDING, Point.CLAIMED):
            state.the_daemon_is_killed(back=False)
            state.a_process_dies_at_a_point(point, ("a",), 6 * MINUTE, back=True)
        state.life_goes_on(A_WHILE)
        assert failed(state) <= 2


def test_an_untrusted_pin_whose_verdicts_are_lost_is_tried_twice() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong={"a"}, daemon=False)
        state.the_next_answers_are_odd("a", [Odd.DROP, Odd.BAD_GATEWAY, Odd.RESET, Odd.GATEWAY_TIMEOUT], [])
        state.the_daemon_starts(None)
        state.life_goes_on(A_WHILE)
        assert failed(state) == 2


def test_a_refusal_that_nobody_can_read_puts_a_trusted_pin_in_doubt() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.the_operators_pin_is_changed("a", 1, [Odd.EMPTY_403, Odd.DROP, Odd.DROP, Odd.DROP], A_WHILE)
        assert failed(state) == 2


def test_a_lock_out_takes_trust_away() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.a_lock_out_ends_with_another_pin(
            "a", met=[MINUTE], pin=1, what=[Odd.DROP] * 3, then=[OVER_AN_HOUR, *A_WHILE]
        )
        ours = failed(state) - 3
        assert ours == 2


def test_the_limit_a_trusted_pin_is_tried_on_until_a_verdict_is_heard() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.the_operators_pin_is_changed("a", 1, [Odd.DROP, Odd.RESET], A_WHILE)
        assert failed(state) == 3, "two in the outage, and the one that was heard"


# ---- people ----


def test_a_resume_and_a_changed_pin_allow_one_try_each() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong={"a"}, daemon=True)
        state.somebody_resumes("a", A_WHILE)
        state.the_operator_unlocks("a")
        state.somebody_edits_a_pin("a", 2, "at once", A_WHILE)
        assert failed(state) == 3


def test_a_corrected_pin_s_try_is_not_spent_on_the_old_one() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong={"a"}, daemon=True)
        state.somebody_edits_a_pin("a", 0, "slowly", [MINUTE])
        assert verdicts(state)[:2] == [Verdict.PIN_INVALID, Verdict.OK]


def test_the_old_pin_s_verdict_is_not_held_against_the_new_one() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong={"a"}, daemon=False)
        state.a_process_is_held_at_a_point(Point.ANSWERED, ("a",), SECOND)
        state.the_daemon_starts(None)
        state.somebody_edits_a_pin("a", 0, "at once", [])
        state.what_was_held_goes_on()
        state.life_goes_on(A_WHILE)
        assert set(verdicts(state)[1:]) == {Verdict.OK}


def test_a_pause_in_the_middle_of_an_attempt_holds() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.the_operators_pin_is_changed("a", 1, [], [])
        state.somebody_acts_during_an_attempt(Point.ANSWERED, "a", OVER_AN_HOUR, "pause", 0, A_WHILE)
        assert failed(state) == 1


def test_a_resume_in_the_middle_of_an_attempt_ends_the_pause() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.a_process_is_held_at_a_point(Point.RECORDING, ("a",), OVER_AN_HOUR)
        state.somebody_pauses("a", None)
        state.somebody_resumes("a", [])
        state.what_was_held_goes_on()
        state.life_goes_on([OVER_AN_HOUR])
        assert verdicts(state) == [Verdict.OK] * 3


# ---- a locked line ----


def test_each_lock_out_that_is_met_doubles_the_back_off() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        hours = [OVER_AN_HOUR, OVER_AN_HOUR, OVER_AN_HOUR, OVER_FOUR_HOURS]
        state.somebody_else_fails_to_log_in("a", 3, [2 * MINUTE, *hours])
        assert verdicts(state)[4:] == [Verdict.LOCKED] * 3 + [Verdict.OK]


def test_trouble_does_not_shorten_a_locked_line_s_back_off() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.somebody_else_fails_to_log_in("a", 3, [2 * MINUTE])
        state.the_next_answers_are_odd("a", [Odd.INTERNAL_ERROR, Odd.DROP], [OVER_AN_HOUR, *[10 * MINUTE] * 5])
        assert len(verdicts(state)) == 1 + 3 + 2


def test_a_clock_that_is_set_moves_no_back_off() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.somebody_else_fails_to_log_in("a", 3, [2 * MINUTE])
        for by in (60 * DAY, -HOUR, -60 * DAY, HOUR):
            state.the_clock_is_set(by)
            state.life_goes_on([10 * MINUTE])
        assert len(verdicts(state)) == 1 + 3 + 1


def test_a_daemon_that_starts_with_the_clock_set_back_keeps_what_was_written_by_the_old_clock() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong=set(), daemon=True)
        state.somebody_else_fails_to_log_in("a", 3, [2 * MINUTE])
        state.the_clock_is_set(-60 * DAY)
        state.the_daemon_is_killed(back=True)
        state.life_goes_on([10 * MINUTE, 10 * MINUTE])
        assert len(verdicts(state)) == 1 + 3 + 1
        state.life_goes_on([OVER_AN_HOUR])
        assert len(verdicts(state)) == 1 + 3 + 2


# ---- several processes ----


def test_two_processes_never_ask_for_one_line_at_once() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong={"a"}, daemon=False)
        state.a_process_is_held_at_a_point(Point.CLAIMED, NAMES, SECOND)
        state.somebody_polls((), deliver=True)
        state.two_daemons_start_at_once()
        state.life_goes_on([SECOND])
        assert failed(state) == 0
        state.what_was_held_goes_on()
        state.two_poll_at_once((), ("a",))
        assert failed(state) == 1


def test_two_who_saw_a_line_due_do_not_both_claim_it() -> None:
    with replay() as state:
        state.some_pins_are_wrong_from_the_start(wrong={"a"}, daemon=False)
        state.a_process_is_held_at_a_point(Point.CLAIMING, NAMES, SECOND)
        state.somebody_polls(("a",), deliver=True)
        state.what_was_held_goes_on()
        assert failed(state) == 1
