"""One claimed attempt on one line: ask the operator, judge, record. It does; `decide` decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import blake2b

from vmwatch import decide, reading
from vmwatch.book import EMPTY, Book
from vmwatch.errors import LedgerError, Trouble
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger, QuietNote
from vmwatch.models import Claim, Decision, LineState, Mailbox, Reason, Standing
from vmwatch.tally import Tally
from vmwatch.telecomx import Telecomx

log = logging.getLogger(__name__)

RECORD_AGAIN_S = 1.0
"""What was learned from the operator is kept until the ledger takes it: a verdict is not to be paid for twice."""

Observer = Callable[[Decision], None]


@dataclass(frozen=True, slots=True)
class Login:
    """What it takes to ask for one line, and the rules its answers are judged by."""

    pin: str
    pin_tag: int
    """As `pins.tag` has it: a line whose standing has another one waits for another PIN."""
    rules: decide.Rules
    """Those of the configuration that the attempt began with."""

    def __repr__(self) -> str:
        return "Login(<secret>)"


class Attempts:
    """Makes attempts; remembers of each line the answer last read, as a digest, so that the same is not read twice."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        observe: Observer,
        tally: Tally | None = None,
        book: Callable[[], Book] = lambda: EMPTY,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._observe = observe
        self._tally = tally or Tally()
        self._book = book
        self._answered: dict[str, bytes] = {}
        self.rules_now: Callable[[str], decide.Rules | None] = lambda _: None
        """A line's rules by the configuration of the moment, which may have changed while an attempt was under way."""
        self.block_is_open = False
        """The operator blocked this machine's address: even the same answer again is then worth recording."""

    async def make(self, claim: Claim, login: Login, operator: Telecomx) -> QuietNote | None:
        """Ask once, and record what comes of it; a quiet answer is returned as the note that is owed instead."""
        self._tally.begun(claim.attempt_at - (claim.before.next_poll_at or claim.attempt_at))
        try:
            body = await self._timed(operator.fetch(claim.number, login.pin))
        except Trouble as trouble:
            await self.judge(claim.standing, trouble, login)
            return None
        digest = blake2b(body, digest_size=16).digest()
        if self._is_quiet(claim.before, digest):
            log.debug("%s: %s", claim.before.name, Reason.NOTHING_NEW, extra=_facts(claim.before, Reason.NOTHING_NEW))
            now = self._clock.now()
            self._tally.quiet(claim.number, now)
            return QuietNote(claim.number, claim.attempt_at, now)
        self._answered.pop(claim.number, None)
        decision = await self.judge(claim.standing, _read(body), login)
        if decision is not None and decision.repeatable:
            self._answered[claim.number] = digest
        return None

    async def _timed(self, asking: Awaitable[bytes]) -> bytes:
        began = self._clock.steady()
        try:
            return await asking
        finally:
            self._tally.poll_time.add(self._clock.steady() - began)

    def _is_quiet(self, line: Standing, digest: bytes) -> bool:
        """Whether this is the last answer again, and of a kind that changes nothing when it is repeated."""
        settled = line.state is LineState.OK and line.trusted and not line.doubts and not self.block_is_open
        return settled and line.asked_at is None and self._answered.get(line.number) == digest

    async def judge(self, claim: Standing, answer: Mailbox | Trouble, login: Login) -> Decision | None:
        """Record what an answer comes to. Whoever changed the line meanwhile was first: it is judged anew.

        None if the attempt no longer counts: its claim ran out, or its PIN was changed.
        """
        level = logging.ERROR
        while True:
            try:
                return await self._judged(claim, answer, login)
            except LedgerError as error:  # A database that is away can't even be read.
                log.log(level, "%s: can't be recorded yet: %s", claim.name, error)
                level = logging.DEBUG  # It may last for hours.
                await asyncio.sleep(RECORD_AGAIN_S)

    async def _judged(self, claim: Standing, answer: Mailbox | Trouble, login: Login) -> Decision | None:
        standing: Standing | None = claim
        while standing is not None and standing.attempt_at == claim.attempt_at:
            decision = await self._decide(standing, answer, login)
            if await self._ledger.lines.record(decision, self._clock.now()):
                self._tell(decision)
                return decision
            standing = await self._ledger.lines.standing(claim.number)
        if standing is not None and standing.claimed_until == claim.claimed_until:
            await self._ledger.lines.change(decide.released(standing))
        return None

    async def _decide(self, standing: Standing, answer: Mailbox | Trouble, login: Login) -> Decision:
        operator = await self._ledger.lines.operator()
        known = {} if isinstance(answer, Trouble) else await self._ledger.lines.known(standing.number)
        rules = self.rules_now(standing.number) or login.rules
        if self._ledger.shared:  # another process may have steps for the line
            rules = replace(rules, follows=True)
        book = self._book() if rules.callers else EMPTY  # who has no groups need not wait for it
        return decide.after_poll(standing, operator, answer, known, self._clock.moment(), rules, book)

    def _tell(self, decision: Decision) -> None:
        changed = decision.before.state is not decision.after.state or decision.fresh or decision.left
        level = logging.INFO if changed or decision.alerts else logging.DEBUG
        log.log(
            level, "%s: %s", decision.after.name, _sentence(decision), extra=_facts(decision.after, decision.reason)
        )
        self._tally.judged(decision)
        self._observe(decision)


def _read(body: bytes) -> Mailbox | Trouble:
    try:
        return reading.mailbox(body)
    except Trouble as trouble:
        return trouble


def _sentence(decision: Decision) -> str:
    """`ok -> failing, timeout (no answer in 20 s)`, `ok, new_messages: 2 new, 1 no longer new`."""
    before, after = decision.before.state, decision.after.state
    state = after.value if before is after else f"{before} -> {after}"
    counts = {"new": len(decision.fresh), "no longer new": len(decision.left)}
    counted = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    detail = f" ({decision.after.detail})" if decision.after.detail else ""
    return f"{state}, {decision.reason}{counted and ': ' + counted}{detail}"


def _facts(standing: Standing, reason: Reason) -> dict[str, str]:
    return {"line": standing.name, "reason": reason.value}
