"""The book that the model of PIN safety keeps of each line: what people did, what was heard, and what must follow.

It never looks into vmwatch. It is told of attempts and of commits, and counts in the simulated operator's own log.

**Held always**, per line:

1. Per human action (an edited PIN that was noticed, a `resume`) at most one failed login; two only where the verdict
   of the first was lost on the way: a timeout, a broken connection, a 502 or 504, a crash before it was noted, a
   refusal that nobody can read. Never three. A failed login is one that the operator judged and counted (422, 404 pin).
2. A locked line is asked no earlier than its back-off says (1 h doubling to 24 h), except once after a `resume`; a
   rejected one not before a human action; a paused one not before its pause is over.
3. Never two requests at once for one line, never two for one attempt. Nothing is ever sent but the list call, and
   with no other PIN than the one that the ledger was last brought in line with.
4. What people say lasts, whatever was under way: a pause is there until they end it, and what the old PIN came to is
   not held against (or in favour of) the new one.

**The exact limits**, and all of them:

- A PIN that worked before is tried on through lost verdicts. So a failed login does not count where its PIN was
  *trusted* (a mailbox was read with it; since then no edit, lock-out, rejection, or refusal that nobody can read) and
  its own verdict was lost: a timeout, a broken connection, a 502 or 504, a crash. The first verdict that is heard ends
  this, and from it on the rule above holds. The book judges by a trust of its own, made from the operator's log.
- An answer by which somebody says that no PIN was judged is taken at its word, though the simulator counts a login
  before it gives one: 500, 503, 429, a redirect, and a 200 that is no mailbox.
- A clock set forward while no daemon runs (or one that dies before its next heartbeat) shortens every wait: nobody can
  know. The same forward step is forgiven here, once, and not more.
- A claim is good for ten seconds longer than a request may take. A process that is stopped for longer between its
  claim and its request (SIGSTOP) is not modelled.
- One configuration file. Two, used by turns on one store, edit the PIN each time.
- PINs whose tags differ: one changed PIN in 256 is not noticed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from vmwatch.models import HOUR, Duration, Instant, Reason
from vmwatch.simulator import Odd, Simulator, Verdict

LOCKOUT, LONGEST_LOCKOUT = HOUR, 24 * HOUR
OPERATOR_LOCKS_FOR: Duration = 5 * HOUR
"""Long enough for a locked line to be asked, in vain, two or three times."""
NOBODYS_PIN = "99999"

COUNTED = (Verdict.PIN_INVALID, Verdict.NO_PIN)
HIDING = frozenset({Odd.HANG, Odd.DROP, Odd.RESET, Odd.BAD_GATEWAY, Odd.GATEWAY_TIMEOUT})
UNCLEAR = frozenset({Odd.EMPTY_403, Odd.EMPTY_404, Odd.EMPTY_422, Odd.UNKNOWN_4XX})
UNJUDGED = frozenset(
    {Odd.INTERNAL_ERROR, Odd.UNAVAILABLE_SECONDS, Odd.UNAVAILABLE_DATE, Odd.UNAVAILABLE_BARE, Odd.HTML, Odd.CUT}
    | {Odd.THROTTLED_SECONDS, Odd.THROTTLED_DATE, Odd.THROTTLED_BARE, Odd.REDIRECT, Odd.EMPTY, Odd.WRONG_SHAPE}
)
LOST = frozenset({Reason.TIMEOUT, Reason.CONNECTION_LOST, Reason.GATEWAY_ERROR})

SEEN: Counter[str] = Counter()
"""What the model met, over all its runs: proof that it is not idle."""


class Operator(Simulator):
    """The simulated operator, which also remembers what it answered in an odd form, and who else logged in."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        super().__init__(now=now, lock_for=OPERATOR_LOCKS_FOR)
        self.given: defaultdict[str, dict[int, Odd]] = defaultdict(dict)
        self.foreign: defaultdict[str, set[int]] = defaultdict(set)
        """Both by the login's place in the line's log."""

    def _next_odd(self, number: str) -> Odd | None:
        what = super()._next_odd(number)
        if what is not None:
            self.given[number][len(self.log[number]) - 1] = what
        return what

    def somebody_fails(self, number: str) -> None:
        self.foreign[number].add(len(self.log[number]))
        self.login(number, NOBODYS_PIN, "NEW")


class Mortal(Protocol):
    """All that the book knows of a process."""

    dead: bool


@dataclass(eq=False)
class Attempt:
    """One attempt of some process on one line, from its claim on."""

    process: Mortal
    action: int
    edits: int
    trusted: bool
    place: int | None = None
    """The place in the operator's log that its login takes; None until the request is made."""
    over: bool = False
    trouble: Reason | None = None
    recorded: bool = False

    @property
    def under_way(self) -> bool:
        return not self.over and not self.process.dead


Failed: TypeAlias = tuple[int, Attempt]
"""A failed login's place in the operator's log, and whose it was."""


@dataclass(eq=False)
class Line:
    name: str
    number: str
    pins: list[str]
    operator: Operator
    configured: int = 0
    """Which of its PINs the configuration has."""
    present: bool = True
    """Whether the configuration has the line at all."""
    adopted: int | None = None
    """The PIN that the ledger was last brought in line with."""
    actions: int = 0
    edits: int = 0
    trusted: bool = False
    doubtful: bool = False
    rejected: bool = False
    unread: int = 0
    """Attempts since the last verdict that was heard."""
    lockouts: int = 0
    not_before: float = 0
    """The steady time before which its lock-out's back-off forbids to ask."""
    paused_until: float = 0
    attempts: list[Attempt] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    # ---- what people did ----

    def edited(self, pin: int) -> None:
        if self.adopted is not None and pin != self.adopted:
            self._acted_upon()
            self.edits += 1
            self.trusted = False
        self.adopted = pin

    def resumed(self) -> None:
        self._acted_upon()
        self.paused_until = self.not_before = 0

    def _acted_upon(self) -> None:
        self.actions += 1
        if self.unread >= 2:
            self.lockouts = 0
        self.unread = 0
        self.rejected = self.doubtful = False

    # ---- what processes do ----

    def begun(self, process: Mortal, pin: str, steady: Instant) -> Attempt:
        """An attempt begins: may it?"""
        SEEN["attempts"] += 1
        for forbidden, why in (
            (self.adopted is None or pin != self.pins[self.adopted], "with another PIN than the ledger waits for"),
            (steady < self.not_before, f"{self.not_before - steady} ms before its back-off is over"),
            (steady < self.paused_until, "though it is paused"),
            (self.rejected, "though it waits for a person"),
            (any(other.under_way for other in self.attempts), "while another request is under way"),
        ):
            if forbidden:
                self.violations.append(f"{self.name} is asked {why}")
        self.unread += 1
        attempt = Attempt(process, self.actions, self.edits, self.trusted and not self.doubtful)
        self.attempts.append(attempt)
        if self.lockouts:
            self.not_before = steady + self._back_off()
        return attempt

    def noted(self, attempt: Attempt, steady: Instant) -> None:
        """What came of an attempt was committed."""
        attempt.recorded = True
        if attempt.place is None or attempt.place >= len(self.operator.log[self.number]):
            return  # It never reached the operator.
        if attempt.edits != self.edits:
            self.violations.append(f"{self.name}: what an old PIN came to is noted of the new one")
        else:
            self._heard(self.operator.log[self.number][attempt.place].verdict, attempt, steady)

    def _heard(self, verdict: Verdict, attempt: Attempt, steady: Instant) -> None:
        odd = self._odd(attempt.place)
        if odd in UNJUDGED:
            self.unread -= 1
        if odd in UNCLEAR or odd in HIDING or attempt.trouble in LOST:
            self.trusted = self.trusted and not self.doubtful
            self.doubtful = self.doubtful or odd in UNCLEAR
        elif odd is not None:
            return
        elif verdict is Verdict.OK:
            self.trusted, self.doubtful = True, False
        elif verdict is Verdict.LOCKED:
            self.trusted = False
        elif verdict in COUNTED:
            self.trusted, self.rejected = False, True
        if odd is None and attempt.trouble not in LOST and verdict is not Verdict.BLACKLISTED:
            self._back_off_follows(verdict, steady)

    def _back_off_follows(self, verdict: Verdict, steady: Instant) -> None:
        self.unread = 0
        if verdict is Verdict.LOCKED:
            SEEN["locked answers"] += 1
            self.lockouts += 1
            self.not_before = steady + self._back_off()
        else:
            self.lockouts, self.not_before = 0, 0

    def _back_off(self) -> Duration:
        return min(LOCKOUT << (self.lockouts - 1), LONGEST_LOCKOUT)

    # ---- what must hold ----

    def check(self) -> None:
        assert not self.violations, self.violations
        assert self.operator.most_at_once(self.number) <= 1
        mine = list(self._logins())
        assert len({id(attempt) for _, attempt in mine}) == len(mine), f"{self.name}: one attempt, two logins"
        for action, failed in self._failed().items():
            told = f"{self.name}, after human action {action}: {len(failed)} failed logins"
            assert len(failed) <= 2, told
            assert len(failed) < 2 or self._was_lost(*failed[0]), f"{told}, though the first was heard"

    def _logins(self) -> Iterator[Failed]:
        """Every login in the operator's log that was not somebody else's, and whose it was."""
        sent = [attempt for attempt in self.attempts if attempt.place is not None]
        for place in range(len(self.operator.log[self.number])):
            if place not in self.operator.foreign[self.number]:
                yield place, [attempt for attempt in sent if (attempt.place or 0) <= place][-1]

    def _judged_wrong(self) -> Iterator[Failed]:
        log = self.operator.log[self.number]
        for place, attempt in self._logins():
            if log[place].verdict in COUNTED and self._odd(place) not in UNJUDGED:
                yield place, attempt

    def _failed(self) -> dict[int, list[Failed]]:
        """What counts as a failed login, by human action."""
        failed: defaultdict[int, list[Failed]] = defaultdict(list)
        for place, attempt in self._judged_wrong():
            if not self._is_excused(place, attempt):
                failed[attempt.action].append((place, attempt))
        return failed

    def _is_excused(self, place: int, attempt: Attempt) -> bool:
        """The limit: a trusted PIN is tried on through lost verdicts."""
        return attempt.trusted and self._was_hidden(place, attempt)

    def _was_hidden(self, place: int, attempt: Attempt) -> bool:
        """Whether its verdict was lost to a timeout, a broken connection, a gateway or a crash."""
        odd = self._odd(place)
        # Without an odd answer, a timeout is this computer's own being slow.
        return not attempt.recorded or odd in HIDING or (odd is None and attempt.trouble is Reason.TIMEOUT)

    def _was_lost(self, place: int, attempt: Attempt) -> bool:
        return self._was_hidden(place, attempt) or self._odd(place) in UNCLEAR

    def _odd(self, place: int | None) -> Odd | None:
        return None if place is None else self.operator.given[self.number].get(place)

    def count(self) -> None:
        """What this run is to be remembered by."""
        SEEN["failed logins excused"] += sum(self._is_excused(*failed) for failed in self._judged_wrong())
        for failed in self._failed().values():
            SEEN["failed logins"] += len(failed)
            SEEN["second failed logins, the first lost"] += len(failed) == 2
