"""Rounds of polling: which lines are due, how many there is room for, and their claims. `attempt` makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from vmwatch import decide
from vmwatch.attempt import Attempts, Login
from vmwatch.errors import Trouble
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Choose, Ledger, QuietNote
from vmwatch.models import SECOND, Claim, Duration, Instant, LineState, OperatorStanding, Reason, Standing
from vmwatch.settings import Settings
from vmwatch.telecomx import Telecomx

LEASE_MARGIN: Duration = 10 * SECOND
"""How much longer than a request may take a claim is good for."""
NOTES_KEPT: Duration = 300 * SECOND
"""A quiet poll's note waits this long, at most, for another line's commit to take it along."""
NOTES_KEPT_SHARED: Duration = 4 * SECOND
"""Less than LEASE_MARGIN: another process would take an attempt without a note, whose claim ran out, for lost."""
NO_LIMIT = 10**9
PAUSE_S = 0.1
"""From a round that began something to the next one: what falls due in between shares its commit."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """One configuration's part in polling. A round keeps the one it began with."""

    operator: Telecomx
    concurrency: int
    lease: Duration
    logins: Mapping[str, Login]
    """By number."""

    def fits(self, standing: Standing) -> bool:
        """Whether the line is to be asked with this very PIN; the ledger may be a configuration ahead or behind."""
        login = self.logins.get(standing.number)
        return login is not None and login.pin_tag == standing.pin_tag


class Poller:
    """Polls the lines of one configuration. Every attempt is a task of `tasks`, whose owner ends them.

    `ring` is called when there is more to do before the next heartbeat.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        attempts: Attempts,
        tasks: asyncio.TaskGroup,
        ring: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._attempts = attempts
        self._tasks = tasks
        self._ring = ring
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._unsettled: set[str] = set()
        self._notes: dict[str, QuietNote] = {}
        self._crowded = False
        self._alarm: asyncio.TimerHandle | None = None
        attempts.rules_now = self._rules_now

    def use(self, settings: Settings, operator: Telecomx) -> None:
        """Poll the lines of these settings from the next round on; attempts under way end with the old ones."""
        self._plan = _Plan(
            operator=operator,
            concurrency=settings.operator.concurrency,
            lease=settings.operator.timeout + LEASE_MARGIN,
            logins=_logins(settings, self._ledger.salt),
        )

    async def round(self, only: frozenset[str] | None = None) -> int:
        """Begin to poll what is due (of `only`, by number), as far as there is room; returns how many lines.

        Raises LedgerError; what could not be written down was not begun.
        """
        now, plan = self._clock.now(), self._plan
        room, unsettled_room = await self._room(now)
        if room <= 0 and not self._notes_are_old(now):
            return 0
        picked: list[Standing] = []
        notes, busy = dict(self._notes), frozenset(self._under_way)  # as they are now: choosing may be another thread's

        def choose(due: Sequence[Standing]) -> list[Claim]:
            picked[:] = _picked([line for line in due if _may_start(line, only, plan, busy)], room, unsettled_room)
            # By the time that it is now: a claim that was made by the round's would end too soon after a slow look.
            made_at = self._clock.now()
            return [_claimed(standing, made_at, plan) for standing in picked if standing.attempt_at is None]

        await self._begin(choose, notes, now, plan, self._most(unsettled_room, only), self._most(room, only))
        self._crowded = room > 0 and len(picked) >= min(room, unsettled_room)
        for standing in picked:
            if standing.attempt_at is not None:
                self._start(standing, self._mourn(standing, plan.logins[standing.number]))
        return len(picked)

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way.values())

    async def flush(self) -> None:
        """Write down what quiet polls left to note. Raises LedgerError."""
        if self._notes:
            await self._begin(lambda _: (), dict(self._notes), self._clock.now(), self._plan, 0, 0)

    async def stop(self, patience_s: float) -> None:
        """Let attempts under way come to their verdicts, then cut off what still hangs."""
        self._sleep_on()
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=patience_s)
        for task in self._under_way.values():
            task.cancel()
        await self.idle()

    async def _begin(
        self, choose: Choose, notes: Mapping[str, QuietNote], now: Instant, plan: _Plan, unsettled: int, settled: int
    ) -> None:
        # The attempt is written down before it is made: a crash loop cannot spend a second one.
        won = await self._ledger.lines.take(choose, notes.values(), now, unsettled=unsettled, settled=settled)
        self._notes = {number: note for number, note in self._notes.items() if notes.get(number) is not note}
        for claim in won:
            self._start(claim.before, self._attempt(claim, plan))
        if won:
            self._wake(0)

    def _start(self, standing: Standing, work: Coroutine[None, None, None]) -> None:
        number = standing.number
        task = self._tasks.create_task(work, name=f"poll {standing.name}")
        self._under_way[number] = task
        if standing.state is not LineState.OK:
            self._unsettled.add(number)
        task.add_done_callback(lambda _: self._ended(number))

    def _ended(self, number: str) -> None:
        del self._under_way[number]
        self._unsettled.discard(number)
        # A round costs as much as many polls, so it waits until there is room for many.
        if self._crowded and len(self._under_way) <= self._plan.concurrency // 2:
            self._ring()

    async def _attempt(self, claim: Claim, plan: _Plan) -> None:
        note = await self._attempts.make(claim, plan.logins[claim.number], plan.operator)
        if note is not None:
            self._notes[claim.number] = note

    def _rules_now(self, number: str) -> decide.Rules | None:
        login = self._plan.logins.get(number)
        return login.rules if login else None

    async def _mourn(self, standing: Standing, login: Login) -> None:
        """A claim ran out and nobody wrote down what came of it: whoever made the attempt died."""
        await self._attempts.judge(standing, Trouble(Reason.ATTEMPT_LOST), login)
        self._ring()

    async def _room(self, now: Instant) -> tuple[int, int]:
        """How many attempts may begin, and how many of those on lines that were not read well the last time.

        None where nothing is due, and while the operator blocks this machine's address.
        """
        operator, due_at = await self._ledger.lines.outlook(now)
        self._attempts.block_is_open = operator.failures > 0
        if due_at is None or due_at > now or decide.is_blocked(operator, now):
            self._crowded = False
            if due_at is not None and due_at > now:
                self._wake(due_at - now)
            return 0, 0
        room, unsettled_room = self._shares(operator)
        self._crowded = room <= 0
        return room, unsettled_room

    def _wake(self, wait: Duration) -> None:
        """Have the next round when the next line falls due, but not at once."""
        self._sleep_on()
        self._alarm = asyncio.get_running_loop().call_later(max(wait / SECOND, PAUSE_S), self._ring)

    def _sleep_on(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _shares(self, operator: OperatorStanding) -> tuple[int, int]:
        """Lines that were not read well the last time share half of the room, so that ones that hang never hold up
        the others. Where the operator blocked this machine's address before, one line asks for all.
        """
        if operator.failures:
            alone = 0 if self._under_way else 1
            return alone, alone
        concurrency = self._plan.concurrency
        room = concurrency - len(self._under_way)
        return room, min(room, max(1, concurrency // 2) - len(self._unsettled))

    def _most(self, room: int, only: frozenset[str] | None) -> int:
        """How many lines to ask the ledger for: those under way may be among them."""
        if room <= 0:
            return 0
        return room + len(self._under_way) if only is None else NO_LIMIT

    def _notes_are_old(self, now: Instant) -> bool:
        kept = NOTES_KEPT_SHARED if self._ledger.shared else NOTES_KEPT
        return any(now - note.last_success_at > kept for note in self._notes.values())


def _may_start(standing: Standing, only: frozenset[str] | None, plan: _Plan, busy: frozenset[str]) -> bool:
    number = standing.number
    return plan.fits(standing) and number not in busy and (only is None or number in only)


def _claimed(standing: Standing, now: Instant, plan: _Plan) -> Claim:
    return decide.claimed(standing, now, plan.logins[standing.number].rules, plan.lease)


def _picked(due: Sequence[Standing], room: int, unsettled_room: int) -> list[Standing]:
    unsettled = [line for line in due if line.state is not LineState.OK][: max(unsettled_room, 0)]
    settled = [line for line in due if line.state is LineState.OK][: max(room, 0) - len(unsettled)]
    return unsettled + settled


def _logins(settings: Settings, salt: bytes) -> dict[str, Login]:
    rules = decide.rules_by_line(settings)
    return {
        line.number: Login(line.pin.get_secret_value(), decide.pin_tag(settings, salt, line), rules[name])
        for name, line in settings.lines.items()
    }
