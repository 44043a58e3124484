"""Each guard that a promise rests on, taken away in a copy of vmwatch: a quick test must fail for it.

A guard's text is found word for word, or the test says that it has moved: then take it over from the module anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
COPIED = ("vmwatch", "tests", "pyproject.toml")
_ERROR = re.compile(r"^(?:E|    \|) .*(?:assert |Error: ).*$", re.MULTILINE)
TESTS_FAILED = 1
"""pytest's exit status; other ones say that the tests could not be run."""


@dataclass(frozen=True)
class Guard:
    """`text` in `module` is replaced by `without`; then `bites`, a test, must fail."""

    module: str
    text: str
    without: str
    bites: str


GUARDS = {
    "the attempt is written before the fetch": Guard(
        "vmwatch/ledger/lines.py",
        "UPDATE line SET attempt_at = :attempt_at, last_poll_at",
        "UPDATE line SET last_poll_at",
        "tests/test_poll.py::test_a_lost_attempt_with_an_untrusted_pin_waits_some_minutes",
    ),
    "nothing is fetched without a claim": Guard(
        "vmwatch/poll.py",
        "won = await self._ledger.lines.take(choose, notes.values(), now, unsettled=unsettled, settled=settled)",
        "won = choose(await self._ledger.lines.standings())",
        "tests/test_pin_safety.py::test_a_crash_right_after_the_request_went_out_spends_one_of_two_tries",
    ),
    "fact and owed alerts are one transaction": Guard(
        "vmwatch/ledger/lines.py",
        """
            for alert in decision.alerts:
                await owe(transaction, alert, now)
            for silenced in decision.silenced:
                await keep_silenced(transaction, silenced, now)
            await following.begin(transaction, decision.after.number, decision.followed, now)

        return await self._unless_superseded(work)
""",
        """
        async def owed(transaction: Transaction) -> None:
            for alert in decision.alerts:
                await owe(transaction, alert, now)

        return await self._unless_superseded(work) and await self._unless_superseded(owed)
""",
        "tests/test_ledger_store.py::test_fact_alert_and_deliveries_are_kept_together_or_not_at_all",
    ),
    "sent is marked after the send": Guard(
        "vmwatch/deliver.py",
        """
        receipt = await self._attempt(delivery, channel)
        self._tally.delivered(channel.name, receipt.outcome)
        settlement, following = await self._settle(claimed, receipt, followed, go_on=go_on)
""",
        """
        from vmwatch.models import Outcome

        settlement, following = await self._settle(claimed, Receipt(Outcome.SENT), followed, go_on=go_on)
        await self._attempt(delivery, channel)
""",
        "tests/test_deliver.py::test_stopping_lets_a_send_end_and_leaves_what_hangs_for_the_next_start",
    ),
    "a channel that hides callers shows no name": Guard(
        "vmwatch/wording/voicemails.py",
        "found == voicemail.caller or not style.is_open",
        "found == voicemail.caller",
        "tests/test_voice.py::test_nothing_leaks_past_privacy",
    ),
    "what was heard while it was sent is cleared": Guard(
        "vmwatch/ledger/outbox.py",
        "                await shown.clear_if_over(transaction, settlement.delivery.id, now)\n",
        "                pass\n",
        "tests/test_ledger_shown.py::test_what_was_heard_while_it_was_sent_is_cleared_as_soon_as_that_is_noted",
    ),
    "a clearing is owed once": Guard(
        "vmwatch/ledger/shown.py",
        "            await transaction.run(_TAKE, id=delivery)\n",
        "",
        "tests/test_ledger_shown.py::test_it_is_cleared_once",
    ),
    "a server that clears nothing is no trouble": Guard(
        "vmwatch/ntfy.py",
        "if status in _CAN_T_CLEAR and status not in _LATER:",
        "if False:",
        "tests/test_in_place.py::test_a_server_that_was_taken_back_to_an_old_one_costs_nothing",
    ),
    "a template is judged before it runs": Guard(
        "vmwatch/templates.py",
        "        _judge(_environment().parse(source))\n",
        "",
        "tests/test_voice.py::test_what_a_template_may_not_do_is_refused_before_it_is_done[9]",
    ),
    "a template that fails costs its wording alone": Guard(
        "vmwatch/voice.py",
        "        except TemplateRefusedError as error:\n            return Said(built_in, str(error))",
        "        except ZeroDivisionError as error:\n            return Said(built_in, str(error))",
        "tests/test_deliver.py::test_a_template_that_fails_costs_its_wording_and_is_told_once",
    ),
    "one lock is held around each transaction": Guard(
        "vmwatch/ledger/sqlite.py",
        "async with self._one_at_a_time:\n            try:",
        "if self._one_at_a_time:\n            try:",
        "tests/test_ledger_store.py::test_a_transaction_that_waits_lets_no_other_between_its_halves",
    ),
    "a row's version is checked against resume": Guard(
        "vmwatch/ledger/lines.py",
        "UPDATE line SET {assigned(_CHANGED)}, version = version + 1 WHERE number = :number AND version = :version",
        "UPDATE line SET {assigned(_CHANGED)}, version = version + 1 WHERE number = :number",
        "tests/test_ledger_lines.py::test_a_persons_word_during_a_poll_is_not_written_over",
    ),
    "a redirect is refused": Guard(
        "vmwatch/telecomx.py",
        "allow_redirects=False",
        "allow_redirects=True",
        "tests/test_telecomx.py::test_an_odd_answer_is_one_trouble_and_one_login",
    ),
    "a body has a cap": Guard(
        "vmwatch/telecomx.py",
        "if len(body) > MAX_BODY:",
        "if not MAX_BODY:",
        "tests/test_telecomx.py::test_an_endless_answer_costs_little_time_and_memory",
    ),
    "what is logged is redacted": Guard(
        "vmwatch/logs.py",
        "told = visible(self._redaction(super().format(record)))",
        "told = visible(super().format(record))",
        "tests/test_redaction.py::test_a_secret_that_is_logged_by_mistake_does_not_come_out",
    ),
    "no foreign exception, which has the PIN, leaves the client": Guard(
        "vmwatch/telecomx.py",
        """
            trouble = _translated(error, attempt)
        # Outside the except: `from None` would hide the foreign exception, but keep it and the PIN in its text.
        raise trouble
""",
        """
            raise _translated(error, attempt) from None
""",
        "tests/test_telecomx.py::test_a_broken_answer_is_one_trouble_and_one_request",
    ),
    "what another site sends presses no button": Guard(
        "vmwatch/web/door.py",
        "if not _is_own_page(request, web.names):",
        "if False:",
        "tests/test_page_buttons.py::test_what_another_site_sends_is_refused_even_with_the_key",
    ),
    "a button's form knows what only our page knows": Guard(
        "vmwatch/web/page.py",
        'if not self._session.is_form_key(form.get("form_key", ""), request.cookie):',
        "if False:",
        "tests/test_page_buttons.py::test_only_our_own_page_s_forms_are_followed",
    ),
    "looking at a link does nothing": Guard(
        "vmwatch/web/taps.py",
        'stage is Stage.WAITS and request.method == "POST"',
        "stage is Stage.WAITS",
        "tests/test_taps.py::test_looking_shows_what_the_button_will_do_and_changes_nothing",
    ),
    "a link is signed by us": Guard(
        "vmwatch/links.py",
        'if not hmac.compare_digest(signature.encode(errors="replace"), right.encode()):',
        "if not right:",
        "tests/test_taps.py::test_what_is_not_whole_ours_and_for_this_does_nothing",
    ),
    "a link's time is over": Guard(
        "vmwatch/links.py",
        "    if now >= until:\n        return Refused.EXPIRED\n",
        "",
        "tests/test_taps.py::test_a_link_whose_time_is_over_does_nothing",
    ),
    "what comes from outside is escaped": Guard(
        "vmwatch/web/drawing.py",
        "autoescape=True",
        "autoescape=False",
        "tests/test_page.py::test_hostile_names_stay_text",
    ),
    "what was not judged yet is not claimed": Guard(
        "vmwatch/ledger/outbox.py",
        "OR waits = '{ASKED}' OR :judged LIKE",
        "OR waits IS NULL OR :judged LIKE",
        "tests/test_ledger_holding.py"
        "::test_what_is_owed_after_it_was_said_what_is_held_is_not_claimed_before_it_is_judged_too[sqlite]",
    ),
    "what is held is not sent": Guard(
        "vmwatch/ledger/outbox.py",
        "next_attempt_at <= :now AND {_UNCLAIMED} AND {_FREE}",
        "next_attempt_at <= :now AND {_UNCLAIMED}",
        "tests/test_ledger_holding.py::test_what_is_held_is_pending_and_says_why_and_is_not_claimed[sqlite]",
    ),
    "a digest tells of nothing that was seen to": Guard(
        "vmwatch/ledger/holding.py",
        "AND m.left_new_at IS NULL AND m.acked_at IS NULL AND (m.snoozed_until",
        "AND m.left_new_at IS NULL AND (m.snoozed_until",
        "tests/test_ledger_holding.py::test_where_nothing_is_still_new_nothing_is_sent[sqlite]",
    ),
    "a reminder that waits goes when the message is heard": Guard(
        "vmwatch/ledger/following.py",
        "    await transaction.many(_WITHDRAW_MENTIONS, named)\n",
        "",
        "tests/test_follow.py::test_a_reminder_that_waits_is_withdrawn_when_the_message_is_heard",
    ),
    "what is about to be told again is not reminded of": Guard(
        "vmwatch/ledger/following.py",
        "(again.state = 'pending' OR again.sent_at BETWEEN :at AND :now)",
        "again.sent_at < 0",
        "tests/test_night_reminders.py::test_what_falls_due_in_quiet_hours_is_told_at_their_end_once_if_it_is_still_new"
        "[a reminder at the very end of it]",
    ),
    "the end of a snooze is held by quiet hours": Guard(
        "vmwatch/ledger/holding.py",
        "(d.waits IS NULL OR d.waits <> 'asked')",
        "(d.waits IS NULL OR d.waits NOT IN ('asked', 'snoozed'))",
        "tests/test_night_reminders.py::test_what_falls_due_in_quiet_hours_is_told_at_their_end_once_if_it_is_still_new"
        "[announced in it and snoozed in it]",
    ),
    "another process's steps are left to it": Guard(
        "vmwatch/decide/follow_ups.py",
        "if follow_up.due is Due.SNOOZE or now - follow_up.at >= patience:",
        "if patience >= 0:",
        "tests/test_decide_follow_ups.py::test_what_another_process_s_steps_are_for_is_left_to_it_for_a_while"
        "[due_at2-30-by2-True]",
    ),
    "who is muted is not announced": Guard(
        "vmwatch/decide/reading.py",
        "told = [one for one in treated if one[1].fate is Fate.ANNOUNCED]",
        "told = treated",
        "tests/test_callers.py::test_the_book_of_the_moment_says_whose_messages_are_muted",
    ),
    "who is muted is not reminded of": Guard(
        "vmwatch/ledger/alerts.py",
        "await _name_messages(transaction, _MENTIONED, alert_id, alert)",
        "await _name_messages(transaction, _ANNOUNCED, alert_id, alert)",
        "tests/test_callers.py::test_what_is_not_announced_is_in_the_outbox_with_the_reason_and_counted_nowhere",
    ),
}


def copied(folder: Path) -> Path:
    """vmwatch and its tests, of which pytest takes the copy: its `pythonpath` stands before what is installed."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    return folder


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """pytest in a copy of vmwatch; nothing of this run's own settings reaches it."""
    options = ("-q", "-x", "-n", "0", "--tb=short", "-p", "no:randomly", "-p", "no:cacheprovider")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "VMWATCH_"))}
    own = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *tests]
    return subprocess.run(command, cwd=folder, env=kept | own, capture_output=True, text=True, timeout=150, check=False)


def test_with_every_guard_in_its_place_these_tests_pass(tmp_path: Path) -> None:
    ran = run(copied(tmp_path), *{guard.bites for guard in GUARDS.values()})
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"\b[0-9]+ passed", ran.stdout)


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_without_the_guard_a_quick_test_fails(guard: Guard, tmp_path: Path) -> None:
    module = copied(tmp_path) / guard.module
    text = module.read_text()
    assert text.count(guard.text) == 1, f"the guard has moved: look for it in {guard.module}"
    module.write_text(text.replace(guard.text, guard.without))
    ran = run(tmp_path, guard.bites)
    assert ran.returncode == TESTS_FAILED, ran.stdout
    assert f"FAILED {guard.bites}" in ran.stdout
    print(*_ERROR.findall(ran.stdout)[:1], sep="\n")
