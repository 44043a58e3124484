"""A vmwatch and its people as a model: any order of steps, over the real ledger, and what must hold after each.

The process may die at any point between two commits, or between sending and noting it. Time, the far ends of the
channels, the mailbox and the people are the model's; the ledger and the judgement are vmwatch's own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from ledgers import LEASE, REFUSED, SENT, UNKNOWN, adopted, line, opened
from values import NOW, NUMBER, rules, voicemail

from vmwatch import decide
from vmwatch.hours import clock, window
from vmwatch.ledger import Ledger
from vmwatch.models import HOUR, MINUTE, Delivery, Kind, Mailbox, Moment, Receipt, Recipient
from vmwatch.settings import Budget, Callers, DeliveryPolicy, Escalation, Reminder

UTC = ZoneInfo("UTC")
BY_NIGHT = {
    "phone": decide.Patience(UTC, quiet=(window("22:00-07:00"),), budget=Budget(2, HOUR)),
    "mail": decide.Patience(UTC, digest=clock("08:00"), quiet=(window("00:00-09:00"),)),
}
BY_DAY = {
    "phone": decide.Patience(UTC, quiet=(window("06:00-20:00"),)),
    "mail": decide.Patience(UTC),
}
EVERYONE = tuple(Recipient(name, ("voicemail",)) for name in BY_NIGHT)
CALLERS = {"sales": Callers(numbers=("+4570*",), mute=True)}
RULES = replace(rules(EVERYONE, callers=CALLERS, first_poll="each"), everyone=EVERYONE, follows=True)
STEPS = decide.Steps(
    number=NUMBER,
    label="Home",
    remind=(Reminder(after=30 * MINUTE), Reminder(at=8 * 60)),
    escalate=(Escalation(after="2h", channels=("mail",)),),
    own=tuple(BY_NIGHT),
    everyone=EVERYONE,
    second_look=2 * MINUTE,
)
POLICY = DeliveryPolicy.model_validate({"retry": {"give_up_after": "90d"}})
TELLS = frozenset({Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_SUMMARY, *decide.DIGESTED})

_ABOUT = """
SELECT m.id, m.left_new_at IS NOT NULL, m.acked_at IS NOT NULL FROM message m WHERE m.alert_id = :alert
OR EXISTS (SELECT 1 FROM mention o WHERE o.alert_id = :alert AND o.number = m.number AND o.message = m.id)
"""
_DELIVERIES = """
SELECT id, alert_id, channel, state, next_attempt_at, claimed_until, waits, attempts, last_error FROM delivery
"""
_DIGESTS_OF = """
SELECT a.id FROM alert a JOIN delivery d ON d.alert_id = a.id
WHERE a.kind = 'voicemail.digest' AND a.created_at = :now AND d.version = 0
"""
_UNDER_WAY = "SELECT alert_id, waits FROM delivery WHERE id = :id"


class DeathError(Exception):
    """The process died here."""


Step = tuple[str, Any]

_place = st.integers(0, 5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([MINUTE, 10 * MINUTE, HOUR, 5 * HOUR])),
        st.tuples(st.just("call"), st.booleans()),
        st.tuples(st.just("hear"), _place),
        st.tuples(st.just("glitch"), st.sampled_from([1, 2])),
        st.tuples(st.just("ack"), _place),
        st.tuples(st.just("snooze"), _place),
        st.tuples(st.just("retry"), _place),
        st.tuples(st.just("reload"), st.booleans()),
        st.tuples(st.just("set_clock"), st.sampled_from([-5 * HOUR, -HOUR, HOUR, 9 * HOUR])),
        *[st.tuples(st.just("round"), st.tuples(st.none(), st.sampled_from([SENT, SENT, SENT, REFUSED, UNKNOWN])))] * 3,
        st.tuples(st.just("round"), st.tuples(st.integers(0, 12), st.just(SENT))),
    ),
    min_size=10,
    max_size=40,
)


@dataclass
class Life:
    """What happened so far, beside what the ledger knows."""

    ledger: Ledger
    reminds: decide.Steps = STEPS
    now: int = NOW
    patience: dict[str, decide.Patience] = field(default_factory=lambda: dict(BY_NIGHT))
    box: dict[str, str] = field(default_factory=dict)
    """What is new at the operator, with who called."""
    calls: int = 0
    glitches: int = 0
    """So many polls more show an empty mailbox."""
    dies_after: int | None = None
    """So many points more between two effects."""
    muted: set[str] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    """Deliveries that a person wanted sent."""
    acked: set[str] = field(default_factory=set)
    arrived: Counter[int] = field(default_factory=Counter)
    excused: Counter[int] = field(default_factory=Counter)
    """How often a delivery may have arrived without its being noted."""
    told: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in BY_NIGHT})

    # -- what people, time and machines do --

    async def wait(self, span: int) -> None:
        self.now += span

    async def call(self, is_muted: bool) -> None:
        self.calls += 1
        id_ = f"m{self.calls}"
        self.box[id_] = "+4570123456" if is_muted else "+4520304050"
        if is_muted:
            self.muted.add(id_)

    async def hear(self, place: int) -> None:
        if self.box:
            del self.box[self._at(place)]

    async def glitch(self, polls: int) -> None:
        self.glitches = polls

    async def ack(self, place: int) -> None:
        if self.box:
            await self.ledger.messages.ack([(NUMBER, self._at(place))], self.now)
            self.acked.add(self._at(place))

    async def snooze(self, place: int) -> None:
        if self.box:
            await self.ledger.messages.snooze([(NUMBER, self._at(place))], self.now + HOUR, self.now)
            self.acked.discard(self._at(place))

    async def retry(self, place: int) -> None:
        if ids := [row[0] for row in await self._deliveries()]:
            self.asked |= set(await self.ledger.outbox.retry([ids[place % len(ids)]], self.now))

    async def reload(self, by_night: bool) -> None:
        self.patience = dict(BY_NIGHT if by_night else BY_DAY)
        await self.ledger.configure(lambda stored, _: stored, tuple(BY_NIGHT), self.now)
        await self.ledger.follow_ups.reckon([NUMBER] if self.reminds.are_any else [], self.now)

    async def set_clock(self, by: int) -> None:
        assert await self.ledger.shift(by)
        self.now += by
        await self.ledger.follow_ups.reckon([NUMBER] if self.reminds.are_any else [], self.now)
        await self.ledger.holding.judge_anew(self.now)

    def _at(self, place: int) -> str:
        return list(self.box)[place % len(self.box)]

    # -- what vmwatch does --

    async def round(self, how: tuple[int | None, Receipt]) -> None:
        self.dies_after, receipt = how
        await self._follow()
        for name in BY_NIGHT:
            await self._drain(name, receipt)
        await self._poll()
        self.dies_after = None

    async def _follow(self) -> None:
        await self.ledger.follow_ups.follow(
            NUMBER, self.now, lambda unheard: decide.followed_up(unheard, self.reminds, self.now, UTC)
        )
        self._may_die()

    async def _poll(self) -> None:
        box, self.glitches = {} if self.glitches else self.box, max(self.glitches - 1, 0)
        messages = tuple(voicemail(id_, caller=caller) for id_, caller in box.items())
        decision = decide.after_poll(
            await line(self.ledger),
            await self.ledger.lines.operator(),
            Mailbox(messages, new=len(messages)),
            await self.ledger.lines.known(NUMBER),
            Moment(self.now),
            RULES,
        )
        assert await self.ledger.lines.record(decision, self.now)
        self._may_die()

    async def _drain(self, name: str, receipt: Receipt) -> None:
        while True:
            judged = await self._sort_out(name)
            delivery = await self.ledger.outbox.claim(name, self.now, LEASE, judged=judged)
            self._may_die()
            if delivery is None:
                return
            await self._send(delivery, receipt)
            if receipt is not SENT:
                return

    async def _send(self, delivery: Delivery, receipt: Receipt) -> None:
        if receipt is not REFUSED:
            await self._arrive(delivery)
            self.excused[delivery.id] += 1  # until it is noted
            self._may_die()
        standing = await self.ledger.outbox.channel(delivery.channel)
        settlement = decide.after_delivery(delivery, receipt, standing, Moment(self.now), POLICY, EVERYONE)
        assert await self.ledger.outbox.settle(settlement, self.now)
        if receipt is SENT:
            self.excused[delivery.id] -= 1
        self._may_die()

    async def _sort_out(self, name: str) -> list[int]:
        """What may be sent now."""
        while True:
            patience = self.patience[name]
            queue = await self.ledger.holding.queue(name, self.now, patience.budget.span if patience.budget else 0)
            held = decide.holds(patience, queue, self.now)
            if not held and not queue.released:
                return [arrival.id for arrival in queue.fresh]
            await self.ledger.holding.sort_out(name, held, queue.released, self.now)
            await self._check_digests()
            self._may_die()

    def _may_die(self) -> None:
        if self.dies_after is not None:
            self.dies_after -= 1
            if self.dies_after < 0:
                raise DeathError

    # -- what must hold --

    async def _arrive(self, delivery: Delivery) -> None:
        """At the far end of a channel."""
        ((alert_id, waits),) = await self.ledger._engine.read(_UNDER_WAY, id=delivery.id)
        self.arrived[delivery.id] += 1
        if delivery.alert.kind not in TELLS:
            return
        about = await self.ledger._engine.read(_ABOUT, alert=alert_id)
        ids = {id_ for id_, _, _ in about}
        if ids & self.muted:
            assert delivery.id in self.asked, "nobody is told of who is muted, unless a person wants it"
            return
        assert any(not left for _, left, _ in about), "nobody is told of what was heard"
        if delivery.alert.kind not in (Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_SUMMARY):
            assert any(not left and not acked for _, left, acked in about), "nobody is told again of what was seen to"
        assert waits in (None, "asked"), "nothing that waits is sent"
        self.told[delivery.channel] |= ids

    async def _check_digests(self) -> None:
        """As they are made."""
        for (alert_id,) in await self.ledger._engine.read(_DIGESTS_OF, now=self.now):
            about = await self.ledger._engine.read(_ABOUT, alert=alert_id)
            assert about, "a digest of nothing"
            assert not any(left or acked for _, left, acked in about), "a digest tells what is still new"

    async def check(self) -> None:
        for id_, _, _, state, next_attempt_at, _, waits, _, last_error in await self._deliveries():
            assert (state == "pending") == (next_attempt_at is not None), "what is pending is attempted some day"
            assert self.arrived[id_] <= 1 + self.excused[id_], "sent twice, and noted the first time"
            if (last_error or "").startswith("in digest"):
                assert self.arrived[id_] <= self.excused[id_], "told, and told in a digest"
            assert state != "sent" or self.arrived[id_], "noted as sent, and never was"
            assert waits not in ("muted", "too_short") or (state == "withdrawn" and not self.arrived[id_])

    async def check_end(self) -> None:
        """After days in which nothing happens and everything works."""
        assert [row for row in await self._deliveries() if row[3] == "pending"] == [], "something waits for ever"
        owed = set(self.box) - self.acked - self.muted
        for name, told in self.told.items():
            assert owed <= told, f"not told on {name}: {sorted(owed - told)}"

    async def _deliveries(self) -> list[Any]:
        return list(await self.ledger._engine.read(_DELIVERIES))


async def _lived(life: Life, todo: Iterable[Step]) -> bool:
    """Whether it lived through these steps; `todo` is an iterator, so the next life goes on where this one died."""
    for name, what in todo:
        act: Callable[[Any], Awaitable[None]] = getattr(life, name)
        try:
            await act(what)
        except DeathError:
            return False
        await life.check()
    return True


def ending() -> list[Step]:
    return [step for _ in range(24) for step in (("wait", 5 * HOUR), ("round", (None, SENT)))]


async def live(todo: list[Step], reminds: decide.Steps = STEPS) -> Life:
    """All of it, however often the process dies; and then some quiet days."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "vmwatch.db"
        async with opened(store) as ledger:
            await adopted(ledger, channels=tuple(BY_NIGHT))
        life: Life | None = None
        going = iter([*todo, ("round", (None, SENT)), *ending()])
        while True:
            async with opened(store, role="daemon") as ledger:
                life = Life(ledger, reminds) if life is None else replace(life, ledger=ledger, dies_after=None)
                await ledger.become_daemon("0", life.now)
                await ledger.follow_ups.reckon([NUMBER] if reminds.are_any else [], life.now)
                if await _lived(life, going):
                    await life.check_end()
                    return life


def lived(todo: list[Step], reminds: decide.Steps = STEPS) -> Life:
    return asyncio.run(live(todo, reminds))
