"""A line's standing between polls: as configured, claimed, asked for, paused, resumed, shown."""

from __future__ import annotations

from dataclasses import replace

from vmwatch.decide.rules import Rules, line_alert
from vmwatch.models import (
    FOREVER,
    Alert,
    Claim,
    Duration,
    Instant,
    Kind,
    LineState,
    OperatorStanding,
    Reason,
    Standing,
)
from vmwatch.pins import UNKNOWN, spent, tag
from vmwatch.settings import Line, Settings

OWN_STATES = frozenset({LineState.LOCKED, LineState.REJECTED, LineState.NOT_ENABLED, LineState.UNKNOWN_NUMBER})
"""What the operator said of this very line; it stays in view whatever holds for all of them."""


def wanted(settings: Settings, salt: bytes, now: Instant) -> tuple[Standing, ...]:
    """Every configured line as it would stand if its number had never been seen before."""
    return tuple(
        Standing(
            number=line.number,
            name=name,
            label=settings.label_of(name),
            enabled=line.enabled,
            pin_tag=pin_tag(settings, salt, line),
            state=LineState.WAITING,
            reason=Reason.NOT_READ_YET,
            since=now,
            next_poll_at=now,
        )
        for name, line in settings.lines.items()
    )


def pin_tag(settings: Settings, salt: bytes, line: Line) -> int:
    """Of the PIN that is configured, as `pins.tag` has it."""
    return tag(salt, settings.operator.base_url, line.number, line.pin.get_secret_value())


def configured(
    standing: Standing | None, wanted: Standing, now: Instant, interval: Duration, *, held: bool = False
) -> Standing:
    """A line as the configuration now has it (`wanted`), keeping all that is known of its number.

    A changed PIN is a person's word: it ends a rejection and allows one try. A lock-out it does not shorten.
    It is no word as long as another process lives that has the PIN which the ledger knows (`held`), unless the
    operator refused that one.
    """
    if standing is None:
        return wanted
    named = replace(standing, name=wanted.name, label=wanted.label, enabled=wanted.enabled, configured=True)
    if named.state is LineState.OK and named.next_poll_at is not None:
        named = replace(named, next_poll_at=min(named.next_poll_at, now + interval))
    if standing.pin_tag == wanted.pin_tag or (held and standing.state is not LineState.REJECTED):
        return named
    if standing.pin_tag == UNKNOWN:
        # Perhaps another PIN, perhaps the one that was rejected: nobody said so, so it is no person's word.
        return replace(named, pin_tag=wanted.pin_tag, trusted=False)
    return _with_changed_pin(named, wanted.pin_tag, now)


def _with_changed_pin(standing: Standing, pin_tag: int, now: Instant) -> Standing:
    # The attempt under way, if there is one, was made with the old PIN: its verdict says nothing of this one.
    renewed = replace(standing, pin_tag=pin_tag, trusted=False, doubts=0, attempt_at=None, asked_at=None)
    if _had_its_tries(standing):
        renewed = replace(renewed, spent_tags=spent(standing.spent_tags, standing.pin_tag))
    if str(pin_tag) in standing.spent_tags.split():
        return _with_spent_pin(renewed, now)
    if standing.state is LineState.REJECTED:
        due = max(now, standing.locked_until or now)
        return moved(renewed, LineState.WAITING, Reason.PIN_CHANGED, now, next_poll_at=due, failures=0, detail="")
    if standing.doubts and standing.state is not LineState.LOCKED:
        return replace(renewed, next_poll_at=now)
    return renewed


def _with_spent_pin(standing: Standing, now: Instant) -> Standing:
    """Another configuration brought it back, or a person did: two of them must not take turns in trying."""
    locked_until = standing.next_poll_at if standing.state is LineState.LOCKED else standing.locked_until
    held = replace(standing, locked_until=locked_until, next_poll_at=None, detail="", alerted=Kind.LINE_REJECTED)
    return moved(held, LineState.REJECTED, Reason.PIN_REJECTED, now)


def stopped(before: Standing | None, after: Standing, rules: Rules) -> tuple[Alert, ...]:
    """What is owed where a line was configured with a PIN that is not tried again, and so is no longer watched."""
    if before is None or before.state is LineState.REJECTED or after.state is not LineState.REJECTED:
        return ()
    return (line_alert(after, rules.recipients, Kind.LINE_REJECTED, after.reason, after.since),)


def _had_its_tries(standing: Standing) -> bool:
    """Whether the PIN that the line has would be tried too often, were it to come back as a changed one."""
    open_ = standing.attempt_at is not None and not standing.trusted
    return standing.state is LineState.REJECTED or standing.doubts > 0 or open_


def restored(standing: Standing | None, replaced: Standing) -> Standing:
    """A line of a store that was restored: `standing` in the backup, `replaced` in the store that it replaces.

    What was learned of logins last counts: that is the replaced store's, unless the backup is the newer one.
    A rejection is never forgotten.
    """
    first_read_at = None if standing is None else standing.first_read_at
    if standing is None or replaced.state is LineState.REJECTED or _polled(replaced) >= _polled(standing):
        return replace(replaced, first_read_at=first_read_at, asked_at=None, claimed_until=None)
    return standing


def _polled(standing: Standing) -> Instant:
    return standing.last_poll_at or 0


def claimed(standing: Standing, now: Instant, rules: Rules, lease: Duration) -> Claim:
    """The attempt written down before it is made: the next one is moved forward before anything can blow up."""
    settled = standing.state is LineState.OK and standing.trusted and not standing.doubts
    following = rules.grid.following(standing.number, now)
    return Claim(standing, now, following if settled else now + lease, now + lease)


def released(standing: Standing) -> Standing:
    """The line without a claim whose attempt no longer counts (its PIN was changed meanwhile)."""
    return replace(standing, claimed_until=None)


def obstacle(standing: Standing, operator: OperatorStanding, now: Instant) -> Reason | None:
    """Why a person's "poll now" must not be followed, or None. Only `resume` overrides these."""
    if not standing.enabled:
        return Reason.DISABLED
    if is_paused(standing, now):
        return Reason.PAUSED
    if standing.state is LineState.REJECTED:
        return standing.reason
    if is_blocked(operator, now):
        return Reason.BLACKLISTED
    waits = standing.next_poll_at is not None and standing.next_poll_at > now
    locked = standing.state is LineState.LOCKED or (standing.locked_until or 0) > now
    guarded = locked or standing.doubts or standing.reason is Reason.THROTTLED
    return standing.reason if waits and guarded else None


def asked(standing: Standing, now: Instant) -> Standing:
    """A person's "poll now"; ask `obstacle` first."""
    return replace(standing, next_poll_at=now, asked_at=now)


def paused(standing: Standing, until: Instant, now: Instant) -> Standing:
    return replace(standing, paused_until=until, paused_at=now)


def resumed(standing: Standing, now: Instant) -> Standing:
    """A person's word: the pause ends, a rejected PIN is forgiven, one try is made now, whatever the back-off.

    An attempt that nobody will tell the end of any more is forgiven with the others; one under way still counts.
    """
    attempt_at = standing.attempt_at if standing.claimed_until is not None and standing.claimed_until > now else None
    free = replace(
        standing,
        paused_until=None,
        paused_at=None,
        locked_until=None,
        doubts=0,
        next_poll_at=now,
        attempt_at=attempt_at,
    )
    if standing.state is LineState.REJECTED:
        return moved(free, LineState.WAITING, Reason.RESUMED, now, trusted=False, failures=0, detail="")
    return free


def is_paused(standing: Standing, now: Instant) -> bool:
    return standing.paused_until is not None and standing.paused_until > now


def is_blocked(operator: OperatorStanding, now: Instant) -> bool:
    return operator.blocked_until is not None and operator.blocked_until > now


def moved(standing: Standing, state: LineState, reason: Reason, now: Instant, **changes: object) -> Standing:
    """The standing in another state; `since` moves only with the state."""
    since = standing.since if standing.state is state else now
    return replace(standing, state=state, reason=reason, since=since, **changes)  # type: ignore[arg-type]


def shown(standing: Standing, operator: OperatorStanding, now: Instant) -> Standing:
    """The line as people see it: with the pause or the operator's block that lies over its own state."""
    if not standing.enabled:
        return replace(standing, state=LineState.PAUSED, reason=Reason.DISABLED, next_poll_at=None)
    if is_paused(standing, now):
        return _shown_paused(standing)
    if is_blocked(operator, now) and standing.state not in OWN_STATES:
        return _shown_blocked(standing, operator)
    return standing


def _shown_paused(standing: Standing) -> Standing:
    return replace(
        standing,
        state=LineState.PAUSED,
        reason=Reason.PAUSED,
        since=standing.paused_at or standing.since,
        next_poll_at=None if standing.paused_until == FOREVER else standing.paused_until,
    )


def _shown_blocked(standing: Standing, operator: OperatorStanding) -> Standing:
    return replace(
        standing,
        state=LineState.FAILING,
        reason=Reason.BLACKLISTED,
        since=operator.blocked_since or standing.since,
        next_poll_at=operator.blocked_until,
    )
