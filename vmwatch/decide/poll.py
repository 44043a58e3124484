"""What one poll comes to. The operator's error table [api:errors] is the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from vmwatch.book import EMPTY, Book
from vmwatch.decide.line import is_blocked, moved
from vmwatch.decide.reading import absent, disagreement, voicemail_alerts
from vmwatch.decide.rules import Rules, line_alert, wanting
from vmwatch.errors import Trouble
from vmwatch.models import (
    DAY,
    Alert,
    Decision,
    Duration,
    Instant,
    Kind,
    LineState,
    Mailbox,
    Moment,
    OperatorStanding,
    Reason,
    Remembered,
    Standing,
)
from vmwatch.pins import unspent
from vmwatch.settings import Backoff

DOUBTS_ALLOWED = 2
"""Logins that may have failed unread before a person is asked; three is the usual lock-out threshold elsewhere."""
LOST_VERDICT_WAIT = Backoff.model_validate({"initial": "5m", "max": "5m"})
UNCLEAR_REFUSAL_WAIT = Backoff.model_validate({"initial": "1h", "max": "1h"})
LOOK_AGAIN: Duration = DAY
"""For a line that the operator has not enabled or does not know."""
BLACKLIST_BACKOFF = Backoff.model_validate({"initial": "4h", "max": "24h"})
LONGEST_WAIT: Duration = DAY
"""The most that a Retry-After is obeyed for."""

HIDES_VERDICT = frozenset({Reason.TIMEOUT, Reason.CONNECTION_LOST, Reason.GATEWAY_ERROR, Reason.ATTEMPT_LOST})
"""Troubles after which the operator may have counted a failed login without our hearing of it."""

VERDICTS = frozenset({Reason.PIN_REJECTED, Reason.PIN_LOCKED, Reason.NOT_ENABLED, Reason.UNKNOWN_NUMBER})
"""What the operator can only have said of a line to an address that it does not block."""

_ALERT_OF_STATE = {
    LineState.LOCKED: Kind.LINE_LOCKED,
    LineState.REJECTED: Kind.LINE_REJECTED,
    LineState.NOT_ENABLED: Kind.LINE_NOT_ENABLED,
    LineState.UNKNOWN_NUMBER: Kind.LINE_UNKNOWN_NUMBER,
}


@dataclass(frozen=True, slots=True)
class _Case:
    """One poll being judged."""

    standing: Standing
    operator: OperatorStanding
    moment: Moment
    rules: Rules
    book: Book

    @property
    def now(self) -> Instant:
        return self.moment.now

    @property
    def locked(self) -> bool:
        return self.standing.state is LineState.LOCKED

    def wait(self, backoff: Backoff, failures: int = 1) -> Duration:
        return self.rules.wait(backoff, failures, self.moment)

    def lockout(self, failures: int) -> Duration:
        return self.wait(self.rules.polling.lockout_backoff, failures)


def after_poll(
    standing: Standing,
    operator: OperatorStanding,
    answer: Mailbox | Trouble,
    known: Mapping[str, Remembered],
    moment: Moment,
    rules: Rules,
    book: Book = EMPTY,
) -> Decision:
    """What an answer, or the trouble that came instead, means for a line and for those who are to be told.

    `book` tells the groups of callers who is in the contacts, as these are at this moment.
    """
    case = _Case(standing, operator, moment, rules, book)
    if not isinstance(answer, Trouble):
        return _with_block_lifted(_read(case, answer, known), case)
    decision = _TROUBLES.get(answer.reason, _transient)(case, answer)
    return _with_block_lifted(decision, case) if answer.reason in VERDICTS else decision


# ---- the mailbox was read ----


def _read(case: _Case, mailbox: Mailbox, known: Mapping[str, Remembered]) -> Decision:
    fresh = tuple(message for message in mailbox.messages if message.id not in known)
    missed, left = absent(mailbox, known)
    first = case.standing.first_read_at is None
    returned = tuple(message.id for message in mailbox.messages if _is_back(known.get(message.id)))
    alerts, silenced = voicemail_alerts(case.standing, fresh, case.rules, first=first, book=case.book)
    return Decision(
        reason=Reason.FIRST_SIGHT if first else Reason.NEW_MESSAGES if fresh else Reason.NOTHING_NEW,
        before=case.standing,
        after=_standing_after_reading(case, mailbox),
        fresh=fresh,
        seen=tuple(message for message in mailbox.messages if message.id in known),
        missed=missed,
        left=left,
        alerts=_recovered(case) + alerts,
        silenced=silenced,
        followed=tuple(id_ for alert in alerts for id_ in alert.messages) + returned if case.rules.follows else (),
        hear_of_left=wanting(case.rules.everyone, Kind.VOICEMAIL_HEARD) if left else (),
    )


def _is_back(remembered: Remembered | None) -> bool:
    """Whether it was thought to have been heard."""
    return remembered is not None and remembered.left_new_at is not None


def _standing_after_reading(case: _Case, mailbox: Mailbox) -> Standing:
    now, rules = case.now, case.rules
    standing = moved(case.standing, LineState.OK, Reason.READ, now, detail=disagreement(mailbox))
    return replace(
        standing,
        trusted=True,
        spent_tags=unspent(standing.spent_tags, standing.pin_tag),
        doubts=0,
        failures=0,
        failing_since=None,
        alerted=None,
        attempt_at=None,
        asked_at=None,
        claimed_until=None,
        last_success_at=now,
        first_read_at=standing.first_read_at or now,
        new=mailbox.new,
        old=mailbox.old,
        saved=mailbox.saved,
        next_poll_at=rules.grid.following(standing.number, now),
    )


def _recovered(case: _Case) -> tuple[Alert, ...]:
    standing = case.standing
    if standing.alerted is None:
        return ()
    since = standing.since if case.locked else standing.failing_since or standing.since
    return (line_alert(standing, case.rules.recipients, Kind.LINE_RECOVERED, standing.reason, since),)


# ---- the operator said no, in words that can be read ----


def _verdict(case: _Case, state: LineState, reason: Reason, wait: Duration | None, failures: int) -> Decision:
    """A state that people hear of once, when it begins.

    A rejected line is polled only because a person allowed a try: how that ends they always hear.
    """
    kind = _ALERT_OF_STATE[state]
    after = _ended(case, state, reason, wait, failures=failures, failing_since=None, alerted=kind)
    told = case.standing.alerted is kind and state is not LineState.REJECTED
    alert = line_alert(after, case.rules.recipients, kind, reason, after.since, after.next_poll_at)
    return Decision(reason, case.standing, after, alerts=() if told else (alert,))


def _rejected(case: _Case, trouble: Trouble) -> Decision:
    return _stopped(case, trouble.reason)


def _stopped(case: _Case, reason: Reason) -> Decision:
    decision = _verdict(case, LineState.REJECTED, reason, None, case.standing.failures + 1)
    return replace(decision, after=replace(decision.after, trusted=False))


def _locked(case: _Case, trouble: Trouble) -> Decision:
    failures = case.standing.failures + 1 if case.locked else 1
    reason = Reason.STILL_LOCKED if case.locked else Reason.PIN_LOCKED
    decision = _verdict(case, LineState.LOCKED, reason, case.lockout(failures), failures)
    # Somebody's logins failed: the PIN that worked before may be the wrong one now.
    return replace(decision, after=replace(decision.after, trusted=False))


def _not_enabled(case: _Case, trouble: Trouble) -> Decision:
    return _verdict(case, LineState.NOT_ENABLED, trouble.reason, LOOK_AGAIN, case.standing.failures + 1)


def _unknown_number(case: _Case, trouble: Trouble) -> Decision:
    return _verdict(case, LineState.UNKNOWN_NUMBER, trouble.reason, LOOK_AGAIN, case.standing.failures + 1)


def _ended(
    case: _Case, state: LineState, reason: Reason, wait: Duration | None, detail: str = "", **changes: object
) -> Standing:
    """The line after an attempt that brought trouble and whose claim is over."""
    next_poll_at = None if wait is None else case.now + wait
    standing = moved(case.standing, state, reason, case.now, detail=detail, next_poll_at=next_poll_at)
    return replace(standing, attempt_at=None, asked_at=None, claimed_until=None, **changes)  # type: ignore[arg-type]


# ---- the operator blocks this machine's address, which concerns every line ----


def _blacklisted(case: _Case, trouble: Trouble) -> Decision:
    blocked_until = case.operator.blocked_until
    if blocked_until is not None and is_blocked(case.operator, case.now):
        return Decision(trouble.reason, case.standing, _until(case, trouble, blocked_until))
    failures = case.operator.failures + 1
    block = replace(
        case.operator,
        blocked_until=case.now + case.wait(BLACKLIST_BACKOFF, failures),
        blocked_since=case.operator.blocked_since or case.now,
        failures=failures,
    )
    after = _until(case, trouble, block.blocked_until or case.now)
    alerts = (_block_alert(case, Kind.LINE_UNREACHABLE, block),) if failures == 1 else ()
    return Decision(trouble.reason, case.standing, after, operator=block, alerts=alerts)


def _until(case: _Case, trouble: Trouble, until: Instant) -> Standing:
    wait = max(until - case.now, _least_wait(case, trouble))
    return _ended(case, _state_in_trouble(case), trouble.reason, wait)


def _with_block_lifted(decision: Decision, case: _Case) -> Decision:
    """An answer about a line shows that this machine's address is no longer blocked."""
    if not case.operator.failures or is_blocked(case.operator, case.now):
        return decision
    lifted = replace(case.operator, blocked_until=None, blocked_since=None, failures=0)
    alert = _block_alert(case, Kind.LINE_RECOVERED, case.operator)
    return replace(decision, operator=lifted, alerts=(*decision.alerts, alert))


def _block_alert(case: _Case, kind: Kind, block: OperatorStanding) -> Alert:
    return Alert(
        kind=kind,
        channels=wanting(case.rules.everyone, kind),
        reason=Reason.BLACKLISTED,
        since=block.blocked_since,
        next_poll_at=block.blocked_until,
    )


# ---- trouble that may be over next time ----


def _unclear(case: _Case, trouble: Trouble) -> Decision:
    """A refusal that nobody can read may be a failed login: one slow retry, then a person is asked."""
    return _doubted(case, trouble, UNCLEAR_REFUSAL_WAIT, Reason.REFUSED_TWICE)


def _transient(case: _Case, trouble: Trouble) -> Decision:
    at_risk = not case.standing.trusted or case.standing.doubts > 0
    if at_risk and trouble.reason in HIDES_VERDICT:
        return _doubted(case, trouble, LOST_VERDICT_WAIT, Reason.VERDICT_LOST_TWICE)
    return _failing(case, trouble, _wait(case, trouble), case.standing.doubts)


def _doubted(case: _Case, trouble: Trouble, backoff: Backoff, reason_to_stop: Reason) -> Decision:
    """A login that may have failed unread: once is answered by a slow retry, twice by waiting for a person."""
    doubts = case.standing.doubts + 1
    wait = max(case.wait(backoff), _least_wait(case, trouble))
    if doubts < DOUBTS_ALLOWED:
        return _failing(case, trouble, wait, doubts)
    stopped = _stopped(case, reason_to_stop)
    return replace(stopped, after=replace(stopped.after, locked_until=case.now + wait)) if case.locked else stopped


def _wait(case: _Case, trouble: Trouble) -> Duration:
    return max(_least_wait(case, trouble), _own_wait(case, trouble))


def _own_wait(case: _Case, trouble: Trouble) -> Duration:
    if trouble.wait:  # "Now", or a date that has passed, tells nothing; it would make a login a millisecond.
        return min(trouble.wait, LONGEST_WAIT)
    if trouble.reason is Reason.ATTEMPT_LOST and not case.standing.failures:
        return 0  # We died, the operator did not: once, that is no reason to wait.
    return case.wait(case.rules.polling.error_backoff, 1 if case.locked else case.standing.failures + 1)


def _least_wait(case: _Case, trouble: Trouble) -> Duration:
    """A locked line keeps its back-off, unless the attempt never reached the operator."""
    if not case.locked or trouble.reason is Reason.NO_CONNECTION:
        return 0
    return case.lockout(max(case.standing.failures, 1))


def _failing(case: _Case, trouble: Trouble, wait: Duration, doubts: int) -> Decision:
    standing = case.standing
    after = _ended(
        case,
        _state_in_trouble(case),
        trouble.reason,
        wait,
        detail=trouble.detail,
        doubts=doubts,
        failures=standing.failures if case.locked else standing.failures + 1,
        failing_since=standing.failing_since or case.now,
    )
    return _told_if_it_lasts(case, after, wait)


def _state_in_trouble(case: _Case) -> LineState:
    return LineState.LOCKED if case.locked else LineState.FAILING


def _told_if_it_lasts(case: _Case, after: Standing, wait: Duration) -> Decision:
    """Transient trouble is worth one alert once it has lasted, or is known to last, for `unreachable_after`."""
    began = after.failing_since or case.now
    lasts = max(case.now - began, wait) >= case.rules.polling.unreachable_after
    # A rejection that a person ended is no longer what keeps the line from being read.
    if not lasts or after.alerted not in (None, Kind.LINE_REJECTED):
        return Decision(after.reason, case.standing, after)
    kind = Kind.LINE_UNREACHABLE
    alert = line_alert(after, case.rules.recipients, kind, after.reason, began, after.next_poll_at)
    return Decision(after.reason, case.standing, replace(after, alerted=kind), alerts=(alert,))


_TROUBLES: Mapping[Reason, Callable[[_Case, Trouble], Decision]] = {
    Reason.PIN_REJECTED: _rejected,
    Reason.PIN_LOCKED: _locked,
    Reason.NOT_ENABLED: _not_enabled,
    Reason.UNKNOWN_NUMBER: _unknown_number,
    Reason.BLACKLISTED: _blacklisted,
    Reason.REFUSAL_UNCLEAR: _unclear,
}
"""Everything that is not named here is transient."""
