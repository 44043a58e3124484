"""What the buttons do: the command line's own verbs, on the daemon's own ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from vmwatch import wishes, wording
from vmwatch.errors import UsageError
from vmwatch.ledger import Ledger, MessageView
from vmwatch.models import FOREVER, HOUR, Act, Instant, Reason
from vmwatch.texts import N_, Texts

LONGEST_ID = 18
"""Digits of a delivery's id."""

Form = Mapping[str, str]

DONE = {
    "asked": N_("%(of)s: will be polled now"),
    "not-polled": N_("%(of)s: not polled, %(why)s"),
    "paused": N_("%(of)s: paused until somebody resumes it"),
    "paused-an-hour": N_("%(of)s: paused for an hour"),
    "resumed": N_("%(of)s: goes on, with a poll now"),
    "retried": N_("To be sent again: %(of)s"),
    "nothing-to-retry": N_("There is nothing to be sent again"),
    "tested": N_("A test alert is on its way to %(of)s"),
    "acknowledged": N_("%(of)s: the voicemail is acknowledged"),
    "snoozed-an-hour": N_("%(of)s: the voicemail is snoozed for an hour"),
    "not-new": N_("%(of)s: the voicemail is no longer new"),
}
"""What is said once it is done, by what the address then holds."""


@dataclass(frozen=True, slots=True)
class Done:
    what: str
    of: str = ""
    why: str = ""

    @property
    def query(self) -> str:
        return urlencode({"told": self.what} | {key: word for key in ("of", "why") if (word := getattr(self, key))})


def said(query: Mapping[str, str], t: Texts) -> str:
    """The sentence for what was done. Total: the query may come from anybody."""
    words = DONE.get(query.get("told", ""))
    if words is None:
        return ""
    reason = query.get("why", "")
    why = t.gettext(wording.REASONS[Reason(reason)]) if reason in frozenset(Reason) else ""
    return t.gettext(words) % {"of": wording.one_line(query.get("of", "")), "why": why}


class Hands:
    """`ring` has the daemon look at once."""

    def __init__(self, ledger: Ledger, now: Callable[[], Instant], ring: Callable[[], None]) -> None:
        self._ledger = ledger
        self._now = now
        self._ring = ring

    def by_path(self) -> Mapping[str, Callable[[Form], Awaitable[Done]]]:
        """Each raises UsageError where the form names nothing that there is, and LedgerError."""
        return {
            "/act/poll": self._poll,
            "/act/pause": self._pause,
            "/act/pause-an-hour": self._pause_an_hour,
            "/act/resume": self._resume,
            "/act/retry": self._retry,
            "/act/test": self._test,
            "/act/ack": self._ack,
            "/act/snooze-an-hour": self._snooze_an_hour,
        }

    async def do(self, act: Act, message: MessageView) -> None:
        """What a person wants done about one message. Raises LedgerError."""
        if act is Act.ACK:
            await wishes.ack(self._ledger, [message], self._now)
        else:
            await wishes.snooze(self._ledger, [message], self._now() + HOUR, self._now)

    def ring(self) -> None:
        self._ring()

    async def _poll(self, form: Form) -> Done:
        line = await wishes.find_line(self._ledger, _named(form, "line"))
        obstacle = await wishes.poll(self._ledger, line, self._now)
        return Done("asked", line.name) if obstacle is None else Done("not-polled", line.name, obstacle.value)

    async def _pause(self, form: Form) -> Done:
        return Done("paused", (await wishes.pause(self._ledger, _named(form, "line"), FOREVER, self._now)).name)

    async def _pause_an_hour(self, form: Form) -> Done:
        until = self._now() + HOUR
        return Done("paused-an-hour", (await wishes.pause(self._ledger, _named(form, "line"), until, self._now)).name)

    async def _resume(self, form: Form) -> Done:
        return Done("resumed", (await wishes.resume(self._ledger, _named(form, "line"), self._now)).name)

    async def _retry(self, form: Form) -> Done:
        """One delivery, or all that are dead."""
        wanted = _named(form, "delivery")
        if wanted == "all":
            done = await wishes.retry(self._ledger, (), self._now)
        else:
            done = await self._ledger.outbox.retry((_id(wanted),), self._now())
        return Done("retried", str(len(done))) if done else Done("nothing-to-retry")

    async def _test(self, form: Form) -> Done:
        wanted = _named(form, "channel")
        names = tuple(view.standing.name for view in await self._ledger.outbox.channels())
        if wanted not in names:
            raise UsageError(f"there is no such channel; the channels are {', '.join(names) or 'none'}")
        await wishes.test(self._ledger, (wanted,), self._now)
        return Done("tested", wanted)

    async def _ack(self, form: Form) -> Done:
        return await self._seen_to(Act.ACK, form, "acknowledged")

    async def _snooze_an_hour(self, form: Form) -> Done:
        return await self._seen_to(Act.SNOOZE, form, "snoozed-an-hour")

    async def _seen_to(self, act: Act, form: Form, done: str) -> Done:
        number, _, id_ = _named(form, "message").partition(" ")
        for message in await self._ledger.messages.with_id(id_):
            if message.number == number:
                if message.left_new_at is not None:
                    return Done("not-new", message.line)
                await self.do(act, message)
                return Done(done, message.line)
        raise UsageError("there is no such message")


def _named(form: Form, key: str) -> str:
    found = form.get(key, "")
    if not found:
        raise UsageError(f"the form names no {key}")
    return found


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_ID):
        raise UsageError("there is no such delivery")
    return int(text)
